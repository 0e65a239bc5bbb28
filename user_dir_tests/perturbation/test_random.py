"""Random perturbations: in the ball, of the law that is promised, and a function of the key alone."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import Ball, draw
from fairseq_robust_xlt.perturbation.random import KINDS

NORMS, SCOPES = ("l2", "linf"), ("token", "sequence")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
kinds_of_ball = st.tuples(st.sampled_from(KINDS), st.sampled_from(NORMS), st.sampled_from(SCOPES))


def drawn(kind: str, ball: Ball, mask: torch.Tensor, dim: int, keys: list, dtype: torch.dtype = torch.float32):  # noqa: ANN201
    return draw(kind, ball, mask, dim, keys, "cpu", dtype)


@settings(deadline=None, max_examples=100)
@given(
    kinds_of_ball,
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(1, 24),
    st.sampled_from([0.0, 0.01, 3.0]),
)
def test_in_the_ball_and_zero_on_padding(law: tuple, dtype: torch.dtype, lengths: list, dim: int, r: float) -> None:
    kind, norm, scope = law
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    delta = drawn(kind, Ball(r, norm, scope), mask, dim, [(1, 2, i) for i in range(len(lengths))], dtype)
    assert delta.dtype == dtype
    assert (delta[~mask] == 0).all()
    norms = torch.linalg.vector_norm(
        delta.double(), ord=2 if norm == "l2" else math.inf, dim=(1, 2) if scope == "sequence" else 2
    )
    assert (norms <= r * (1 + 1e-6)).all()
    if kind == "sphere":
        real = mask.any(1) if scope == "sequence" else mask
        # Smallest fp16 steps: 6e-8 a coordinate.
        slack = torch.finfo(dtype).eps * 2 * r + 6e-8 * math.sqrt(6 * dim) + 1e-6 * r
        assert (norms[real] >= r - slack).all()


@settings(deadline=None, max_examples=60)
@given(kinds_of_ball, st.integers(0, 60), st.integers(0, 8), st.booleans(), st.integers(0, 10**12))
def test_the_same_whatever_the_batch(law: tuple, length: int, more: int, left: bool, example: int) -> None:
    """Alone, or padded on either side in a batch in another place: the same real tokens, bit for bit."""
    kind, norm, scope = law
    key = (1, 77, example)
    alone = drawn(kind, Ball(0.5, norm, scope), torch.ones(1, length, dtype=torch.bool), 12, [key])
    mask = torch.arange(length + more) < torch.tensor([length + more, length, 1])[:, None]
    mask = mask.flip(1) if left else mask
    radius = torch.tensor([2.0, 0.5, 1.0])
    batch = drawn(kind, Ball(radius, norm, scope), mask, 12, [(1, 77, example + 1), key, (3, 3, 3)])
    torch.testing.assert_close(batch[1][mask[1]], alone[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_part_of_the_key_counts(kind: str, norm: str) -> None:
    mask = torch.ones(4, 5, dtype=torch.bool)
    keys = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]
    delta = drawn(kind, Ball(1.0, norm, "token"), mask, 16, keys)
    assert len({tuple(row.flatten().tolist()) for row in delta}) == 4
    torch.testing.assert_close(delta, drawn(kind, Ball(1.0, norm, "token"), mask, 16, keys), rtol=0, atol=0)


def many(kind: str, norm: str, scope: str, dim: int, r: float = 0.7) -> torch.Tensor:
    """Independent units [5000, d] of a ball: tokens, or sequences of 4 tokens."""
    batch, length = (500, 10) if scope == "token" else (5000, 4)
    mask = torch.ones(batch, length, dtype=torch.bool)
    delta = drawn(kind, Ball(r, norm, scope), mask, dim, [(5, 6, i) for i in range(batch)])
    return (delta.reshape(5000, -1) / r).double()


ALPHA = 1e-3  # The draws are fixed, so that a test that passes once passes always.


@pytest.mark.parametrize("scope", SCOPES)
def test_law_of_l2(scope: str) -> None:
    d = 8 if scope == "token" else 32
    uniform, sphere, gaussian = (many(kind, "l2", scope, 8) for kind in ("uniform", "sphere", "gaussian"))
    # Uniform in the ball: P(norm <= t) = t^d. A coordinate of the sphere: (1 + x) / 2 is Beta((d - 1) / 2, ...).
    assert stats.kstest(uniform.norm(dim=1).numpy(), lambda t: t**d).pvalue > ALPHA
    beta = stats.beta((d - 1) / 2, (d - 1) / 2, loc=-1, scale=2)
    for coordinate in (0, d - 1):
        assert stats.kstest(sphere[:, coordinate].numpy(), beta.cdf).pvalue > ALPHA
        directions = uniform[:, coordinate] / uniform.norm(dim=1)
        assert stats.kstest(directions.numpy(), beta.cdf).pvalue > ALPHA
    # Gaussian: the norms are chi with d degrees, cut off at the ball.
    norms = gaussian.norm(dim=1).numpy()
    inside = norms < 1 - 1e-5
    chi = stats.chi(d, scale=1 / math.sqrt(d))
    assert stats.binomtest(int(inside.sum()), 5000, chi.cdf(1.0)).pvalue > ALPHA
    assert stats.kstest(norms[inside], lambda t: chi.cdf(t) / chi.cdf(1.0)).pvalue > ALPHA
    # Cube: every coordinate uniform up to the side of the largest cube in the ball.
    cube = many("cube", "l2", scope, 8)
    side = 1 / math.sqrt(d)
    assert stats.kstest(cube.flatten().numpy(), stats.uniform(-side, 2 * side).cdf).pvalue > ALPHA
    for delta in (uniform, sphere, gaussian):
        scatter = delta.T @ delta / len(delta)
        torch.testing.assert_close(scatter, torch.eye(d).double() * scatter.trace() / d, rtol=0, atol=0.1 / d)


@pytest.mark.parametrize("scope", SCOPES)
def test_law_of_linf(scope: str) -> None:
    uniform, sphere, gaussian = (many(kind, "linf", scope, 8).flatten() for kind in ("uniform", "sphere", "gaussian"))
    assert stats.kstest(uniform.numpy(), stats.uniform(-1, 2).cdf).pvalue > ALPHA
    torch.testing.assert_close(many("cube", "linf", scope, 8).flatten(), uniform)
    torch.testing.assert_close(sphere.abs(), torch.ones_like(sphere), rtol=1e-6, atol=0)
    assert stats.binomtest(int((sphere > 0).sum()), len(sphere)).pvalue > ALPHA
    inside = gaussian[gaussian.abs() < 1 - 1e-6].numpy()
    normal = stats.norm(scale=0.5)
    share = 1 - 2 * normal.sf(1)
    assert stats.binomtest(len(inside), len(gaussian), share).pvalue > ALPHA
    assert stats.kstest(inside, lambda t: (normal.cdf(t) - normal.cdf(-1)) / share).pvalue > ALPHA


def test_draws_of_different_examples_are_uncorrelated() -> None:
    mask = torch.ones(200, 4, dtype=torch.bool)
    delta = drawn("gaussian", Ball(1.0, "l2", "token"), mask, 50, [(0, 0, i) for i in range(200)]).flatten(1)
    correlations = torch.corrcoef(delta) - torch.eye(200)
    assert correlations.abs().max() < 6 / math.sqrt(200)


def test_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    drawn("uniform", Ball(1.0, "l2", "token"), torch.ones(2, 3, dtype=torch.bool), 8, [(0, 0, 0), (0, 0, 1)])
    assert torch.equal(torch.get_rng_state(), state)


def test_mistakes() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(UserError, match="--perturb-draw.*did you mean gaussian"):
        drawn("gausian", Ball(1.0, "l2", "token"), mask, 4, [(0, 0, 0)])
    with pytest.raises(ValueError, match="2 keys for a batch of 1"):
        drawn("gaussian", Ball(1.0, "l2", "token"), mask, 4, [(0, 0, 0), (0, 0, 1)])


def test_fast_enough_for_every_update() -> None:
    mask = torch.ones(32, 40, dtype=torch.bool)
    keys = [(0, 0, i) for i in range(32)]
    times = []
    for _ in range(10):
        start = time.perf_counter()
        drawn("uniform", Ball(1.0, "l2", "token"), mask, 384, keys)
        times.append(time.perf_counter() - start)
    # About 6 ms on one quiet core; the room is for a busy one.
    assert min(times) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(kind: str) -> None:
    mask = torch.arange(6) < torch.tensor([6, 3])[:, None]
    ball = Ball(torch.tensor([1.0, 0.5], device="cuda"), "l2", "token")
    delta = draw(kind, ball, mask.cuda(), 16, [(0, 0, 0), (0, 0, 1)], "cuda", torch.bfloat16)
    again = draw(kind, ball, mask.cuda(), 16, [(0, 0, 0), (0, 0, 1)], "cuda", torch.bfloat16)
    assert torch.equal(delta, again)
    assert (delta.double().norm(dim=2).cpu() <= torch.tensor([[1.0], [0.5]])).all()
