"""How sure a score or a difference of scores is.

SciPy, statsmodels and scikit-learn take about a second to import: they are imported where they are used, so that
training and validation do not wait for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Replicates drawn at once: bounds the memory at 10,000 replicates over thousands of examples.
_CHUNK = 500


class Difference(NamedTuple):
    """An estimate, the ends of its 95 % interval, and the two-sided p-value of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of an accuracy of `correct` of `n` (Wilson 1927), as fractions.

    It covers the sampling of test examples for one trained model, not the spread between training seeds.
    Raises ValueError unless 0 <= correct <= n and n > 0.
    """
    from statsmodels.stats.proportion import proportion_confint

    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} correct of {n} examples is no accuracy")
    low, high = proportion_confint(correct, n, alpha=0.05, method="wilson")
    return float(low), float(high)


def macro_f1(gold: ArrayLike, predicted: ArrayLike) -> float:
    """The mean of the labels' F1 scores, over the labels that occur among gold or predicted ones; a fraction.

    `gold` and `predicted` are class indices [examples]. It counts a rare label as much as a frequent one.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="macro", zero_division=0))


def difference_of_means(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """The difference of mean accuracy a - b over languages, with a 95 % bootstrap percentile interval.

    `a` and `b` hold an array for each group of languages: [seeds, languages, examples], or [seeds, examples] for a
    single language; 0 and 1 (correct), NaN where a language lacks an example. An example is the same one in a and b
    and, as in a parallel test set, in all languages of its group. The number of seeds may differ. Every language counts
    the same.
    Every replicate draws examples, group by group (the same for a and b and for all languages of the group: paired),
    and, independently for a and b and once for all groups, training seeds, all with replacement: the pigeonhole
    bootstrap (Owen 2007, Annals of Applied Statistics 1(2)). The interval therefore covers other test examples of the
    same kind and other training seeds. With one seed a side it covers the examples alone; with few seeds (below about
    five) their spread is underestimated.
    `p` is of the same replicates: twice the share of those on the rarer side of 0 (Efron and Tibshirani 1993, section
    15.4), counted with one more, so that it is never 0. Correct it where several methods are compared (`holm`).

    The result is a function of the arguments alone (fixed random `seed`). Raises ValueError for other shapes, for
    values outside 0 to 1, and for examples that are not there in the same languages on both sides.
    """
    first, second = ([_shares(part) for part in side] for side in (a, b))
    blocks = [_Block.of(*pair) for pair in zip(first, second, strict=True)]
    seeds = len(first[0]), len(second[0])
    languages = sum(block.languages for block in blocks)
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        # [replicates, seeds of a and of b]: accuracies, averaged over languages, then over freshly drawn seeds.
        means = sum(block.draw(rng, size) for block in blocks) / languages
        mean_of_a, mean_of_b = (
            (part * rng.multinomial(number, np.full(number, 1 / number), size=size)).sum(axis=1) / number
            for number, part in zip(seeds, np.split(means, [seeds[0]], axis=1), strict=True)
        )
        # Rounded, since equal means of several seeds differ in the last bits, and 0 counts on both sides.
        values[start : start + size] = np.round(mean_of_a - mean_of_b, 12)
    low, high = np.quantile(values, [0.025, 0.975])
    estimate = _mean(first) - _mean(second)
    rarer = min(np.sum(values <= 0), np.sum(values >= 0))
    p = min(1.0, 2 * (rarer + 1) / (resamples + 1))
    return Difference(float(estimate), float(low), float(high), float(p))


def largest_radius(accuracies: Mapping[float, float], examples: int) -> tuple[float, float]:
    """The largest radius whose accuracy lies within one standard error of the best, and the accuracy it had to reach.

    `accuracies` maps each radius of a grid, 0 included, to its accuracy on `examples` source-language dev examples (a
    fraction, the mean over training seeds). The standard error is that of the best point, sqrt(p (1 - p) / examples):
    the seeds share the examples, so it does not shrink with them. The rule is the one-standard-error rule of Breiman
    et al. (1984), taken towards more robustness: it needs no labels in the target languages.
    """
    best = max(accuracies.values())
    threshold = best - (best * (1 - best) / examples) ** 0.5
    return max(radius for radius, accuracy in accuracies.items() if accuracy >= threshold), threshold


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several comparisons, corrected so that one of them errs with at most their level (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1].tolist() if len(p) else []


class _Block(NamedTuple):
    """A group of languages. Examples with the same outcomes are interchangeable, so replicates need only draw how many
    there are of each kind: exact, and far less to draw than the examples themselves."""

    kinds: NDArray[np.float64]  # [seeds of a and of b, languages, kinds]; 0 where a language lacks the example
    there: NDArray[np.float64]  # [languages, kinds]: whether it has it
    counts: NDArray[np.int64]
    languages: int

    @classmethod
    def of(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> _Block:
        if a.shape[1:] != b.shape[1:] or not np.array_equal(np.isnan(a[0]), np.isnan(b[0])):
            raise ValueError(
                f"a has {a.shape[2]} examples in {a.shape[1]} languages and b has {b.shape[2]} in {b.shape[1]}: they "
                "must be the same ones"
            )
        both = np.concatenate([a, b])
        languages = both.shape[1]
        if not np.isnan(both).any():  # an example's share of the languages says all
            both = both.mean(axis=1, keepdims=True)
        kinds, counts = np.unique(both.reshape(-1, both.shape[2]), axis=1, return_counts=True)
        kinds = kinds.reshape(*both.shape[:2], -1)
        return cls(np.nan_to_num(kinds), 1.0 - np.isnan(kinds[0]), counts, languages)

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.float64]:
        """[replicates, seeds]: the languages' accuracies on freshly drawn examples, summed over the languages."""
        total = self.counts.sum()
        drawn = rng.multinomial(total, self.counts / total, size=size)
        right = np.einsum("rk,slk->rsl", drawn, self.kinds, optimize=True)
        present = (drawn @ self.there.T)[:, None, :]
        # A replicate may miss all the examples of a language that has few: it says nothing of that language then.
        overall = (self.kinds @ self.counts) / (self.there @ self.counts)
        means = np.where(present > 0, right / np.maximum(present, 1), overall)
        return means.mean(axis=2) * self.languages


def _mean(groups: Sequence[NDArray[np.float64]]) -> float:
    """Over seeds and examples of each language, then over the languages of all groups."""
    return float(np.mean(np.concatenate([np.nanmean(group, axis=(0, 2)) for group in groups])))


def _shares(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            f"expected a non-empty array [seeds, examples] or [seeds, languages, examples], not one of shape "
            f"{array.shape}"
        )
    array = array if array.ndim == 3 else array[:, None, :]
    missing = np.isnan(array)
    if not (missing | ((array >= 0) & (array <= 1))).all():
        raise ValueError("shares of correct answers lie between 0 and 1")
    if (missing != missing[0]).any() or missing[0].all(axis=1).any():
        raise ValueError("seeds must have the same examples, and each language at least one")
    return array
