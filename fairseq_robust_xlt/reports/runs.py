"""What a comparison needs of one scored run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.scoring import predictions
from fairseq_robust_xlt.scoring.folder import PREDICTIONS, SCORES


@dataclass(frozen=True)
class Run:
    """One scores folder's subset.

    source:     the language that was trained on; "" where it was not scored
    outcomes:   language -> example id -> its gold label, and whether the prediction was right
    numbered:   whether each language's ids are the numbers of its rows, from 0, rows without a gold label included
    macro_f1:   its mean over the languages without training labels; None where it was not scored (multiple choice)
    checkpoint: the SHA-256 of what was scored; None where the folder does not say
    method:     the settings of its training, by name
    """

    folder: str
    source: str
    outcomes: Mapping[str, Mapping[str, tuple[str, bool]]]
    numbered: bool
    macro_f1: float | None
    checkpoint: str | None
    method: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str], subset: str) -> Run:
        """Raises `UserError` for a folder that is not one of scores, has no such subset or no gold labels in it, and
        where the predictions are not those of the scores."""
        scores = scoring.read(folder)
        if subset not in scores["subsets"]:
            raise unknown("subset", subset, scores["subsets"], str(folder))
        covered = scores["subsets"][subset]
        if unlabelled := [language for language, one in covered["languages"].items() if one["accuracy"] is None]:
            raise UserError(f"{folder}: {subset} has no gold labels for {', '.join(unlabelled)}: nothing to compare")
        zero_shot = covered["mean_without_source"] or {"languages": []}
        ids: dict[str, set[str]] = {language: set() for language in covered["languages"]}
        outcomes: dict[str, dict[str, tuple[str, bool]]] = {language: {} for language in covered["languages"]}
        for p in predictions.read(file := Path(folder) / PREDICTIONS, scores["labels"]):
            if p.subset == subset and p.languages in ids:
                ids[p.languages].add(p.id)
                if p.gold is not None:
                    outcomes[p.languages][p.id] = scores["labels"][p.gold], p.gold == p.predicted
        for language, one in covered["languages"].items():
            if len(outcomes[language]) != one["n"]:
                raise UserError(
                    f"{file}: {len(outcomes[language])} labelled examples in {language} of {subset}, of which "
                    f"{SCORES} has scored {one['n']}: score it again"
                )
        signature = covered["signature"]
        return cls(
            folder=str(folder),
            source=next((language for language in covered["languages"] if language not in zero_shot["languages"]), ""),
            outcomes=outcomes,
            numbered=all(found == {str(number) for number in range(len(found))} for found in ids.values()),
            macro_f1=zero_shot.get("macro_f1"),
            checkpoint=signature.get("checkpoint_sha256"),
            method={key: value for key, value in (signature.get("method") or {}).items() if key != "method"},
        )

    def ids(self) -> dict[str, list[str]]:
        """Language -> the ids of its examples, sorted."""
        return {language: sorted(rows) for language, rows in self.outcomes.items()}


def check_seeds(name: str, runs: Sequence[Run]) -> None:
    """Raise `UserError` where one of the runs is given twice, or they are not seeds of one method."""
    for i, run in enumerate(runs):
        for other in runs[:i]:
            if run.checkpoint and run.checkpoint == other.checkpoint:
                raise UserError(f"{name}: {run.folder} and {other.folder} have scores of the same checkpoint")
            mine, theirs = run.method, other.method
            if key := next((key for key in (*mine, *theirs) if mine.get(key) != theirs.get(key)), None):
                raise UserError(
                    f"{name}: {run.folder} and {other.folder} are no seeds of one method: {key} is {mine.get(key)} in "
                    f"the first and {theirs.get(key)} in the second"
                )


def check_examples(runs: Sequence[Run]) -> None:
    """Raise `UserError` where two runs were not scored on the same examples."""
    first = runs[0]
    ids = first.ids()
    for run in runs:
        if run.source != first.source:
            raise UserError(
                f"{run.folder}: was trained on {run.source or 'a language that was not scored'} and {first.folder} on "
                f"{first.source or 'a language that was not scored'}"
            )
        if run.ids() != ids:
            raise UserError(f"{run.folder}: was not scored on the languages and examples of {first.folder}")
        for language, rows in run.outcomes.items():
            for i, (gold, _) in rows.items():
                if gold != (there := first.outcomes[language][i][0]):
                    raise UserError(
                        f"{run.folder}: was not scored on the examples of {first.folder}: the label of {i} in "
                        f"{language} is {gold} here and {there} there"
                    )
