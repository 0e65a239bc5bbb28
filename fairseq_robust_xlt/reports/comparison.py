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

#: Fewer runs than these underestimate how much seeds differ.
ENOUGH_SEEDS = 5

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
    aligned:    whether it is known which rows of the languages are translations of each other: those with the same id.
                Where ids are row numbers and the languages have different numbers of rows it is not, and their rows
                were resampled language by language
    single:     half the width of the 95 % interval of a difference in a single language, without the spread of seeds:
                the median over methods and languages
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
            "aligned": self.aligned,
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
                    *([f"{100 * self.mean[name]:.1f}"] if self.others else []),
                    f"{100 * found.estimate:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]" if found else "",
                    f"{self.p_holm[name]:.3f}" if found else "",
                    *([f"{100 * self.macro_f1[name]:.1f}"] if name in self.macro_f1 else []),
                ]
            )
        if len(set(self.examples.values())) > 1:
            rows.insert(0, ["rows", *(str(self.examples[language]) for language in self.languages)])
        mean = ["mean", f"mean - {baseline}"] if self.others else [f"- {baseline}"]
        head = ["", *self.languages, *mean, "p", *(["macro-F1"] if self.macro_f1 else [])]
        seeds = "/".join(map(str, sorted(set(self.seeds.values()))))
        seeds += " seed" if seeds == "1" else " seeds"
        lines = [
            f"Accuracy in percent on {self.subset}, mean over {seeds}"
            + (
                f"; mean = over {len(self.others)} languages without training labels ({', '.join(self.others)})"
                if self.others
                else ""
            ),
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
        fewest, seeds = min(self.examples.values()), min(self.seeds.values())
        what = "examples (paired over methods and languages)" + (" and seeds resampled" if seeds > 1 else " resampled")
        lines = [
            f"Brackets: 95 % intervals, {what}; p of the same ones, Holm-corrected over {len(self.difference)}.",
            f"Significant: {', '.join(clear) or 'none'}. Nulls (p above 0.05): {', '.join(nulls) or 'none'}.",
            f"{fewest} rows a language can show differences of the mean of about {100 * width:.1f} points and "
            f"more, in a single language of about {100 * self.single:.1f}; they cannot rank methods that are closer.",
        ]
        if seeds == 1:
            lines.append("One seed: intervals and p say nothing of what another seed would give.")
        elif seeds < ENOUGH_SEEDS:
            lines.append(f"{seeds} seeds: their spread is underestimated; {ENOUGH_SEEDS} or more show it.")
        if not self.aligned:
            lines.append(
                "Rows have no ids and the languages different numbers of them: they were resampled language by "
                "language, so intervals are too short if they are translations of each other."
            )
        return lines


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


def _check_runs(name: str, folders: Sequence[str | os.PathLike[str]], subset: str) -> None:
    """Raise `UserError` where one run is given twice, or runs of different methods are."""
    seen: dict[str, Any] = {}
    for folder in folders:
        signature = scoring.read(folder)["subsets"].get(subset, {}).get("signature", {})
        checkpoint = signature.get("checkpoint_sha256")
        if checkpoint and checkpoint in seen:
            raise UserError(f"{name}: {folder} and {seen[checkpoint][0]} have scores of the same checkpoint")
        method = {key: value for key, value in (signature.get("method") or {}).items() if key != "method"}
        for other, theirs in seen.values():
            if key := next((key for key in (*method, *theirs) if method.get(key) != theirs.get(key)), None):
                raise UserError(
                    f"{name}: {folder} and {other} are no seeds of one method: {key} is {method.get(key)} in the "
                    f"first and {theirs.get(key)} in the second"
                )
        seen[checkpoint or str(folder)] = folder, method


def compare(
    runs: Mapping[str, Sequence[str | os.PathLike[str]]],
    subset: str,
    baseline: str | None = None,
    languages: Sequence[str] | None = None,
) -> Comparison:
    """Compare methods; `runs` maps a method's name to the scores folders of its seeds. The baseline is the first
    unless it is named; means and differences are over all languages that were never trained on unless some are named.

    Raises `UserError` where two runs were not scored on the same examples, where the runs of a name are not seeds of
    one method, and for a language that was not scored or was trained on.
    """
    for name, folders in runs.items():
        _check_runs(name, folders, subset)
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
    groups, aligned = _groups({language: ids[language] for language in zero_shot})
    outcomes = {name: [_together(by_language, ids, group) for group in groups] for name, by_language in arrays.items()}
    baseline = baseline or next(iter(runs))
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
        others=tuple(zero_shot) if first_source != zero_shot[0] else (),
        source=first_source,
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


def _groups(ids: Mapping[str, list[str]]) -> tuple[list[list[str]], bool]:
    """Groups of languages in which an id is the same example in all, and whether all languages are one such group."""
    languages, lists = list(ids), list(ids.values())
    if all(found == lists[0] for found in lists):
        return [languages], True
    # Row numbers: once a row is left out of one language, equal numbers are different examples.
    if all(set(found) == {str(number) for number in range(len(found))} for found in lists):
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
    """Of the 95 % interval of the difference in one language, from the spread over its examples [seeds, examples]."""
    paired = a.mean(axis=0) - b.mean(axis=0)
    return float(1.96 * paired.std() / len(paired) ** 0.5)
