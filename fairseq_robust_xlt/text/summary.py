"""What a folder of published files holds, read as a benchmark's table says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.examples import Example
from fairseq_robust_xlt.text.readers import present, read_languages

_SHOWN = 8


def summary(benchmark: Benchmark, folder: str | os.PathLike[str]) -> Iterator[str]:
    """A line for each split and language in `folder`: rows, and rows of each label; then one for what the table names
    and the folder has not. Every row is read and checked.

    Raises `UserError` for whatever `readers.read` refuses, and where no file of the table is there.
    """
    missing = []
    nothing = True
    for split in SPLITS:
        languages = present(benchmark, folder, split)
        by_language = read_languages(benchmark, folder, split, languages)
        for language in languages:
            nothing = False
            rows = by_language[language]
            plural = "" if len(rows) == 1 else "s"
            yield f"{split:<5} {language:<4} {len(rows):>7} row{plural}: {_labels(benchmark.labels, rows)}"
        patterns = list(dict.fromkeys(layout.files[split] for layout in benchmark.layouts if split in layout.files))
        absent = [language for language in benchmark.languages if language not in languages]
        if split == "train":
            absent = [] if languages else [benchmark.source]
        if patterns and absent:
            missing.append(f"no {split} file for {', '.join(absent)}; looked for: {', '.join(patterns)}")
    if nothing:
        patterns = [pattern for layout in benchmark.layouts for pattern in layout.files.values()]
        raise UserError(f"no file of benchmark {benchmark.name!r} in {folder}; looked for: {', '.join(patterns)}")
    yield from missing


def _labels(labels: Sequence[str], rows: Sequence[Example]) -> str:
    counts = Counter("no label" if row.label is None else labels[row.label] for row in rows)
    if len(counts) <= _SHOWN:
        shown = [f"{label} {counts[label]}" for label in (*labels, "no label") if label in counts]
        missing = [label for label in labels if label not in counts] if len(labels) <= _SHOWN else []
        return ", ".join([*shown, *(f"{label} 0" for label in missing if len(shown) > 1 or "no label" not in counts)])
    (most, highest), (least, lowest) = counts.most_common(1)[0], counts.most_common()[-1]
    return f"{len(counts)} labels, {lowest} ({least}) to {highest} ({most}) rows each"
