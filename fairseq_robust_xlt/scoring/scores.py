"""From predictions to scores: counts, accuracies with intervals, and means over languages."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from fairseq_robust_xlt.errors import unknown
from fairseq_robust_xlt.scoring.predictions import Prediction
from fairseq_robust_xlt.scoring.statistics import accuracy_interval, macro_f1


def score(predictions: Iterable[Prediction], source: str, *, f1: bool = True) -> dict[str, Any]:
    """The scores of one subset's predictions.

    Returns `languages` (per language or language pair: n, correct, accuracy, interval and, with `f1`, macro_f1), `mean`
    (the means of accuracies and of macro_f1, each language counting the same, and the languages that it covers), and
    `mean_without_source` (the same over all languages but `source`, the zero-shot ones; None where there are no
    others). All are fractions, intervals Wilson's 95 % of the accuracy. Rows without a gold label are left out and
    counted as `unlabelled`; a language without any gold label has its n and None for the rest, and no part in means.
    """
    by_language: dict[str, list[Prediction]] = {}
    for p in predictions:
        by_language.setdefault(p.languages, []).append(p)
    languages = {language: _score(rows, f1) for language, rows in sorted(by_language.items())}
    labelled = [language for language, one in languages.items() if one["accuracy"] is not None]
    others = [language for language in labelled if set(language.split("-")) != {source}]
    return {
        "languages": languages,
        "mean": _mean(languages, labelled),
        "mean_without_source": _mean(languages, others),
    }


def _score(rows: Sequence[Prediction], f1: bool) -> dict[str, Any]:
    """The scores of one language."""
    gold = [p.gold for p in rows if p.gold is not None]
    predicted = [p.predicted for p in rows if p.gold is not None]
    n, correct = len(gold), sum(map(operator.eq, gold, predicted))
    found: dict[str, Any] = {
        "n": n or len(rows),
        "correct": correct if n else None,
        "accuracy": correct / n if n else None,
        "interval": list(accuracy_interval(correct, n)) if n else None,
    }
    if f1:
        found["macro_f1"] = macro_f1(gold, predicted) if n else None
    if 0 < n < len(rows):
        found["unlabelled"] = len(rows) - n
    return found


def _mean(languages: dict[str, Any], covered: list[str]) -> dict[str, Any] | None:
    if not covered:
        return None
    keys = [key for key in ("accuracy", "macro_f1") if key in languages[covered[0]]]
    means = {key: sum(languages[language][key] for language in covered) / len(covered) for key in keys}
    return {**means, "languages": covered}


def lines(scores: dict[str, Any], subset: str) -> list[str]:
    """One printable line per language of `subset`, then its means with the languages they cover.

    `scores` is what `add` or `read` of a scores folder returned. Raises `UserError` for a subset it does not hold.
    """
    if subset not in scores["subsets"]:
        raise unknown("subset", subset, scores["subsets"])
    found = scores["subsets"][subset]
    f1 = any("macro_f1" in one for one in found["languages"].values())
    rows = [_row(language, one, f1) for language, one in found["languages"].items()]
    head = ("language", "n", "correct", "accuracy", "95 % interval", *(["macro-F1"] if f1 else []))
    table = _aligned([head, *rows])
    means = [_mean_line("mean", found["mean"])] if found["mean"] else []
    if found["mean_without_source"] is not None and found["mean_without_source"] != found["mean"]:
        means.append(_mean_line("mean without the source", found["mean_without_source"]))
    bare = [
        f"{language}: {one['unlabelled']} rows without a gold label were not scored"
        for language, one in found["languages"].items()
        if "unlabelled" in one
    ]
    return [f"{subset} | {line}" for line in table + means + bare]


def _row(language: str, one: dict[str, Any], f1: bool) -> tuple[str, ...]:
    if one["accuracy"] is None:
        return (language, str(one["n"]), "-", "no labels", "-", *(["-"] if f1 else []))
    return (
        language,
        str(one["n"]),
        str(one["correct"]),
        f"{100 * one['accuracy']:.2f} %",
        f"[{100 * one['interval'][0]:.2f}, {100 * one['interval'][1]:.2f}]",
        *([f"{100 * one['macro_f1']:.2f} %"] if f1 else []),
    )


def _mean_line(name: str, mean: dict[str, Any]) -> str:
    covered = mean["languages"]
    what = "language pair" if "-" in covered[0] else "language"
    names = ", ".join(covered) if len(covered) <= 40 else f"{', '.join(covered[:3])}, ..., {covered[-1]}"
    f1 = f", macro-F1 {100 * mean['macro_f1']:.2f} %" if "macro_f1" in mean else ""
    plural = "" if len(covered) == 1 else "s"
    return f"{name} of {len(covered)} {what}{plural}: {100 * mean['accuracy']:.2f} %{f1} ({names})"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, the first column to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in rows
    ]
