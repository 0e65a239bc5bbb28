"""A benchmark table for a user's files: what was found in them as YAML, with a comment on every guess."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.drafting.columns import plain
from fairseq_robust_xlt.text.drafting.guessing import Guess, guess, in_order
from fairseq_robust_xlt.text.drafting.naming import DataFile, find
from fairseq_robust_xlt.text.drafting.samples import Sample, columns, find_headers, sample


@dataclass
class _Layout:
    """A layout in the making, and the samples of its files."""

    guess: Guess
    samples: list[Sample]
    files: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)


def draft(
    folder: Path, name: str, source: str | None = None, label: str | None = None, texts: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The text of a benchmark table that describes the files in `folder`, and remarks on what it leaves out.

    source: the language of the training data; None to take it from the files. label, texts: the columns that hold them,
    where that cannot be told: header names, numbers from 0, or JSON paths.
    Raises `UserError` for files of which no table can be made.
    """
    files, remarks = find(folder, source)
    samples = [one for one in map(sample, files) if one is not None]
    remarks += [
        f"not used: {file.pattern} (text without tabs)" for file in files if file not in [s.file for s in samples]
    ]
    find_headers(samples)
    guesses = _guesses(samples, label, texts)
    languages = {id(one): _languages(one, found) for one, found in guesses}
    codes = {code for of_file in languages.values() for code in of_file}
    training = [languages[id(one)] for one, _ in guesses if one.file.split == "train"]
    mine = _source(source, codes, training)
    _check_once(guesses, languages, mine)
    layouts = _layouts(guesses, languages)
    labels = _labels(guesses)
    text = _render(name, mine, {_own(code) for code in codes} | {mine}, labels, layouts, guesses, remarks)
    return text, remarks


def _guesses(samples: Sequence[Sample], label: str | None, texts: Sequence[str]) -> list[tuple[Sample, Guess]]:
    """What each file's columns hold: guessed of all files that look alike, those with training and dev data first. A
    test file without labels is read as the others, by what it has."""
    shapes: dict[tuple[Any, ...], list[Sample]] = {}
    for one in samples:
        if one.rows:
            shapes.setdefault(one.shape, []).append(one)
    faults = [one.fault for one in samples if one.fault]
    if not shapes:
        empty = ", ".join(one.file.pattern for one in samples) or "text without tabs"
        raise faults[0] if faults else UserError(f"no rows in what was found: {empty}")
    found: dict[tuple[Any, ...], Guess] = {}
    for shape, alike in sorted(shapes.items(), key=lambda item: min(SPLITS.index(s.file.split) for s in item[1])):
        only_test = all(one.file.split == "test" for one in alike)
        fitting = [known for known in found.values() if only_test and _fits(known, alike[0])]
        in_names = all(one.file.language is not None for one in alike)
        try:
            found[shape] = fitting[0] if fitting else guess(columns(alike), in_names, label, texts, _where(alike))
        except UserError:
            if faults:
                raise faults[0] from None
            raise
    first = next(iter(found.values()))
    for shape, other in found.items():
        if other.kind != first.kind:
            raise UserError(
                f"{_where(shapes[shape])} looks like kind {other.kind} ({other.comments['kind']}) and the files before "
                f"it like kind {first.kind} ({first.comments['kind']}): one table has one kind"
            )
    readable = [one for one in samples if one.rows]
    for one in samples:
        if not one.rows:  # it is taken to look like the others of its format
            like = next((other for other in readable if other.format == one.format), None)
            if like is None:
                raise one.fault or UserError(f"{one.file.path}: the file has no rows")
            one.places, one.header = like.places, like.header
    return [(one, found[one.shape]) for one in samples]


def _where(alike: Sequence[Sample]) -> str:
    more = f" and {len(alike) - 1} more like it" if len(alike) > 1 else ""
    return f"{alike[0].file.path}{more}"


def _fits(known: Guess, one: Sample) -> bool:
    """Whether a file has the columns that must be there, all but the label; and the label, if they say where."""
    has = {place for place, _ in one.columns()}
    needed = set()
    for name, place in known.columns.items():
        if name not in ("label", "id"):
            needed |= set(place) if isinstance(place, list) else {place["list"] if isinstance(place, dict) else place}
    return needed <= has


def _languages(one: Sample, found: Guess) -> list[str]:
    """The languages of a file as it spells them; none where nothing says so."""
    if one.file.language is not None:
        return [one.file.language]
    place = found.columns.get("language")
    positions = [number for number, (where, _) in enumerate(one.columns()) if where == place]
    return sorted({plain(row[positions[0]]) for row in one.rows} - {"", "None"}) if positions else []


def _own(code: str) -> str:
    """A language code as a table may have it."""
    return (code.lower() if code.isupper() else code).replace("-", "_")


def _source(given: str | None, codes: set[str], training: Sequence[Sequence[str]]) -> str:
    """The table's code of the training data's language. `training`: the languages of each training file, none where
    nothing says so."""
    known = {_own(code) for code in codes}
    trained = {_own(code) for of_file in training for code in of_file}
    unnamed = not all(training)
    if given is not None:
        if trained and not unnamed and given not in trained:
            raise UserError(f"--source {given}: the training files are in {', '.join(sorted(trained))}")
        return given
    among = trained if trained and not unnamed else known
    english = sorted(code for code in among if re.fullmatch(r"en|eng|english|eng?_.*", code, re.IGNORECASE))
    if english:
        return english[0]
    if len(trained) == 1 and not unnamed:
        return trained.pop()
    if unnamed or not known:
        return "en"
    raise UserError(
        f"which is the language of the training data? found {', '.join(sorted(among))}; say it with --source"
    )


def _check_once(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]], source: str) -> None:
    """Raise `UserError` where two files would be the same split of the same language."""
    seen: dict[tuple[str, str], DataFile] = {}
    for one, _ in guesses:
        for code in languages[id(one)] or [source]:
            other = seen.setdefault((one.file.split, _own(code)), one.file)
            if other is not one.file:
                raise UserError(
                    f"{other.path} and {one.file.path} would both be the {one.file.split} set of {_own(code)}; keep "
                    "one of them in the folder, or rename it"
                )


def _layouts(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]]) -> list[_Layout]:
    """Files that are read alike share a layout, as long as each split has one pattern in it."""
    layouts: list[_Layout] = []
    for one, found in guesses:
        for layout in layouts:
            first = layout.samples[0]
            alike = layout.guess.columns == found.columns and first.format == one.format
            if (
                alike
                and bool(first.header) == bool(one.header)
                and (layout.files.setdefault(one.file.split, one.file.pattern) == one.file.pattern)
            ):
                break
        else:
            layout = _Layout(found, [], {one.file.split: one.file.pattern})
            layouts.append(layout)
        layout.samples.append(one)
        layout.codes |= {_own(code): code for code in languages[id(one)] if _own(code) != code}
    return layouts


def _labels(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """The labels of all files."""
    distinct = {id(found): found for _, found in guesses}.values()
    first = next(iter(distinct))
    for other in distinct:
        if first.kind == "choice" and other.labels != first.labels:
            raise UserError(
                f"the options are labelled {', '.join(first.labels)} in some files and {', '.join(other.labels)} in "
                "others: one table has one set of labels"
            )
    return first.labels if first.kind == "choice" else in_order({label for found in distinct for label in found.labels})


# ---- YAML ----------------------------------------------------------------------------------------------------------


def _render(
    name: str,
    source: str,
    languages: set[str],
    labels: Sequence[str],
    layouts: Sequence[_Layout],
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


def _layout_lines(layout: _Layout, number: int) -> list[str]:
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
