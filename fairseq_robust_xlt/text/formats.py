"""Files to rows of fields: tab-separated values, comma-separated values and JSON lines.

In TSV tabs split fields and quotes are plain characters: the published files of these benchmarks hold unbalanced
quotes, and a CSV reader silently swallows the rows between two of them (huggingface/datasets#1763 lost 199 training
pairs so). In CSV, and in TSV that is said to be quoted, they mean what RFC 4180 says.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fairseq_robust_xlt.benchmarks import Layout
from fairseq_robust_xlt.errors import UserError, shortened

_QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')

#: A row: the number of its (first) line, and its values as they were asked for; None for an optional one that is not
#: there. In TSV and CSV all others are text, in JSON lines whatever stands there.
Row = tuple[int, Sequence[Any]]


def rows(
    path: Path, layout: Layout, wanted: Sequence[str | int], optional: Collection[str | int] = ()
) -> tuple[list[str], Iterator[Row]]:
    """What messages call the wanted columns, and the values of these columns row by row.

    Raises `UserError` with file and line for a file that cannot be read or has no rows, invalid UTF-8, CSV or JSON, a
    row of another width, and a column that is not there, unless it is one of the `optional`.
    """
    if layout.format == "jsonl":
        return [f"field {name!r}" for name in wanted], _objects(path, [str(name) for name in wanted], optional)
    if layout.format == "csv" or layout.quoted:
        lines = _csv(path, "," if layout.format == "csv" else "\t")
    else:
        lines = _tsv(path)
    return _table(path, lines, layout, wanted, optional)


def columns(path: Path, format: str) -> list[str]:
    """The first line of a TSV or CSV file as fields, or the dotted paths of a JSON-lines file's first object."""
    if format == "jsonl":
        return list(_paths(_object(path, 1, next(iter(_lines(path)), "{}"))))
    lines = _csv(path) if format == "csv" else _tsv(path)
    return next(lines, (1, []))[1]


def quoted_fields(path: Path) -> list[int]:
    """The lines of the fields of a TSV file that look like those of a csv writer: in quotes, with doubled quotes inside
    (one line for each such field). Those of plain texts that only begin and end with a quote are none, and so are all
    of a file that no csv writer has made: its quotes are not balanced, or rows go lost between two of them."""
    plain = list(_tsv(path))
    found = [number for number, fields in plain for field in fields if _QUOTED.fullmatch(field)]
    try:
        return found if found and sum(1 for _ in _csv(path, "\t")) == len(plain) else []
    except UserError:
        return []


def _paths(record: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _lines(path: Path) -> list[str]:
    """The lines without their ends. Only a line feed ends a line: texts hold U+2028 and other exotic separators."""
    lines = _text(path).replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error


def _tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_lines(path), 1):
        yield number, line.split("\t")


def _csv(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for fields in reader:
            yield number, fields
            number = reader.line_num + 1  # a field in quotes may span lines
    except csv.Error as error:
        raise UserError(f"{path}:{number}: not valid {'CSV' if delimiter == ',' else 'quoted TSV'}: {error}") from error


def _table(
    path: Path,
    lines: Iterator[tuple[int, list[str]]],
    layout: Layout,
    wanted: Sequence[str | int],
    optional: Collection[str | int],
) -> tuple[list[str], Iterator[Row]]:
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path}: the file has no rows")
    _check_line(path, *first)
    width = len(first[1])
    numbers = [_number(path, layout, column, first[1], column in optional) for column in wanted]
    names = [
        f"column {column if number is None else number + 1}" for column, number in zip(wanted, numbers, strict=True)
    ]

    def body() -> Iterator[Row]:
        found = False
        for number, fields in lines if layout.header else _again(first, lines):
            found = True
            if len(fields) != width:
                _check_line(path, number, fields)
                raise UserError(f"{path}:{number}: {_columns(len(fields))}, but line 1 has {width}")
            yield number, [None if column is None else fields[column] for column in numbers]
        if not found:
            raise UserError(f"{path}: the file has no rows below its header")

    return names, body()


def _check_line(path: Path, number: int, fields: Sequence[str]) -> None:
    if len(fields) < 2 and not "".join(fields).strip():
        raise UserError(f"{path}:{number}: an empty line")


def _again(first: tuple[int, list[str]], rest: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _number(path: Path, layout: Layout, column: str | int, header: list[str], optional: bool) -> int | None:
    if isinstance(column, str):
        if optional and column not in header:
            return None
        if header.count(column) != 1:
            problem = "no" if column not in header else "more than one"
            raise UserError(f"{path}:1: {problem} column {column!r}; the header has: {shortened(', '.join(header))}")
        return header.index(column)
    if column >= len(header):
        if optional:
            return None
        raise UserError(
            f"{path}:1: {_columns(len(header))}, but layout {layout.name!r} reads column {column + 1} "
            f"(separated by {'commas' if layout.format == 'csv' else 'tabs'})"
        )
    return column


def _columns(count: int) -> str:
    return f"{count} column{'' if count == 1 else 's'}"


def _objects(path: Path, wanted: Sequence[str], optional: Collection[str | int]) -> Iterator[Row]:
    lines = _lines(path)
    if not lines:
        raise UserError(f"{path}: the file has no rows")
    places = [(name, name.split("."), name in optional) for name in wanted]
    for number, line in enumerate(lines, 1):
        record = _object(path, number, line)
        yield number, [_at(record, parts, f"{path}:{number}", name, missing) for name, parts, missing in places]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    if not line.strip():
        raise UserError(f"{path}:{number}: an empty line")
    try:
        record = json.loads(line)
        if "\\ud" in line.lower():  # an escape that may stand for half of a character
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number}: not valid JSON: {error}; expected one object a line") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}:{number}: expected one JSON object a line, found {line[:40]!r}")
    return record


def _at(record: dict[str, Any], parts: Sequence[str], where: str, name: str, optional: bool) -> Any:
    if name in record:  # a key may have a dot in it
        return record[name]
    value: Any = record
    for part in parts:
        if not isinstance(value, dict) or part not in value:
            if optional:
                return None
            raise UserError(f"{where}: no field {name!r}; the object has: {shortened(', '.join(_paths(record)))}")
        value = value[part]
    return value
