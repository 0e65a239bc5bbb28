"""Published files to checked examples.

Tabs split fields and quotes are plain characters: the published files of these benchmarks hold unbalanced quotes, and
a CSV reader silently swallows the rows between two of them (huggingface/datasets#1763 lost 199 training pairs so).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fairseq_robust_xlt.benchmarks import Benchmark, Layout
from fairseq_robust_xlt.benchmarks.schema import TEXT_FIELDS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.examples import Example


def locate(
    benchmark: Benchmark, folder: str | os.PathLike[str], split: str, language: str
) -> tuple[Layout, Path] | None:
    """The first of the benchmark's layouts whose file for this split and language exists, and that file."""
    for layout, name in benchmark.files(split, language):
        path = Path(folder, name)
        if path.is_file():
            return layout, path
    return None


def read(benchmark: Benchmark, folder: str | os.PathLike[str], split: str, language: str) -> list[Example]:
    """The examples of one split ("train", "dev", "test") in one language, in the file's order.

    An example's id is its id column where the layout has one, else its zero-based row number.
    Raises `UserError`, with the file and line, for a missing or empty file, invalid UTF-8, a missing header column, a
    wrong number of columns, an unknown label, an empty text or id, and an id that occurs twice.
    """
    found = locate(benchmark, folder, split, language)
    if found is None:
        raise _not_found(benchmark, Path(folder), split, language)
    layout, path = found
    lines = _lines(path)
    first_row = 1 if layout.header else 0
    if len(lines) <= first_row:
        raise UserError(f"{path}: the file has no rows{' below its header' if lines else ''}")
    columns = _column_numbers(layout, lines[0].split("\t"), path)
    texts = [columns[field] for field in TEXT_FIELDS[benchmark.kind]]
    label_column, id_column = columns["label"], columns.get("id")
    classes = {label: index for index, label in enumerate(benchmark.labels)}
    classes |= {spelling: classes[label] for spelling, label in layout.label_names.items()}

    width = lines[0].count("\t") + 1
    examples: list[Example] = []
    ids: dict[str, int] = {}
    for number, line in enumerate(lines[first_row:], first_row + 1):
        fields = line.split("\t")
        if len(fields) != width:
            raise UserError(f"{path}:{number}: {_columns(len(fields))}, but line 1 has {width}")
        label = classes.get(fields[label_column])
        if label is None:
            raise UserError(
                f"{path}:{number}: unknown label {fields[label_column]!r} in column {label_column + 1}; "
                f"allowed: {', '.join(classes)}"
            )
        sequence = tuple([fields[column] for column in texts])
        if not all(map(str.strip, sequence)):
            empty = next(column for column in texts if not fields[column].strip())
            raise UserError(f"{path}:{number}: the text in column {empty + 1} is empty")
        identifier = str(number - first_row - 1) if id_column is None else fields[id_column]
        if id_column is not None:
            _check_id(identifier, number, ids, path)
        examples.append(Example(identifier, language, (sequence,), label, f"{path}:{number}"))
    return examples


def _lines(path: Path) -> list[str]:
    """The lines without their ends. Only a line feed ends a line: texts hold U+2028 and other exotic separators."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _column_numbers(layout: Layout, first_line: Sequence[str], path: Path) -> dict[str, int]:
    numbers = {}
    for field, column in layout.columns.items():
        if isinstance(column, str):
            if first_line.count(column) != 1:
                problem = "no" if column not in first_line else "more than one"
                raise UserError(f"{path}:1: {problem} column {column!r}; the header has: {', '.join(first_line)}")
            column = first_line.index(column)
        elif column >= len(first_line):
            raise UserError(
                f"{path}:1: {_columns(len(first_line))}, but layout {layout.name!r} needs "
                f"{max(c for c in layout.columns.values() if isinstance(c, int)) + 1} (separated by tabs)"
            )
        numbers[field] = column
    return numbers


def _columns(count: int) -> str:
    return f"{count} column{'' if count == 1 else 's'}"


def _check_id(identifier: str, number: int, ids: dict[str, int], path: Path) -> None:
    if not identifier:
        raise UserError(f"{path}:{number}: the id is empty")
    if (earlier := ids.setdefault(identifier, number)) != number:
        raise UserError(f"{path}:{number}: the id {identifier!r} occurs before, in line {earlier}")


def _not_found(benchmark: Benchmark, folder: Path, split: str, language: str) -> UserError:
    if not folder.is_dir():
        return UserError(f"no such data folder: {folder}")
    tried = [name for _, name in benchmark.files(split, language)]
    if not tried:
        return UserError(f"benchmark {benchmark.name!r} has no {split} split for language {language!r}")
    return UserError(f"no {split} file for language {language!r} in {folder}; looked for: {', '.join(tried)}")
