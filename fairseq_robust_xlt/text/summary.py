"""What a folder of published files holds, read as a benchmark's table says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.audit import audit, fingerprint
from fairseq_robust_xlt.text.coverage import idle_patterns, strangers
from fairseq_robust_xlt.text.examples import Example
from fairseq_robust_xlt.text.formats import quoted_fields
from fairseq_robust_xlt.text.readers import has_ids, locate, present, read_languages

_SHOWN = 8


def summary(benchmark: Benchmark, folder: str | os.PathLike[str], own: bool = False) -> Iterator[str]:
    """A line for each split and language in `folder`: rows, and rows of each label; then one for what the table names
    and the folder has not, one for what only the folder has, and one for each thing that is suspicious (see `audit`).
    Every row is read and checked.

    Raises `UserError` at the end: for whatever `readers.read` refuses, the first fault of each file; for an `own`
    table, which describes these very files, where a pattern finds none, and where the table has training or dev files
    and none of the source language is there. (A published benchmark's folder may hold only what is scored.)
    """
    if not Path(folder).is_dir():
        raise UserError(f"no such data folder: {folder}")
    missing: list[str] = []
    faults: list[str] = []
    nothing = True
    idle = list(idle_patterns(benchmark, folder)) if own else []
    plain: dict[Path, list[int]] = {}
    notes: list[str] = []
    training: set[int] = set()
    for split in SPLITS:
        found: set[str] = set()
        kept: dict[str, list[Example]] = {}
        for part in _read(benchmark, folder, split, faults):
            nothing = False
            found |= part.keys()
            read = {language: rows for language, rows in part.items() if rows is not None}
            plain |= _quoted(benchmark, folder, split, [language for language, rows in read.items() if rows])
            for language, rows in read.items():
                plural = "" if len(rows) == 1 else "s"
                yield f"{split:<5} {language:<4} {len(rows):>7} row{plural}: {_labels(benchmark.labels, rows)}"
            if split == "train":
                # There may be millions of them, and no language's are compared with another's.
                notes += audit(split, read, benchmark.source)
                training |= {fingerprint(row) for rows in read.values() for row in rows}
            else:
                kept |= {language: rows for language, rows in read.items() if rows}
        if kept:
            notes += audit(split, kept, benchmark.source, has_ids(benchmark, folder, split, list(kept)), training)
        patterns = list(dict.fromkeys(layout.files[split] for layout in benchmark.layouts if split in layout.files))
        absent = [language for language in benchmark.languages if language not in found]
        needed = [benchmark.source] if split != "test" and benchmark.source in absent else []
        others = [language for language in absent if language not in needed] if split != "train" else []
        if own and needed and patterns and not any(one == split for one, _ in idle):
            faults.append(_not_there(split, needed, patterns))
            needed = []
        if patterns and [*needed, *others]:
            missing.append(_not_there(split, [*needed, *others], patterns))
    if nothing and not faults:
        patterns = [pattern for layout in benchmark.layouts for pattern in layout.files.values()]
        raise UserError(f"no file of benchmark {benchmark.name!r} in {folder}; looked for: {', '.join(patterns)}")
    yield from missing
    if unnamed := strangers(benchmark, folder):
        more = f" and {len(unnamed) - _SHOWN} more" if len(unnamed) > _SHOWN else ""
        yield f"not in the table: {', '.join(unnamed[:_SHOWN])}{more}"
    yield from notes
    faults += [text for _, text in idle]
    if plain:
        yield _about_quotes(plain)
    if len(faults) > 1:
        raise UserError("\n  ".join([f"{len(faults)} faults:", *faults]))
    if faults:
        raise UserError(faults[0])


def _not_there(split: str, languages: Sequence[str], patterns: Sequence[str]) -> str:
    return f"no {split} file for {', '.join(languages)}; looked for: {', '.join(patterns)}"


def _about_quotes(plain: dict[Path, list[int]]) -> str:
    count, files = sum(map(len, plain.values())), len(plain)
    path, lines = next(iter(plain.items()))
    return (
        f"{count} field{'' if count == 1 else 's'} in {files} file{'' if files == 1 else 's'}, the first in "
        f'{path}:{lines[0]}, look like those of a csv writer ("a ""b"" c"), and are read with all their quotes; '
        "if one has made the files, quoted: true in the layout of a table of your own reads them without"
    )


def _quoted(
    benchmark: Benchmark, folder: str | os.PathLike[str], split: str, languages: Sequence[str]
) -> dict[Path, list[int]]:
    """The files that are read as plain TSV and hold fields that look quoted, with the lines of these."""
    places = [locate(benchmark, folder, split, language) for language in languages]
    paths = [place[1] for place in places if place and place[0].format == "tsv" and not place[0].quoted]
    return {path: lines for path in paths if (lines := quoted_fields(path))}


def _read(
    benchmark: Benchmark, folder: str | os.PathLike[str], split: str, faults: list[str]
) -> Iterator[dict[str, list[Example] | None]]:
    """File by file the examples of every language that is there: None for one whose file has a fault, which is added to
    `faults`."""
    try:
        languages = present(benchmark, folder, split)
    except UserError as error:  # in a file of all languages, so that nobody can say which ones it has
        faults.append(str(error))
        languages = ()
    by_file: dict[Path, list[str]] = {}
    for language in languages:
        if place := locate(benchmark, folder, split, language):
            by_file.setdefault(place[1], []).append(language)
    for mine in by_file.values():
        found: dict[str, list[Example] | None] = dict.fromkeys(mine)
        try:
            found |= read_languages(benchmark, folder, split, mine)
        except UserError as error:
            faults.append(str(error))
        yield found


def _labels(labels: Sequence[str], rows: Sequence[Example]) -> str:
    counts = Counter("no label" if row.label is None else labels[row.label] for row in rows)
    if len(counts) <= _SHOWN:
        shown = [f"{label} {counts[label]}" for label in (*labels, "no label") if label in counts]
        missing = [label for label in labels if label not in counts] if len(labels) <= _SHOWN else []
        return ", ".join([*shown, *(f"{label} 0" for label in missing if len(shown) > 1 or "no label" not in counts)])
    (most, highest), (least, lowest) = counts.most_common(1)[0], counts.most_common()[-1]
    return f"{len(counts)} labels, {lowest} ({least}) to {highest} ({most}) rows each"
