"""One radius means the same on every encoder."""

import math

import numpy as np
import pytest
import torch

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import Ball, absolute_radius, mean_embedding_norm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [6, 4096, 10_001])
def test_mean_norm_against_numpy(dtype: torch.dtype, rows: int) -> None:
    table = torch.randn(rows, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    special = [0, 1, 2, 3, rows - 1]
    table[special] *= 50
    ordinary = np.delete(table.double().numpy(), special, axis=0)
    expected = np.linalg.norm(ordinary, axis=1).mean()
    assert mean_embedding_norm(torch.nn.Parameter(table), special) == pytest.approx(expected, rel=1e-6)


def test_half_precision_does_not_overflow() -> None:
    assert mean_embedding_norm(torch.full((5, 4096), 3000.0, dtype=torch.float16), [0]) == pytest.approx(
        3000 * 64, rel=1e-5
    )


@pytest.mark.parametrize("table", [torch.zeros(9, 4), torch.full((9, 4), math.nan), torch.ones(2, 4)])
def test_tables_that_give_no_unit(table: torch.Tensor) -> None:
    with pytest.raises(UserError, match="--radius-unit absolute"):
        mean_embedding_norm(table, [0, 1])


LENGTHS = torch.tensor([1, 4, 9])


@pytest.mark.parametrize(
    ("unit", "norm", "scope", "expected"),
    [
        ("relative", "l2", "token", 0.06),
        ("relative", "l2", "sequence", [0.06, 0.12, 0.18]),
        ("relative", "linf", "token", 0.015),
        ("relative", "linf", "sequence", 0.015),
        ("absolute", "l2", "sequence", 0.03),
        ("absolute", "linf", "token", 0.03),
    ],
)
def test_conversion(unit: str, norm: str, scope: str, expected: object) -> None:
    found = absolute_radius(0.03, unit, 2.0, norm, scope, LENGTHS, 16)
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scope", ["token", "sequence"])
def test_tokens_displaced_by_the_radius_lie_on_the_surface(norm: str, scope: str) -> None:
    """What the unit promises: every token moved by radius * mean norm (along a diagonal) just fits in every ball."""
    mask = torch.arange(9) < LENGTHS[:, None]
    delta = torch.where(mask[:, :, None], torch.full((3, 9, 16), 0.03 * 2.0 / 4), 0.0)
    radius = absolute_radius(0.03, "relative", 2.0, norm, scope, mask.sum(1), 16)
    ball = Ball(radius, norm, scope)
    torch.testing.assert_close(ball.project(delta, mask), delta)
    torch.testing.assert_close(ball.project(2 * delta, mask), delta)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="--radius-unit.*did you mean relative"):
        absolute_radius(0.1, "relativ", 1.0, "l2", "token", LENGTHS, 4)
    with pytest.raises(UserError, match="--radius -1"):
        absolute_radius(-1, "absolute", None, "l2", "token", LENGTHS, 4)
    with pytest.raises(ValueError, match="mean embedding norm"):
        absolute_radius(0.1, "relative", None, "l2", "token", LENGTHS, 4)
