"""Several methods, several seeds each, on the same test sets: accuracies, differences, intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.errors import unknown
from fairseq_robust_xlt.reports import text
from fairseq_robust_xlt.reports.runs import Run, check_examples, check_seeds
from fairseq_robust_xlt.scoring import Difference


@dataclass(frozen=True)
class Comparison:
    """Methods on one subset; everything as fractions.

    languages:  all of them, the source first
    others:     those that the mean is over: all that were never trained on, or the ones that were asked for
    examples:   language -> number of examples
    accuracy:   method -> language -> mean over seeds
    mean:       method -> mean over `others`
    difference: method -> difference of that mean to the baseline's, with its interval (not of the baseline itself)
    p_holm:     method -> p-value of that difference, corrected over the methods (Holm)
    macro_f1:   method -> mean macro-F1 over `others` and seeds; empty where it was not scored (multiple choice) or
                where languages were named
    seeds:      method -> number of runs
    aligned:    whether it is known which rows of the languages are translations of each other: those with the same id.
                Where ids are row numbers and the languages have different numbers of rows it is not, and their rows
                were resampled language by language
    single:     half the width of the 95 % interval of a difference in a single language, from the spread of examples
                and of seeds: the median over methods and languages
    """

    subset: str
    languages: tuple[str, ...]
    others: tuple[str, ...]
    source: str
    examples: Mapping[str, int]
    accuracy: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float]
    difference: Mapping[str, Difference]
    p_holm: Mapping[str, float]
    macro_f1: Mapping[str, float]
    seeds: Mapping[str, int]
    aligned: bool
    single: float

    def asdict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "subset": self.subset,
            "source": self.source,
            "examples": dict(self.examples),
            "others": list(self.others),
            "aligned": self.aligned,
            "methods": {
                name: {
                    "seeds": self.seeds[name],
                    "accuracy": dict(self.accuracy[name]),
                    **({"mean_of_others": self.mean[name]} if self.others else {}),
                    **({"macro_f1_of_others": self.macro_f1[name]} if name in self.macro_f1 else {}),
                    **(self._against(name) if name in self.difference else {"baseline": True}),
                }
                for name in self.accuracy
            },
        }

    def _against(self, name: str) -> dict[str, Any]:
        estimate, low, high, p = self.difference[name]
        return {"difference": [estimate, low, high], "p": p, "p_holm": self.p_holm[name]}

    def text(self) -> str:
        """A table and what it can and cannot show. Needs the package tabulate (extra `report`)."""
        return text.table(self)


def compare(
    runs: Mapping[str, Sequence[str | os.PathLike[str]]],
    subset: str,
    baseline: str | None = None,
    languages: Sequence[str] | None = None,
) -> Comparison:
    """Compare methods; `runs` maps a method's name to the scores folders of its seeds. The baseline is the first
    unless it is named; means and differences are over all languages that were never trained on unless some are named.

    Raises `UserError` where two runs were not trained on the same language and scored on the same examples, where the
    runs of a name are not seeds of one method, for a language that was not scored or was trained on, and for a
    baseline that is not among the methods.
    """
    baseline = baseline or next(iter(runs))
    if baseline not in runs:
        raise unknown("baseline", baseline, runs)
    read = {name: [Run.read(folder, subset) for folder in folders] for name, folders in runs.items()}
    for name, seeds in read.items():
        check_seeds(name, seeds)
    check_examples([run for seeds in read.values() for run in seeds])
    f1: dict[str, float] = {}
    for name, seeds in read.items():
        values = [run.macro_f1 for run in seeds if run.macro_f1 is not None]
        if len(values) == len(seeds):
            f1[name] = sum(values) / len(values)
    first = next(iter(read.values()))[0]
    ids = first.ids()
    scored = sorted(ids, key=lambda language: (language != first.source, language))
    # method -> language -> [seeds, examples]
    arrays = {
        name: {
            language: np.array([[run.outcomes[language][i][1] for i in ids[language]] for run in seeds], dtype=float)
            for language in scored
        }
        for name, seeds in read.items()
    }
    zero_shot = [language for language in scored if language != first.source] or scored[:1]
    for language in languages or ():
        if language not in zero_shot:
            raise unknown("language", language, zero_shot, "--languages")
    if languages is not None:
        zero_shot, f1 = [language for language in zero_shot if language in languages], {}
    groups, aligned = _groups({language: ids[language] for language in zero_shot}, first.numbered)
    outcomes = {name: [_together(by_language, ids, group) for group in groups] for name, by_language in arrays.items()}
    others = [name for name in outcomes if name != baseline]
    difference = {name: scoring.difference_of_means(outcomes[name], outcomes[baseline]) for name in others}
    widths = [_half_width(arrays[name][lang], arrays[baseline][lang]) for name in others for lang in zero_shot]
    accuracy = {
        name: {language: float(array.mean()) for language, array in by_language.items()}
        for name, by_language in arrays.items()
    }
    return Comparison(
        subset=subset,
        languages=tuple(scored),
        others=tuple(zero_shot) if first.source != zero_shot[0] else (),
        source=first.source,
        examples={language: len(ids[language]) for language in scored},
        accuracy=accuracy,
        mean={name: float(np.mean([found[language] for language in zero_shot])) for name, found in accuracy.items()},
        difference=difference,
        p_holm=dict(zip(difference, scoring.holm([found.p for found in difference.values()]), strict=True)),
        macro_f1=f1,
        seeds={name: len(folders) for name, folders in runs.items()},
        aligned=aligned,
        single=float(np.median(widths)) if widths else 0.0,
    )


def _groups(ids: Mapping[str, list[str]], numbered: bool) -> tuple[list[list[str]], bool]:
    """Groups of languages in which an id is the same example in all, and whether all languages are one such group."""
    languages, lists = list(ids), list(ids.values())
    if all(found == lists[0] for found in lists):
        return [languages], True
    # Once a row is left out of one language, equal row numbers are different examples.
    if numbered:
        return [[language] for language in languages], False
    return [languages], True


def _together(
    outcomes: Mapping[str, NDArray[np.float64]], ids: Mapping[str, list[str]], languages: Sequence[str]
) -> NDArray[np.float64]:
    """[seeds, languages, examples]: NaN where a language lacks an example that another has."""
    places = {i: place for place, i in enumerate(sorted(set().union(*(ids[language] for language in languages))))}
    seeds = len(outcomes[languages[0]])
    found = np.full((seeds, len(languages), len(places)), np.nan)
    for row, language in enumerate(languages):
        found[:, row, [places[i] for i in ids[language]]] = outcomes[language]
    return found


def _half_width(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of the 95 % interval of the difference in one language [seeds, examples]: spread of examples, and of seeds."""
    paired = a.mean(axis=0) - b.mean(axis=0)
    seeds = sum(one.mean(axis=1).var(ddof=1) / len(one) for one in (a, b) if len(one) > 1)
    return float(1.96 * (paired.var() / len(paired) + seeds) ** 0.5)
