"""A comparison as a table for a terminal, and what it can and cannot show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fairseq_robust_xlt.errors import UserError

if TYPE_CHECKING:
    from fairseq_robust_xlt.reports.comparison import Comparison

#: Fewer runs than these underestimate how much seeds differ.
ENOUGH_SEEDS = 5


def table(comparison: Comparison) -> str:
    """A table and what it can and cannot show. Needs the package tabulate (extra `report`)."""
    try:
        from tabulate import tabulate
    except ImportError as error:
        raise UserError("tables need tabulate: pip install 'fairseq-robust-xlt[report]'") from error
    baseline = next(name for name in comparison.accuracy if name not in comparison.difference)
    rows = []
    for name, accuracies in comparison.accuracy.items():
        found = comparison.difference.get(name)
        rows.append(
            [
                name,
                *(f"{100 * accuracies[language]:.1f}" for language in comparison.languages),
                *([f"{100 * comparison.mean[name]:.1f}"] if comparison.others else []),
                f"{100 * found.estimate:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]" if found else "",
                f"{comparison.p_holm[name]:.3f}" if found else "",
                *([f"{100 * comparison.macro_f1[name]:.1f}"] if name in comparison.macro_f1 else []),
            ]
        )
    if len(set(comparison.examples.values())) > 1:
        rows.insert(0, ["rows", *(str(comparison.examples[language]) for language in comparison.languages)])
    mean = ["mean", f"mean - {baseline}"] if comparison.others else [f"- {baseline}"]
    head = ["", *comparison.languages, *mean, "p", *(["macro-F1"] if comparison.macro_f1 else [])]
    seeds = "/".join(map(str, sorted(set(comparison.seeds.values()))))
    seeds += " seed" if seeds == "1" else " seeds"
    lines = [
        f"Accuracy in percent on {comparison.subset}, mean over {seeds}"
        + (
            f"; mean = over {len(comparison.others)} languages without training labels ({', '.join(comparison.others)})"
            if comparison.others
            else ""
        ),
        "",
        tabulate(rows, headers=head, disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))),
        "",
        *_reading(comparison),
    ]
    return "\n".join(lines)


def _reading(comparison: Comparison) -> list[str]:
    nulls = [name for name, p in comparison.p_holm.items() if p > 0.05]
    clear = [name for name in comparison.difference if name not in nulls]
    if not comparison.difference:
        return []
    # The median: a method that went wrong with one of the seeds says nothing of the others.
    width = float(np.median([(d.high - d.low) / 2 for d in comparison.difference.values()]))
    fewest = min(comparison.examples[language] for language in comparison.others or comparison.languages)
    seeds = min(comparison.seeds.values())
    what = "examples (paired over methods and languages)" + (" and seeds resampled" if seeds > 1 else " resampled")
    lines = [
        f"Brackets: 95 % intervals, {what}; p of the same ones, Holm-corrected over {len(comparison.difference)}.",
        f"Significant: {', '.join(clear) or 'none'}. Nulls (p above 0.05): {', '.join(nulls) or 'none'}.",
        f"{fewest} rows a language: intervals reach about {100 * width:.1f} points to each side, in a single language "
        f"{100 * comparison.single:.1f} (not corrected); methods that are closer are not ranked by this.",
    ]
    if seeds == 1:
        lines.append("One seed: intervals and p say nothing of what another seed would give.")
    elif seeds < ENOUGH_SEEDS:
        lines.append(f"{seeds} seeds: their spread is underestimated; {ENOUGH_SEEDS} or more show it.")
    if not comparison.aligned:
        lines.append(
            "Rows have no ids and the languages different numbers of them: they were resampled language by "
            "language, so intervals are too short if they are translations of each other."
        )
    return lines
