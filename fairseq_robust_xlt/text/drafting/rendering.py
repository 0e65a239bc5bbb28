"""A drafted table as YAML, with a comment on every guess."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.text.drafting.guessing import Guess
from fairseq_robust_xlt.text.drafting.layouts import DraftLayout
from fairseq_robust_xlt.text.drafting.samples import Sample


def render(
    name: str,
    source: str,
    languages: set[str],
    labels: Sequence[str],
    layouts: Sequence[DraftLayout],
    guesses: Sequence[tuple[Sample, Guess]],
    remarks: Sequence[str],
) -> str:
    first = guesses[0][1]
    training = [(one, found) for one, found in guesses if one.file.split == "train"]
    said = any(one.file.language is not None or "language" in found.columns for one, found in training)
    assumed = "" if said else f", assumed: {'no name of a training file says it' if training else 'no training file'}"
    lines = [
        "# Drafted by `robust-xlt benchmark new` from the files themselves. Check every line that has a comment: what",
        "# it says was found, and the line is what that was taken to mean. The keys are described in the package's",
        "# benchmarks/README.md.",
        *(f"# {_remark(remark)}" for remark in remarks),
        f"name: {_scalar(name)}",
        "version: 1",
        f"kind: {first.kind}    # {_remark(first.comments['kind'])}",
        f"source: {_scalar(source)}    # the language of the training data{assumed}",
        *_sequence("languages", [source, *sorted(languages - {source})], "the source, then those of the other files"),
        *_sequence("labels", labels, first.comments["labels"]),
        "layouts:",
    ]
    for number, layout in enumerate(layouts, 1):
        lines += _layout_lines(layout, number)
    lines += ["# licence: whose the data are, and what they may be used for", "# citation: where they are described"]
    return "\n".join(lines) + "\n"


def _layout_lines(layout: DraftLayout, number: int) -> list[str]:
    one, found = layout.samples[0], layout.guess
    lines = [f"  - name: found{'' if number == 1 else f' {number}'}", f"    format: {one.format}"]
    if one.format != "jsonl":
        line = one.header if one.header is not None else (one.rows[0] if one.rows else [])
        separated = ", ".join(str(cell)[:20] for cell in line)
        lines.append(f"    header: {'true' if one.header else 'false'}    # line 1: {_remark(separated)}")
    lines.append("    columns:")
    for key, place in found.columns.items():
        lines.append(f"      {key}: {_place(place)}    # {_remark(found.comments[key])}")
    for column in found.unread:
        lines.append(f"      # not read: {_remark(column.name)} ({column.count()})")
    lines.append("    files:")
    for split in SPLITS:
        if split in layout.files:
            count = len({s.file.path for s in layout.samples if s.file.split == split})
            lines.append(f"      {split}: {_scalar(layout.files[split])}    # {count} file{'' if count == 1 else 's'}")
    if layout.codes:
        lines.append("    codes:    # this table's codes: those of the files")
        lines += [f"      {_scalar(mine)}: {_scalar(its)}" for mine, its in sorted(layout.codes.items())]
    return lines


def _sequence(key: str, values: Sequence[str], comment: str) -> list[str]:
    short = f"{key}: [{', '.join(map(_scalar, values))}]"
    after = f"    # {_remark(comment)}" if comment else ""
    if len(short) <= 100:
        return [short + after]
    return [f"{key}:{after}", *(f"  - {_scalar(value)}" for value in values)]


def _place(place: Any) -> str:
    if isinstance(place, dict):
        return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in place.items()) + "}"
    if isinstance(place, list):
        return f"[{', '.join(map(_scalar, place))}]"
    return _scalar(place)


def _scalar(value: str | int) -> str:
    """A value as YAML: as it is where that reads as the same value, else in quotes."""
    text = str(value)
    if isinstance(value, int) or (re.fullmatch(r"[A-Za-z_](?:[\w ./-]*\w)?", text) and yaml.safe_load(text) == text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _remark(text: str) -> str:
    """A comment in one printable line."""
    return "".join(c if c.isprintable() else " " for c in text)
