"""Projected gradient ascent: in the ball at every step, upwards, and at the maximum where it is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import Ball, ascend, default_step_size

NORMS, SCOPES = ("l2", "linf"), ("token", "sequence")
MASK = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]


def pulled(target: Tensor):  # noqa: ANN201
    """A linear loss: its gradient is `target` everywhere."""
    return lambda delta: (delta * target).sum(dim=(1, 2))


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(NORMS),
    st.sampled_from(SCOPES),
    st.integers(1, 6),
    st.floats(0.05, 3),
    st.sampled_from([0.01, 1.0]),
    st.booleans(),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 10**6),
)
def test_in_the_ball_at_every_step(
    norm: str,
    scope: str,
    steps: int,
    step_size: float,
    radius: float,
    scaled: bool,
    lengths: list[int],
    left: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 6, generator=generator, dtype=dtype)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if left else mask
    ball, seen = Ball(radius, norm, scope), []

    def loss_of(delta: Tensor) -> Tensor:
        seen.append(delta.detach().clone())
        return ((delta @ matrix).sin() + delta).sum(dim=(1, 2))

    start = torch.randn(len(lengths), 5, 6, generator=generator, dtype=dtype)
    delta, finite = ascend(loss_of, start, ball, mask, steps, step_size, scaled)
    assert len(seen) == steps
    assert finite.all()
    assert not delta.requires_grad
    for one in [*seen, delta]:
        assert one.dtype == dtype
        assert (ball.norms(one, mask) <= radius * (1 + 1e-5)).all()
        assert (one[~mask] == 0).all()


@pytest.mark.parametrize("scope", SCOPES)
def test_maximum_of_a_convex_quadratic_in_l2(scope: str) -> None:
    """x'Ax / 2 with A positive definite is largest on the ball at the top eigenvector times the radius."""
    rng = np.random.default_rng(0)
    lengths, dim, radius = (1, 1, 1), 6, 0.3
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    matrix = torch.from_numpy(basis @ np.diag([5.0, 2.0, 1.0, 0.5, 0.2, 0.1]) @ basis.T).float()
    mask = torch.arange(2) < torch.tensor(lengths)[:, None]
    losses = []

    def loss_of(delta: Tensor) -> Tensor:
        losses.append(torch.einsum("bld,de,ble->b", delta, matrix, delta).detach() / 2)
        return torch.einsum("bld,de,ble->b", delta, matrix, delta) / 2

    delta, _ = ascend(loss_of, torch.randn(3, 2, dim) * 0.01, Ball(radius, "l2", scope), mask, 60, 0.5)
    loss_of(delta)
    for earlier, later in zip(losses, losses[1:], strict=False):
        assert (later >= earlier - 1e-6).all()
    np.testing.assert_allclose(losses[-1].numpy(), 5 * radius**2 / 2, rtol=1e-4)
    np.testing.assert_allclose(np.abs(delta[:, 0].numpy() @ basis[:, 0]), radius, rtol=1e-3)


@pytest.mark.parametrize("scope", SCOPES)
def test_maximum_of_a_convex_quadratic_in_linf(scope: str) -> None:
    """sum a (x - c)^2 with a > 0 is largest in the corner away from c."""
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(3, 5, 6, generator=generator) + 0.1
    c = torch.randn(3, 5, 6, generator=generator)
    delta, _ = ascend(
        lambda delta: (a * (delta - c) ** 2).sum(dim=(1, 2)), torch.zeros(3, 5, 6), Ball(0.2, "linf", scope), MASK, 8
    )
    torch.testing.assert_close(delta, torch.where(MASK[:, :, None], -0.2 * c.sign(), 0.0))


@pytest.mark.parametrize("scope", SCOPES)
def test_one_step_from_zero_is_fgm(scope: str) -> None:
    """Miyato et al. 2017: radius * g / ||g||, in double precision by NumPy."""
    target = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(2))
    delta, _ = ascend(pulled(target), torch.zeros(3, 5, 6), Ball(0.4, "l2", scope), MASK, 1)
    g = np.where(MASK[:, :, None].numpy(), target.double().numpy(), 0)
    length = np.sqrt((g**2).sum(axis=(1, 2) if scope == "sequence" else 2, keepdims=True))
    np.testing.assert_allclose(delta.numpy(), 0.4 * g / np.where(length > 0, length, 1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("steps", range(1, 8))
def test_the_default_steps_reach_the_surface(steps: int) -> None:
    ball = Ball(torch.tensor([0.4, 0.2, 0.1]), "l2", "token")
    delta, _ = ascend(pulled(torch.ones(3, 5, 6)), torch.zeros(3, 5, 6), ball, MASK, steps)
    expected = MASK * torch.tensor([[0.4], [0.2], [0.1]])
    torch.testing.assert_close(ball.norms(delta, MASK), expected)
    assert default_step_size(steps) * steps == pytest.approx(1.0 if steps == 1 else 1.25)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_example_that_is_not_finite_goes_without(where: str, step: int) -> None:
    calls = 0

    def loss_of(delta: Tensor) -> Tensor:
        nonlocal calls
        losses = (delta * torch.ones(3, 5, 6)).sum(dim=(1, 2))
        bad = torch.tensor(math.inf)
        if where == "gradient":
            bad = (delta[1] * 0).sum().sqrt()  # 0, with the gradient 0 * inf.
        if calls == step:
            losses = losses.index_add(0, torch.tensor([1]), bad[None])
        calls += 1
        return losses

    delta, finite = ascend(loss_of, torch.full((3, 5, 6), 0.01), Ball(0.4, "l2", "token"), MASK, 3)
    assert finite.tolist() == [True, False, True]
    assert (delta[1] == 0).all()
    clean, _ = ascend(pulled(torch.ones(3, 5, 6)), torch.full((3, 5, 6), 0.01), Ball(0.4, "l2", "token"), MASK, 3)
    torch.testing.assert_close(delta[[0, 2]], clean[[0, 2]])


def test_no_parameter_is_touched() -> None:
    layer = nn.Linear(6, 1)
    layer.weight.grad = torch.full_like(layer.weight, 7.0)
    with torch.no_grad():  # It finds its gradients even where none are recorded around it.
        delta, _ = ascend(
            lambda delta: layer(delta).sum(dim=(1, 2)), torch.zeros(3, 5, 6), Ball(1.0, "l2", "token"), MASK, 2
        )
    assert (delta[MASK] != 0).any()
    assert (layer.weight.grad == 7.0).all()
    assert layer.bias.grad is None


def test_the_first_pass_can_be_used_again() -> None:
    """From zero it is the clean pass: its loss still goes backward to the parameters, exactly as on its own."""
    layer, x = nn.Linear(6, 1), torch.randn(3, 5, 6)
    passes: list[Tensor] = []

    def loss_of(delta: Tensor) -> Tensor:
        passes.append(layer(x + delta).tanh().sum(dim=(1, 2)))
        return passes[-1]

    ascend(loss_of, torch.zeros(3, 5, 6), Ball(1.0, "l2", "token"), MASK, 2, keep_graphs=1)
    (expected,) = torch.autograd.grad(layer(x).tanh().sum(), layer.weight)
    passes[0].sum().backward()
    torch.testing.assert_close(layer.weight.grad, expected)
    with pytest.raises(RuntimeError, match="second time"):
        passes[1].sum().backward()
    passes.clear()
    ascend(loss_of, torch.zeros(3, 5, 6), Ball(1.0, "l2", "token"), MASK, 2, keep_graphs=2)
    sum(one.sum() for one in passes).backward()


def test_no_steps_give_the_projected_start() -> None:
    start, ball = torch.randn(3, 5, 6).bfloat16(), Ball(0.5, "l2", "token")
    delta, finite = ascend(pulled(torch.ones(3, 5, 6)), start, ball, MASK, 0)
    assert finite.all()
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta, ball.project(start.float(), MASK))


def test_mistakes() -> None:
    start, ball = torch.zeros(3, 5, 6), Ball(1.0, "l2", "token")
    with pytest.raises(UserError, match="--perturb-steps -1"):
        ascend(pulled(start), start, ball, MASK, -1)
    with pytest.raises(UserError, match="--perturb-step-size 0"):
        ascend(pulled(start), start, ball, MASK, 1, 0.0)
    with pytest.raises(ValueError, match="one loss per example"):
        ascend(lambda delta: delta.sum(), start, ball, MASK, 1)


@pytest.mark.parametrize("broken", [None, 0, 3])
def test_the_rows_of_a_choice_stand_or_fall_together(broken: int | None) -> None:
    """Two examples of two options each: one loss an example, and no row of it moves where one has no gradient."""
    target = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None]
    if broken is not None:
        target[broken, 0, 0] = math.nan
    delta, finite = ascend(
        lambda delta: (delta * target).sum(dim=(1, 2)).view(2, 2).sum(dim=1),
        torch.zeros(4, 5, 6),
        Ball(0.5, "l2", "sequence"),
        mask,
        steps=1,
    )
    wrong = [] if broken is None else [0, 1] if broken < 2 else [2, 3]
    assert finite.tolist() == [row not in wrong for row in range(4)]
    for row in range(4):
        wanted = torch.where(mask[row, :, None], target[row], 0.0)
        wanted = torch.zeros_like(wanted) if row in wrong else 0.5 * wanted / wanted.norm()
        torch.testing.assert_close(delta[row], wanted)
