"""One labelled example, as read from a benchmark's file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled example.

    `sequences` holds what the encoder reads one by one: for a sentence or a pair one sequence, a tuple of one or two
    texts; for a choice one sequence per option. `label` is the class index (the option's number for a choice), None
    where the gold label is not known. `id` is unique within a file, `where` is its file:line.
    """

    id: str
    language: str
    sequences: tuple[tuple[str, ...], ...]
    label: int | None
    where: str
