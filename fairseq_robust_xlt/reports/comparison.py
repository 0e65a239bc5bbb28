"""Several methods, several seeds each, on the same test sets: accuracies, differences, intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.scoring import Difference
from fairseq_robust_xlt.scoring import predictions as table
from fairseq_robust_xlt.scoring.folder import PREDICTIONS

#: language -> example id -> its gold label, and whether the prediction was right
Correct = dict[str, dict[str, tuple[str, bool]]]


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

    def asdict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "subset": self.subset,
            "source": self.source,
            "examples": dict(self.examples),
            "methods": {
                name: {
                    "seeds": self.seeds[name],
                    "accuracy": dict(self.accuracy[name]),
                    "mean_of_others": self.mean[name],
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
        try:
            from tabulate import tabulate
        except ImportError as error:
            raise UserError("tables need tabulate: pip install 'fairseq-robust-xlt[report]'") from error
        baseline = next(name for name in self.accuracy if name not in self.difference)
        rows = []
        for name, accuracies in self.accuracy.items():
            found = self.difference.get(name)
            rows.append(
                [
                    name,
                    *(f"{100 * accuracies[language]:.1f}" for language in self.languages),
                    f"{100 * self.mean[name]:.1f}",
                    f"{100 * found.estimate:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]" if found else "",
                    f"{self.p_holm[name]:.3f}" if found else "",
                    *([f"{100 * self.macro_f1[name]:.1f}"] if name in self.macro_f1 else []),
                ]
            )
        if len(set(self.examples.values())) > 1:
            rows.insert(0, ["rows", *(str(self.examples[language]) for language in self.languages)])
        head = ["", *self.languages, "mean", f"mean - {baseline}", "p", *(["macro-F1"] if self.macro_f1 else [])]
        seeds = "/".join(map(str, sorted(set(self.seeds.values()))))
        seeds += " seed" if seeds == "1" else " seeds"
        lines = [
            f"Accuracy in percent on {self.subset}, mean over {seeds}; mean = over {len(self.others)} "
            f"languages without training labels ({', '.join(self.others)})",
            "",
            tabulate(rows, headers=head, disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))),
            "",
            *self._reading(),
        ]
        return "\n".join(lines)

    def _reading(self) -> list[str]:
        nulls = [name for name, p in self.p_holm.items() if p > 0.05]
        clear = [name for name in self.difference if name not in nulls]
        if not self.difference:
            return []
        # The median: a method that went wrong with one of the seeds says nothing of the others.
        width = float(np.median([(d.high - d.low) / 2 for d in self.difference.values()]))
        fewest = min(self.examples.values())
        language = 1.96 * (2 * 0.25 * 0.4 / fewest) ** 0.5
        return [
            "Brackets: 95 % intervals, examples (paired over methods and languages) and seeds resampled; p of the same "
            f"ones, Holm-corrected over {len(self.difference)}.",
            f"Significant: {', '.join(clear) or 'none'}. Nulls (p above 0.05): {', '.join(nulls) or 'none'}.",
            f"{fewest} rows a language can show differences of the mean of about {100 * width:.0f} points and "
            f"more; in a single language they cannot tell less than about {100 * language:.0f} points from chance, "
            "and they cannot rank methods that are closer than that.",
        ]


def load(folder: str | os.PathLike[str], subset: str) -> tuple[str, Correct, float | None]:
    """The source language, what was right in a scores folder's `subset`, and the zero-shot mean of macro-F1 there.

    Raises `UserError` for a folder that is not one of scores, or has no such subset.
    """
    scores = scoring.read(folder)
    if subset not in scores["subsets"]:
        raise unknown("subset", subset, scores["subsets"], str(folder))
    covered = scores["subsets"][subset]
    if unlabelled := [language for language, one in covered["languages"].items() if one["accuracy"] is None]:
        raise UserError(f"{folder}: {subset} has no gold labels for {', '.join(unlabelled)}: nothing to compare")
    zero_shot = covered["mean_without_source"] or {"languages": []}
    others = zero_shot["languages"]
    source = next((language for language in covered["languages"] if language not in others), "")
    correct: Correct = {}
    for p in table.read(Path(folder) / PREDICTIONS, scores["labels"]):
        if p.subset == subset and p.gold is not None:
            correct.setdefault(p.languages, {})[p.id] = scores["labels"][p.gold], p.gold == p.predicted
    return source, correct, zero_shot.get("macro_f1")


def compare(
    runs: Mapping[str, Sequence[str | os.PathLike[str]]],
    subset: str,
    baseline: str | None = None,
    languages: Sequence[str] | None = None,
) -> Comparison:
    """Compare methods; `runs` maps a method's name to the scores folders of its seeds. The baseline is the first
    unless it is named; means and differences are over all languages that were never trained on unless some are named.

    Raises `UserError` where two runs were not scored on the same examples, and for a language that was not scored or
    was trained on.
    """
    loaded = {name: [load(folder, subset) for folder in folders] for name, folders in runs.items()}
    f1: dict[str, float] = {}
    for name, parts in loaded.items():
        values = [found for *_, found in parts if found is not None]
        if len(values) == len(parts):
            f1[name] = sum(values) / len(values)
    reference = next(iter(runs.values()))[0]
    first_source, first, _ = next(iter(loaded.values()))[0]
    scored = sorted(first, key=lambda language: (language != first_source, language))
    ids = {language: sorted(first[language]) for language in scored}
    # method -> language -> [seeds, examples]
    arrays: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, parts in loaded.items():
        for folder, (_, correct, _) in zip(runs[name], parts, strict=True):
            if {language: sorted(rows) for language, rows in correct.items()} != ids:
                raise UserError(f"{folder}: was not scored on the languages and examples of {reference}")
            for language, rows in correct.items():
                for i, (gold, _) in rows.items():
                    if gold != (there := first[language][i][0]):
                        raise UserError(
                            f"{folder}: was not scored on the examples of {reference}: the label of {i} in {language} "
                            f"is {gold} here and {there} there"
                        )
        arrays[name] = {
            language: np.array(
                [[correct[language][i][1] for i in ids[language]] for _, correct, _ in parts], dtype=float
            )
            for language in scored
        }
    zero_shot = [language for language in scored if language != first_source] or scored[:1]
    for language in languages or ():
        if language not in zero_shot:
            raise unknown("language", language, zero_shot, "--languages")
    if languages is not None:
        zero_shot, f1 = [language for language in zero_shot if language in languages], {}
    parallel = all(ids[language] == ids[zero_shot[0]] for language in zero_shot)
    outcomes = {name: [by_language[language] for language in zero_shot] for name, by_language in arrays.items()}
    if parallel:  # an example is drawn in all languages at once
        outcomes = {name: [np.mean(parts, axis=0)] for name, parts in outcomes.items()}
    baseline = baseline or next(iter(runs))
    difference = {
        name: scoring.difference_of_means(outcomes[name], outcomes[baseline]) for name in outcomes if name != baseline
    }
    accuracy = {
        name: {language: float(array.mean()) for language, array in by_language.items()}
        for name, by_language in arrays.items()
    }
    return Comparison(
        subset=subset,
        languages=tuple(scored),
        others=tuple(zero_shot) if first_source != zero_shot[0] else (),
        source=first_source,
        examples={language: len(ids[language]) for language in scored},
        accuracy=accuracy,
        mean={name: float(np.mean([found[language] for language in zero_shot])) for name, found in accuracy.items()},
        difference=difference,
        p_holm=dict(zip(difference, scoring.holm([found.p for found in difference.values()]), strict=True)),
        macro_f1=f1,
        seeds={name: len(folders) for name, folders in runs.items()},
    )
