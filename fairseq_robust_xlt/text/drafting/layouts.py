"""Which files share a layout of a drafted table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairseq_robust_xlt.text.drafting.guessing import Guess
from fairseq_robust_xlt.text.drafting.samples import Sample


@dataclass
class DraftLayout:
    """A layout in the making, and the samples of its files."""

    guess: Guess
    samples: list[Sample]
    files: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)


def own(code: str) -> str:
    """A language code as a table may have it."""
    return (code.lower() if code.isupper() else code).replace("-", "_")


def find_layouts(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]]) -> list[DraftLayout]:
    """Files that are read alike share a layout, as long as each split has one pattern in it."""
    layouts: list[DraftLayout] = []
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
            layout = DraftLayout(found, [], {one.file.split: one.file.pattern})
            layouts.append(layout)
        layout.samples.append(one)
        layout.codes |= {own(code): code for code in languages[id(one)] if own(code) != code}
    return layouts
