"""Which patterns of a table find no file, and which files no language of the table has."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.files import is_file


def idle_patterns(benchmark: Benchmark, folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """The split, and what to say, of every pattern that finds no file for any language."""
    for layout in benchmark.layouts:
        for split, pattern in layout.files.items():
            names = [
                name for code in benchmark.languages for one, name in benchmark.files(split, code) if one is layout
            ]
            if not any(is_file(Path(folder, name)) for name in names):
                yield split, f"layout {layout.name!r}: {split}: {pattern} finds no file in {folder}, in any language"


def strangers(benchmark: Benchmark, folder: str | os.PathLike[str]) -> list[str]:
    """The files, seen from the folder, that a pattern would find for a language that the table has not."""
    named = {name for split in SPLITS for code in benchmark.languages for _, name in benchmark.files(split, code)}
    found: set[str] = set()
    for layout in benchmark.layouts:
        for pattern in layout.files.values():
            if "{lang}" in pattern:
                first, *rest = map(re.escape, pattern.split("{lang}"))
                wanted = re.compile(first + "([A-Za-z][A-Za-z0-9_-]*)" + r"\1".join(rest))
                names = (path.relative_to(folder).as_posix() for path in _any_language(Path(folder), pattern))
                found |= {name for name in names if wanted.fullmatch(name) and name not in named}
    return sorted(found)


def _any_language(folder: Path, pattern: str) -> Iterator[Path]:
    parts = [glob.escape(part) for part in pattern.split("{lang}")]
    return (path for path in folder.glob("*".join(parts)) if is_file(path))
