"""Intervals and tests against SciPy, brute force and a simulation of what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fairseq_robust_xlt.scoring import (
    accuracy_interval,
    difference_of_means,
    holm,
    largest_radius,
)


def difference(a, b, **settings):
    """Of one language."""
    return difference_of_means([a], [b], **settings)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_accuracy_interval_is_wilsons(counts: tuple[int, int]) -> None:
    reference = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert accuracy_interval(*counts) == pytest.approx((reference.low, reference.high), abs=1e-9)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="no accuracy"):
        accuracy_interval(correct, n)


def _brute_force(a: np.ndarray, b: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The two-way bootstrap as its definition says, one example index at a time."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        examples = rng.integers(0, a.shape[1], a.shape[1])
        of_a = a[rng.integers(0, len(a), len(a))][:, examples]
        of_b = b[rng.integers(0, len(b), len(b))][:, examples]
        values.append(of_a.mean() - of_b.mean())
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (5, 2)])
def test_difference_against_brute_force(seeds: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    easy = rng.random(300)
    a = (rng.random((seeds[0], 300)) < 0.3 + 0.6 * easy).astype(int)
    b = (rng.random((seeds[1], 300)) < 0.2 + 0.6 * easy).astype(int)
    found = difference(a, b)
    low, high = _brute_force(a, b, 4000, seed=9)
    assert found.estimate == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    # Two Monte Carlo estimates of the same quantiles: about 1.5 % of the width each.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_languages_with_examples_of_their_own() -> None:
    """By brute force: each language's examples on their own, the same seeds in all, the languages' means averaged."""
    rng = np.random.default_rng(4)
    a = [(rng.random((3, n)) < p).astype(int) for n, p in ((40, 0.7), (150, 0.5))]
    b = [(rng.random((2, n)) < p).astype(int) for n, p in ((40, 0.5), (150, 0.4))]
    found = difference_of_means(a, b)
    values = []
    for _ in range(4000):
        seeds_a, seeds_b = rng.integers(0, 3, 3), rng.integers(0, 2, 2)
        parts = []
        for of_a, of_b in zip(a, b, strict=True):
            examples = rng.integers(0, of_a.shape[1], of_a.shape[1])
            parts.append(of_a[seeds_a][:, examples].mean() - of_b[seeds_b][:, examples].mean())
        values.append(np.mean(parts))
    low, high = np.quantile(values, [0.025, 0.975])
    assert found.estimate == pytest.approx(np.mean([x.mean() - y.mean() for x, y in zip(a, b, strict=True)]))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
    with pytest.raises(ValueError, match="same ones"):
        difference_of_means(a, b[::-1])


def test_languages_that_lack_some_of_the_examples() -> None:
    """By brute force: an example is drawn in all languages that have it, and each language's mean is over what it has.
    The interval is about that of the complete set."""
    rng = np.random.default_rng(5)
    easy = rng.random((1, 1, 200))
    whole_a = (rng.random((3, 4, 200)) < 0.1 + 0.8 * easy).astype(float)
    whole_b = np.where(rng.random((1, 1, 200)) < 0.3, rng.random((3, 4, 200)) < 0.5, whole_a).astype(float)
    a, b = whole_a.copy(), whole_b.copy()
    missing = rng.random((4, 200)) < 0.05
    a[:, missing], b[:, missing] = np.nan, np.nan
    found = difference_of_means([a], [b])
    values = []
    for _ in range(3000):
        seeds_a, seeds_b, examples = rng.integers(0, 3, 3), rng.integers(0, 3, 3), rng.integers(0, 200, 200)
        of_a, of_b = (side[seeds][:, :, examples] for side, seeds in ((a, seeds_a), (b, seeds_b)))
        values.append(np.nanmean(of_a, axis=(0, 2)).mean() - np.nanmean(of_b, axis=(0, 2)).mean())
    low, high = np.quantile(values, [0.025, 0.975])
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))
    complete = difference_of_means([whole_a], [whole_b])
    assert width == pytest.approx(complete.high - complete.low, rel=0.1)


def test_a_language_with_one_example() -> None:
    """Replicates may miss it."""
    a = np.array([[[1.0, 0.0, 1.0, 1.0], [np.nan, np.nan, np.nan, 1.0]]])
    b = np.array([[[0.0, 0.0, 1.0, 0.0], [np.nan, np.nan, np.nan, 0.0]]])
    found = difference_of_means([a], [b])
    assert found.estimate == pytest.approx((0.5 + 1.0) / 2)
    assert np.isfinite(found).all()


def test_difference_is_paired_and_reproducible() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, (1, 500))
    assert difference(a, a) == (0.0, 0.0, 0.0, 1.0)
    b = a.copy()
    b[0, :10] = 1 - b[0, :10]
    found = difference(a, b, resamples=101)
    assert found == difference(a, b, resamples=101)
    assert len({difference(a, b, resamples=101, seed=seed) for seed in range(5)}) > 1
    assert found.high - found.low < 0.03  # Unpaired, it would be about 0.12.


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    levels = np.array([0.60, 0.70, 0.80, 0.90])
    a = (rng.random((4, 2000)) < levels[:, None]).astype(int)
    b = (rng.random((4, 2000)) < 0.75).astype(int)
    together = difference(a, b)
    one = difference(a[1:2], b[1:2])
    assert together.high - together.low > 2 * (one.high - one.low)


def test_difference_covers_what_it_says() -> None:
    """Over other examples and other seeds, the interval holds the true difference about 95 times in 100 or more."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        shift = rng.normal(0, 0.02, (2, 8, 1))
        probability = np.clip(0.4 + 0.4 * rng.random(400) + np.array([0.05, 0.0])[:, None, None] + shift, 0, 1)
        a, b = (rng.random((2, 8, 400)) < probability).astype(int)
        found = difference(a, b, resamples=500)
        inside += found.low <= 0.05 <= found.high
    assert inside >= 134


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[0, 1]], [[0, 1, 1]], "same ones"),
        ([[0, 2]], [[0, 1]], "between 0 and 1"),
        ([0, 1], [[0, 1]], "shape"),
        ([[]], [[]], "non-empty"),
        ([[[0, 1], [np.nan, np.nan]]], [[[0, 1], [np.nan, np.nan]]], "at least one"),
        ([[[0, 1], [0, np.nan]]], [[[0, 1], [np.nan, 0]]], "same ones"),
        ([[0, np.nan], [0, 1]], [[0, 1]], "same examples"),
    ],
)
def test_difference_refuses(a: list, b: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(a, b)


def test_p_of_a_difference() -> None:
    """Against the counts of the replicates that the interval is made of: 0 is at the p/2 quantile."""
    rng = np.random.default_rng(3)
    a = rng.random((3, 60)) < 0.62
    b = rng.random((3, 60)) < 0.50
    found = difference(a, b)
    assert 0 < found.p < 1
    assert (found.p > 0.05) == (found.low <= 0 <= found.high)
    assert difference(b, a).p == pytest.approx(found.p, abs=0.03)
    assert difference(np.ones((1, 9)), np.zeros((1, 9)), resamples=99).p == pytest.approx(2 / 100)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_by_its_definition(p: list[float]) -> None:
    order = sorted(range(len(p)), key=lambda i: p[i])
    expected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        expected[i] = highest
    assert holm(p) == pytest.approx(expected)


def test_nothing_to_correct() -> None:
    assert holm([]) == []


@given(st.dictionaries(st.floats(0.001, 10), st.floats(0, 1), max_size=5), st.floats(0, 1), st.integers(10, 5000))
def test_the_largest_radius_within_one_standard_error(points: dict[float, float], standard: float, n: int) -> None:
    grid = {0.0: standard, **points}
    chosen, threshold = largest_radius(grid, n)
    best = max(grid.values())
    assert threshold == pytest.approx(best - np.sqrt(best * (1 - best) / n))
    assert grid[chosen] >= threshold
    assert all(accuracy < threshold for radius, accuracy in grid.items() if radius > chosen)


def test_a_radius_that_costs_less_than_one_standard_error_is_taken() -> None:
    # The best is 0.80 of 160 examples: one standard error is sqrt(0.16 / 160) = 0.0316.
    assert largest_radius({0.0: 0.80, 0.1: 0.80, 0.3: 0.77, 1.0: 0.765}, 160)[0] == 0.3


def test_equal_means_count_on_both_sides() -> None:
    """Means of several seeds that are equal differ in the last bits."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((5, 99)) < share for share in (0.70, 0.66))
    found = difference(a, b)
    draws = np.random.default_rng(1)
    differences = []
    for _ in range(20_000):
        rows = draws.integers(99, size=99)
        one, other = (side[draws.integers(5, size=5)][:, rows].sum() for side in (a, b))
        differences.append(int(one) - int(other))
    p = 2 * min(np.mean(np.array(differences) <= 0), np.mean(np.array(differences) >= 0))
    assert found.p == pytest.approx(p, rel=0.08)
    ties = np.eye(2)[None].repeat(3, axis=0).reshape(3, 4)
    assert difference(ties, 1 - ties).p == 1.0
