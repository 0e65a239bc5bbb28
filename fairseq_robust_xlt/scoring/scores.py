"""From predictions to scores: counts, accuracies with intervals, and means over languages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.scoring.predictions import Prediction
from fairseq_robust_xlt.scoring.statistics import accuracy_interval


def score(predictions: Iterable[Prediction], source: str) -> dict[str, Any]:
    """The scores of one subset's predictions.

    Returns `languages` (per language: n, correct, accuracy, interval), `mean` (the mean of the accuracies, each
    language counting the same, and the languages that it covers), and `mean_without_source` (the same over all
    languages but `source`, the zero-shot ones; None where there are no others). Accuracies are fractions, intervals
    Wilson's 95 %. Raises `UserError` where a gold label is missing.
    """
    counts: dict[str, list[int]] = {}
    for p in predictions:
        if p.gold is None:
            raise UserError(f"example {p.id} of {p.subset}, {p.languages} has no gold label: it cannot be scored")
        count = counts.setdefault(p.languages, [0, 0])
        count[0] += 1
        count[1] += p.gold == p.predicted
    languages = {
        language: {
            "n": n,
            "correct": correct,
            "accuracy": correct / n,
            "interval": list(accuracy_interval(correct, n)),
        }
        for language, (n, correct) in sorted(counts.items())
    }
    others = [language for language in languages if language != source]
    return {
        "languages": languages,
        "mean": _mean(languages, list(languages)),
        "mean_without_source": _mean(languages, others) if others else None,
    }


def _mean(languages: dict[str, Any], covered: list[str]) -> dict[str, Any]:
    accuracies = [languages[language]["accuracy"] for language in covered]
    return {"accuracy": sum(accuracies) / len(accuracies), "languages": covered}


def lines(scores: dict[str, Any], subset: str) -> list[str]:
    """One printable line per language of `subset`, then its means with the languages they cover.

    `scores` is what `add` or `read` of a scores folder returned. Raises `UserError` for a subset it does not hold.
    """
    if subset not in scores["subsets"]:
        raise unknown("subset", subset, scores["subsets"])
    found = scores["subsets"][subset]
    rows = [
        (
            language,
            str(one["n"]),
            str(one["correct"]),
            f"{100 * one['accuracy']:.2f} %",
            f"[{100 * one['interval'][0]:.2f}, {100 * one['interval'][1]:.2f}]",
        )
        for language, one in found["languages"].items()
    ]
    head = ("language", "n", "correct", "accuracy", "95 % interval")
    table = _aligned([head, *rows])
    means = [_mean_line("mean", found["mean"])]
    if found["mean_without_source"] is not None and found["mean_without_source"] != found["mean"]:
        means.append(_mean_line("mean without the source", found["mean_without_source"]))
    return [f"{subset} | {line}" for line in table + means]


def _mean_line(name: str, mean: dict[str, Any]) -> str:
    covered = mean["languages"]
    plural = "language" if len(covered) == 1 else "languages"
    return f"{name} of {len(covered)} {plural}: {100 * mean['accuracy']:.2f} % ({', '.join(covered)})"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, the first column to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in rows
    ]
