"""A user's files as rows of columns, before anything is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairseq_robust_xlt.benchmarks import Layout
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import formats
from fairseq_robust_xlt.text.drafting.columns import Column, has_header, plain
from fairseq_robust_xlt.text.drafting.naming import DataFile


@dataclass
class Sample:
    """A file's rows, up to the first that cannot be read: what is wrong with it is the reader's to say, once there is
    a table. `places` are column numbers or JSON paths; `header` is what the first line names the columns."""

    file: DataFile
    format: str
    places: list[str | int]
    rows: list[Sequence[Any]]
    fault: UserError | None
    header: list[str] | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """Equal for files that look alike."""
        return (self.format, *(self.header or ()), *self.places)

    def columns(self) -> list[tuple[str | int, str]]:
        """Where a column is, as a table says it, and what messages call it."""
        if self.format == "jsonl":
            return [(place, str(place)) for place in self.places]
        if self.header is None:
            return [(place, f"column {place}") for place in self.places]
        names = self.header
        return [
            (name if name and names.count(name) == 1 else number, name or f"column {number}")
            for number, name in enumerate(names)
        ]

    def values(self, place: Any) -> list[str]:
        """What is in the column that a table finds at this place, as the reader takes it; nothing where it is not."""
        numbers = [number for number, (where, _) in enumerate(self.columns()) if where == place]
        found = [row[number] for row in self.rows for number in numbers]
        return [plain(value) for value in found if value not in (None, "") and not isinstance(value, list | dict)]


def sample(file: DataFile) -> Sample | None:
    """What a file holds; None for a text file without tabs. Raises `UserError` for a separator that no reader knows."""
    format = _format(file)
    if format is None:
        return None
    try:
        places: list[str | int] = list(formats.columns(file.path, format))
        if format != "jsonl":
            places = list(range(len(places)))
        _, found = formats.rows(file.path, Layout("", {}, {}, format), places, places)
    except UserError as error:
        return Sample(file, format, [], [], error)
    rows: list[Sequence[Any]] = []
    fault = None
    try:
        rows.extend(values for _, values in found)
    except UserError as error:
        fault = error
    return Sample(file, format, places, rows, fault)


def find_headers(samples: Sequence[Sample]) -> None:
    """Say of each TSV and CSV file whether its first line names the columns: by itself, or because its cells are names
    in another file."""
    tables = [one for one in samples if one.format != "jsonl" and one.rows]
    for one in tables:
        if has_header(one.rows):
            one.header = list(one.rows[0])
    names = {cell for one in tables if one.header for cell in one.header}
    for one in tables:
        if one.header is None and set(one.rows[0]) <= names:
            one.header = list(one.rows[0])
        if one.header is not None:
            one.rows = one.rows[1:]


def columns(samples: Sequence[Sample]) -> list[Column]:
    """The columns of files that look alike."""
    numbered = samples[0].format != "jsonl"
    paths = [one.file.path for one in samples]
    return [
        Column(
            *(place, name, [[row[position] for row in one.rows] for one in samples]),
            *(position if numbered else None, paths),
        )
        for position, (place, name) in enumerate(samples[0].columns())
    ]


def _format(file: DataFile) -> str | None:
    """By what stands in the first line, whatever the file's name ends with."""
    suffix = file.path.suffix
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    try:
        fields = formats.columns(file.path, "tsv")
        commas = len(formats.columns(file.path, "csv")) > 1
    except UserError:  # the reader will say it
        return "csv" if suffix == ".csv" else "tsv"
    tabs = len(fields) > 1
    if suffix == ".csv":
        if not commas and not tabs and ";" in "".join(fields):
            raise UserError(f"{file.path}:1: separated by semicolons; a CSV file needs commas, a TSV file tabs")
        return "csv" if commas or not tabs else "tsv"
    if suffix == ".txt":
        return "tsv" if tabs else None
    return "tsv" if tabs or not commas else "csv"
