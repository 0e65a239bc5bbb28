"""The options of a multiple choice in a user's files: where they are, and how the answers name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fairseq_robust_xlt.benchmarks.table import Column as Place
from fairseq_robust_xlt.text.drafting.columns import Column, plain

_PREFIXES = ("choice", "option", "opt", "ending", "answer", "alternative", "solution", "sol")
_SERIES = re.compile(r"(.*?)[ _.-]?([0-9]|[A-Ha-h])")
_MOST = 10


@dataclass(frozen=True)
class Options:
    """The options of every row: `place` as a table has it, the columns they are in, how many there are, and the labels
    that they have themselves (none where they are counted)."""

    place: Place
    columns: list[Column]
    count: int
    own_labels: list[str]

    def labels(self, answers: set[str]) -> list[str] | None:
        """The options' labels in their order, of which the answers are some: their own, their columns' names, or how
        they are counted; None where the answers are none of these, or fit two of them (1 to n - 1 alone)."""
        if self.own_labels:
            return self.own_labels if answers and answers <= set(self.own_labels) else None
        counted = [[chr(ord(start) + i) for i in range(self.count)] for start in ("0", "1", "A", "a")]
        counted.append([str(column.place) for column in self.columns])
        fitting = {tuple(labels) for labels in counted if answers and answers <= set(labels)}
        return list(fitting.pop()) if len(fitting) == 1 else None

    def __str__(self) -> str:
        return ", ".join(column.name for column in self.columns)


def find_options(columns: Sequence[Column]) -> Options | None:
    """A list in JSON of the same length in nearly all rows, or columns that are counted from 0, 1 or A under the same
    name: choice1, choice2 (of other names there must be three: text_a and text_b are a pair)."""
    lists = [column for column in columns if _usual_length(column)]
    if lists:
        # A list that is the same in all rows is one of labels.
        return _in_list(max(lists, key=lambda column: len({str(value) for value in column.values})))
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
