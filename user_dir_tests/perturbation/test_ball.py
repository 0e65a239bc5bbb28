"""The ball against a NumPy reference in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import Ball

NORMS, SCOPES = ("l2", "linf"), ("token", "sequence")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def reference(delta: np.ndarray, mask: np.ndarray, radii: np.ndarray, norm: str, scope: str) -> np.ndarray:
    """The projection, token by token, in double precision."""
    out = np.zeros_like(delta)
    for i in range(len(delta)):
        real = delta[i][mask[i]]
        if norm == "linf":
            out[i][mask[i]] = np.clip(real, -radii[i], radii[i])
        elif scope == "sequence":
            length = np.linalg.norm(real)
            out[i][mask[i]] = real * (radii[i] / length) if length > radii[i] else real
        else:
            for j in np.flatnonzero(mask[i]):
                length = np.linalg.norm(delta[i, j])
                out[i, j] = delta[i, j] * (radii[i] / length) if length > radii[i] else delta[i, j]
    return out


cases = st.fixed_dictionaries(
    {
        "norm": st.sampled_from(NORMS),
        "scope": st.sampled_from(SCOPES),
        "dtype": st.sampled_from(DTYPES),
        "lengths": st.lists(st.integers(0, 7), min_size=1, max_size=4),
        "dim": st.integers(1, 40),
        "radius": st.sampled_from([0.0, 1e-3, 0.1, 1.0, 30.0]),
        "size": st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
        "left": st.booleans(),
        "per_example": st.booleans(),
        "seed": st.integers(0, 10**6),
    }
)


def build(case: dict) -> tuple[Ball, torch.Tensor, torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(case["seed"])
    lengths, longest = np.array(case["lengths"]), 7
    mask = np.arange(longest) < lengths[:, None]
    mask = mask[:, ::-1].copy() if case["left"] else mask
    delta = torch.from_numpy(rng.normal(0, case["size"], (len(lengths), longest, case["dim"]))).to(case["dtype"])
    radii = case["radius"] * (rng.uniform(0.5, 2, len(lengths)) if case["per_example"] else np.ones(len(lengths)))
    radius = torch.from_numpy(radii) if case["per_example"] else case["radius"]
    return Ball(radius, case["norm"], case["scope"]), delta, torch.from_numpy(mask), radii


@settings(deadline=None, max_examples=200)
@given(cases)
def test_projection(case: dict) -> None:
    ball, delta, mask, radii = build(case)
    found = ball.project(delta, mask)
    assert found.dtype == delta.dtype
    expected = reference(delta.double().numpy(), mask.numpy(), radii, case["norm"], case["scope"])
    # Sums are taken in another order than the reference's.
    eps = max(torch.finfo(case["dtype"]).eps, 1e-6 if case["dtype"] == torch.float32 else 1e-14)
    # The smallest fp16 number is 6e-8: a coordinate cannot be nearer than that.
    tiny = 6e-8 if case["dtype"] == torch.float16 else 1e-40
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=2 * eps, atol=tiny)
    assert (found[~mask] == 0).all()
    unit = (1, 2) if case["scope"] == "sequence" else (2,)
    order = 2 if case["norm"] == "l2" else float("inf")
    norms = torch.linalg.vector_norm(found.double(), ord=order, dim=unit)
    bound = torch.from_numpy(radii).reshape(-1, *[1] * (norms.ndim - 1)) * (1 + 1e-6)
    assert (norms <= bound).all(), "16-bit results too lie inside"
    torch.testing.assert_close(ball.norms(found, mask).double(), norms, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(ball.project(found, mask), found, rtol=2 * eps, atol=tiny)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_projection_is_the_nearest_point(norm: str, scope: str) -> None:
    """A general optimiser finds the same point."""
    rng = np.random.default_rng(4)
    start = rng.normal(size=(1, 2, 3))
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = Ball(0.7, norm, scope).project(torch.from_numpy(start), mask).numpy().ravel()
    x0 = start.ravel()
    units = [slice(0, 6)] if scope == "sequence" else [slice(0, 3), slice(3, 6)]
    if norm == "l2":
        limits = [{"type": "ineq", "fun": lambda x, u=u: 0.49 - x[u] @ x[u]} for u in units]
        nearest = minimize(lambda x: (x - x0) @ (x - x0), np.zeros(6), constraints=limits, tol=1e-12).x
    else:
        nearest = minimize(lambda x: (x - x0) @ (x - x0), np.zeros(6), bounds=[(-0.7, 0.7)] * 6, tol=1e-12).x
    np.testing.assert_allclose(found, nearest, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-30, 1e30, 3e38, -3e38])
def test_extreme_sizes(norm: str, scope: str, value: float) -> None:
    mask = torch.tensor([[True, True, False]])
    delta = torch.full((1, 3, 400), value)
    delta[:, 2] = float("nan")  # Whatever stands on padding.
    for radius in (0.0, 1.0):
        found = Ball(radius, norm, scope).project(delta, mask)
        assert torch.isfinite(found).all()
        exact = reference(delta.double().numpy(), mask.numpy(), np.array([radius]), norm, scope)
        np.testing.assert_allclose(found.numpy(), exact, rtol=1e-5)
    direction, finite = Ball(1.0, norm, scope).steepest(delta, mask)
    assert finite.all()
    expected = {"linf": 1.0, "l2": 1 / np.sqrt(400 if scope == "token" else 800)}[norm]
    np.testing.assert_allclose(direction[:, :2].numpy(), np.sign(np.float32(value)) * expected, rtol=1e-5)
    assert (direction[:, 2] == 0).all()


@settings(deadline=None, max_examples=80)
@given(cases)
def test_steepest(case: dict) -> None:
    ball, gradient, mask, _ = build(case)
    direction, finite = ball.steepest(gradient, mask)
    assert finite.all()
    g = torch.where(mask[:, :, None], gradient.double(), 0.0)
    if case["norm"] == "linf":
        expected = g.sign()
    else:
        length = torch.linalg.vector_norm(g, dim=(1, 2) if case["scope"] == "sequence" else 2, keepdim=True)
        expected = torch.where(length > 0, g / length, 0.0)
    torch.testing.assert_close(direction.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ball.steepest(gradient.double() * 2**-20, mask)[0], expected, rtol=1e-5, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(cases)
def test_the_scaled_gradient(case: dict) -> None:
    """In l-infinity divided by its largest coordinate; in l2 the same direction as the steepest."""
    ball, gradient, mask, _ = build(case)
    direction, _ = ball.steepest(gradient, mask, scaled=True)
    if case["norm"] == "l2":
        assert torch.equal(direction, ball.steepest(gradient, mask)[0])
        return
    g = torch.where(mask[:, :, None], gradient.double(), 0.0)
    largest = g.abs().amax(dim=(1, 2) if case["scope"] == "sequence" else 2, keepdim=True)
    expected = torch.where(largest > 0, g / largest, 0.0)
    torch.testing.assert_close(direction.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_gradients_that_are_not_finite_are_reported(norm: str, scope: str, bad: float) -> None:
    gradient, mask = torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    mask[2, 3] = False
    gradient[1, 2, 3] = gradient[2, 3, 0] = bad
    clean = torch.where(torch.isfinite(gradient), gradient, 0.0)
    ball = Ball(1.0, norm, scope)
    direction, finite = ball.steepest(gradient, mask)
    assert finite.tolist() == [True, False, True], "padding does not count"
    assert (direction[1] == 0).all()
    torch.testing.assert_close(direction[[0, 2]], ball.steepest(clean, mask)[0][[0, 2]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, "l2", "token"), "--radius -0.1"),
        ((float("nan"), "l2", "token"), "--radius nan"),
        ((float("inf"), "l2", "token"), "--radius inf"),
        ((1.0, "l1", "token"), "--perturb-norm: unknown norm 'l1'; did you mean l2"),
        ((1.0, "l2", "tokens"), "--perturb-scope.*did you mean token"),
    ],
)
def test_mistakes(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Ball(*arguments)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="mask"):
        Ball(1.0, "l2", "token").project(torch.zeros(2, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="radius"):
        Ball(torch.ones(2, 3), "l2", "token")
