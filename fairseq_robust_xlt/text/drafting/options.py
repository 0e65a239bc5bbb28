"""The options of a multiple choice in a user's files: where they are, and how the answers name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fairseq_robust_xlt.benchmarks.table import Column as Place
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.drafting.columns import Column, plain

_PREFIXES = ("choice", "option", "opt", "ending", "answer", "alternative", "solution", "sol")
_SERIES = re.compile(r"(.*?)[ _.-]?([0-9]|[A-Ha-h])")
_MOST = 10


@dataclass(frozen=True)
class Options:
    """The options of every row: `place` as a table has it, the columns they are in, how many there are, and the labels
    that they have themselves (none where they are counted). `beside` is a list of labels beside the list of texts."""

    place: Place
    columns: list[Column]
    count: int
    own_labels: list[str]
    beside: Column | None = None

    def labels(self, answers: set[str]) -> list[str] | None:
        """The options' labels in their order, of which the answers are some: their own, their columns' names, or how
        they are counted; None where the answers are none of these, or fit two of them (1 to n - 1 alone)."""
        if self.own_labels:
            return self.own_labels if answers and answers <= set(self.own_labels) else None
        counted = [[chr(ord(start) + i) for i in range(self.count)] for start in ("0", "1", "A", "a")]
        counted.append([str(column.place) for column in self.columns])
        fitting = {tuple(labels) for labels in counted if answers and answers <= set(labels)}
        return list(fitting.pop()) if len(fitting) == 1 else None

    def naming(self) -> str:
        """How an answer may name an option, for messages."""
        if self.own_labels:
            return f"by its label ({', '.join(self.own_labels)})"
        return "by its label, its number or its column"

    def comment(self) -> str:
        return f"{self.count} in each row" + (
            f", labelled alike in all rows by {self.beside.name}" if self.beside else ""
        )

    def __str__(self) -> str:
        return ", ".join(column.name for column in self.columns)


def find_options(columns: Sequence[Column]) -> Options | None:
    """A list in JSON of the same length in nearly all rows, or columns that are counted from 0, 1 or A under the same
    name: choice1, choice2 (of other names there must be three: text_a and text_b are a pair).

    Raises `UserError` for a list of labels beside that of the texts which is not the same in every row, and for lists
    of options whose lengths vary.
    """
    lists = [column for column in columns if _usual_length(column)]
    if not lists:
        _check_lengths(columns)
    if lists:
        # A list that is the same in all rows is one of labels.
        texts = max(lists, key=lambda column: len({str(value) for value in column.values}))
        options = _in_list(texts)
        beside = [column for column in lists if column is not texts and _holds_labels(column, texts)]
        objects = options.place != {"list": str(texts.place)}
        return options if objects or not beside else _labelled_beside(options, beside[0])
    series: dict[str, list[tuple[str, Column]]] = {}
    for column in columns:
        if isinstance(column.place, str) and (match := _SERIES.fullmatch(column.name)):
            series.setdefault(match[1].lower(), []).append((match[2].upper(), column))
    for prefix, members in series.items():
        found = [column for _, column in members]
        ends = [ord(end) for end, _ in members]
        in_order = ends == list(range(ends[0], ends[0] + len(ends))) and members[0][0] in "01A"
        different = set().union(*(column.distinct for column in found))
        enough = len(members) > 2 or (len(members) == 2 and prefix.rpartition(".")[2] in _PREFIXES)
        if in_order and enough and len(different) > 0.3 * len(found[0].values):
            return Options([column.place for column in found], found, len(found), [])
    return None


def _usual_length(column: Column) -> int:
    """How many items the column's lists have in nine of ten rows; 0 where they vary, or are no lists."""
    lengths = [len(value) if isinstance(value, list) else 0 for value in column.values]
    usual = max(set(lengths), key=lengths.count, default=0)
    return usual if 2 <= usual <= _MOST and lengths.count(usual) >= 0.9 * len(lengths) else 0


def _check_lengths(columns: Sequence[Column]) -> None:
    """Raise `UserError` for lists that are called options and have several lengths: no table describes those."""
    for column in columns:
        called = any(part.lower().removesuffix("s") in _PREFIXES for part in column.name.split("."))
        if not called or not all(isinstance(value, list) and len(value) > 1 for value in column.values):
            continue
        seen: dict[int, str] = {}
        for path, rows in zip(column.paths, column.files, strict=True):
            for line, row in enumerate(rows, 1):
                if isinstance(row, list):
                    seen.setdefault(len(row), f"{path}:{line}")
        if len(seen) > 1:
            (most, one), (count, other) = list(seen.items())[:2]
            raise UserError(
                f"{other}: {column.name}: {count} options, and {most} in {one}; a table has as many options in every "
                "row: keep the rows with each number of options in a folder of their own, with a table each"
            )


def _in_list(column: Column) -> Options:
    """A list of texts, or of objects: their text is the key with the most different values, their label the one with
    the same values in every row."""
    count = _usual_length(column)
    rows = [value for value in column.values if isinstance(value, list) and len(value) == count]
    place = {"list": str(column.place)}
    if not all(isinstance(item, dict) for row in rows for item in row):
        return Options(place, [column], count, [])
    values = {key: [[plain(item.get(key, "")) for item in row] for row in rows] for key in rows[0][0]}
    text = max(values, key=lambda key: len({value for row in values[key] for value in row}))
    for key, by_row in values.items():
        labels = sorted(set(by_row[0]))
        usual = sum(sorted(row) == labels for row in by_row)
        if key != text and len(labels) == count and usual >= 0.9 * len(by_row):
            return Options({**place, "text": text, "label": key}, [column], count, labels)
    return Options({**place, "text": text}, [column], count, [])


def _holds_labels(column: Column, texts: Column) -> bool:
    """Whether a list beside that of the texts labels them: short words that differ within a row, and few in all."""
    rows = [value for value in column.values if isinstance(value, list)]
    words = {plain(item) for row in rows for item in row}
    different = sum(len(set(map(plain, row))) == len(row) for row in rows)
    short = all(len(word) <= 20 and not any(map(str.isspace, word)) for word in words)
    together = column.name.rpartition(".")[0] == texts.name.rpartition(".")[0]
    return together and short and len(words) <= 2 * _MOST and different >= 0.9 * len(rows)


def _labelled_beside(options: Options, beside: Column) -> Options:
    """The options with the labels of a list beside theirs, which a table cannot name: it counts the options, so the
    labels have to stand in the same order in every row."""
    (texts,) = options.columns
    labels: list[str] = []
    first = ""
    for path, all_texts, all_labels in zip(texts.paths, texts.files, beside.files, strict=True):
        for line, (row, given) in enumerate(zip(all_texts, all_labels, strict=True), 1):
            if not isinstance(row, list) or len(row) != options.count:
                continue  # this is the reader's to say
            mine = [plain(item) for item in given] if isinstance(given, list) else []
            if not labels and len(set(mine)) == options.count:
                labels, first = mine, f"{path}:{line}"
            if mine != labels:
                here, other = ", ".join(mine) or "missing", f" and {', '.join(labels)} in {first}" if labels else ""
                raise UserError(
                    f"{path}:{line}: the options' labels ({beside.name}) are {here}{other}; a table counts the "
                    "options of such a list, so their labels must be the same in every row, in the same order; or make "
                    "it a list of objects, each with a text and a label"
                )
    return Options(options.place, options.columns, options.count, labels, beside)
