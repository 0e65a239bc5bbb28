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
    samples: list[Sample] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    #: The table's codes and how these files spell them.
    spellings: dict[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> dict[str, str]:
        return {mine: its for mine, its in self.spellings.items() if mine != its}


def own(code: str) -> str:
    """A language code as a table may have it."""
    return (code.lower() if code.isupper() else code).replace("-", "_")


def find_layouts(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]]) -> list[DraftLayout]:
    """Files that are read alike share a layout, as long as each split has one pattern in it and each language one
    spelling. Those with a column of languages come last: the first layout whose file is there is the one that is
    read, and theirs is there for every language."""
    layouts: list[DraftLayout] = []
    for one, found in guesses:
        # Of two spellings in one column a table needs the one that is not its own.
        spellings = {own(code): code for code in sorted(languages[id(one)], key=lambda code: own(code) != code)}
        for layout in layouts:
            first = layout.samples[0]
            if (
                layout.guess.columns == found.columns
                and first.format == one.format
                and bool(first.header) == bool(one.header)
                and layout.files.get(one.file.split, one.file.pattern) == one.file.pattern
                and all(layout.spellings.get(mine, its) == its for mine, its in spellings.items())
            ):
                break
        else:
            layout = DraftLayout(found)
            layouts.append(layout)
        layout.samples.append(one)
        layout.files[one.file.split] = one.file.pattern
        layout.spellings |= spellings
    return sorted(layouts, key=lambda layout: "language" in layout.guess.columns)
