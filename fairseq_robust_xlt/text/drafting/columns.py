"""A column of a user's files, and what its name and values alone say of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fairseq_robust_xlt.errors import shortened

# The likeliest first.
LABELS = (
    *("label", "gold_label", "labels", "gold", "answer", "answerkey", "category", "class", "target", "topic", "intent"),
    *("sentiment", "emotion", "correct", "y"),
)
SENTENCES = ("text", "sentence", "message", "utterance", "content", "review", "tweet", "document", "body", "query")
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("premise", "hypo"), ("question1", "question2")),
    *(("text_a", "text_b"), ("text1", "text2"), ("first", "second"), ("question", "sentence"), ("query", "document")),
)
LANGUAGES = ("language", "lang", "locale", "language_code")
IDS = re.compile(r"(?i:(?:.*[_-])?(?:id|idx|index|guid|uid|uuid|key))|[A-Za-z]*[a-z]I[Dd]")
HEADER_NAMES = {*LABELS, *SENTENCES, *LANGUAGES, *(name for pair in PAIRS for name in pair), "id", "idx", "index"}
_MOST_LABELS = 200


@dataclass
class Column:
    """A column of the files that look alike: where it is, what messages call it, its values file by file, its number in
    a table (none in JSON), and the files."""

    place: str | int
    name: str
    files: list[list[Any]]
    number: int | None = None
    paths: Sequence[Path] = ()

    @property
    def key(self) -> str:
        """The name without the objects around it in JSON, in small letters."""
        return self.name.rpartition(".")[2].lower()

    @cached_property
    def values(self) -> list[Any]:
        """Those that are there."""
        return [value for values in self.files for value in values if value not in (None, "")]

    @cached_property
    def texts(self) -> list[str]:
        """The values as text; a list is none."""
        return [plain(value) for value in self.values if not isinstance(value, list | dict)]

    @cached_property
    def distinct(self) -> set[str]:
        return set(self.texts)

    def count(self) -> str:
        """How many values it has, for comments and messages."""
        if self.values and not self.texts:
            return f"lists in {len(self.values)} rows"
        several = "" if len(self.distinct) == 1 else "s"
        return f"{len(self.distinct)} value{several} in {len(self.values)} rows"

    def is_text(self) -> bool:
        """Whether most values have letters, and many a space or letters of a script without spaces."""
        rows = self.texts
        letters = sum(any(c.isalpha() for c in text) for text in rows)
        wordy = sum(any(c.isspace() or (c > "\u02ff" and c.isalpha()) for c in text.strip()) for text in rows)
        return bool(rows) and letters > 0.5 * len(rows) and wordy > 0.3 * len(rows)

    def is_label(self) -> bool:
        """Whether it has few values, all short."""
        most = min(_MOST_LABELS, len(self.texts) // 2)
        return 2 <= len(self.distinct) <= most and all(
            len(text) <= 60 and len(text.split()) <= 4 for text in self.distinct
        )


def plain(value: Any) -> str:
    """A value as the reader takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: short different texts of which one is a usual name, or stands where all
    other rows have a few values again and again; and none of them recurs in its column."""
    first, *rest = rows
    cells = [cell.strip() for cell in first]
    if any(not cell or len(cell) > 40 or _number(cell) for cell in cells[1:]) or len(set(cells)) < len(cells):
        return False
    if not rest or len(cells[0]) > 40 or _number(cells[0]):
        return cells[0].lower() in HEADER_NAMES and not rest
    for position, cell in enumerate(cells):
        column = Column(position, cell, [[row[position] for row in rest if len(row) > position]])
        if cell in column.distinct:
            continue
        if cell.lower() in HEADER_NAMES or (column.is_label() and len(column.texts) >= 4):
            return True
    return False


def seen(columns: Iterable[Column]) -> str:
    """The columns as messages list them."""
    return shortened("; ".join(f"{column.name[:60]}: {column.count()}" for column in columns), 600)


def _number(text: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9]+(?:[.,][0-9]+)?", text) is not None
