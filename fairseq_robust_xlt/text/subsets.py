"""What the names of `--train-subset` and `--valid-subset` mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.examples import Example
from fairseq_robust_xlt.text.readers import locate, read


@dataclass(frozen=True)
class Subset:
    """A subset's name resolved: the split, the languages to read in the table's order, and those that are missing."""

    name: str
    split: str
    languages: tuple[str, ...]
    missing: tuple[str, ...]


def resolve(benchmark: Benchmark, folder: str | os.PathLike[str], subset: str) -> Subset:
    """Which split and languages a subset's name means for the files in `folder`.

    `train` is the source language's training set, `valid` its dev set; `train-sw`, `dev-sw`, `test-sw` name a language;
    `dev` and `test` mean every language present, and only they may have `missing` languages.
    Raises `UserError` for an unknown subset or language, and where no file is there; a file's content is not looked at.
    """
    if subset == "valid":
        return Subset(subset, "dev", (benchmark.source,), ())
    split, _, language = subset.partition("-")
    if split not in SPLITS or subset.count("-") > 1 or subset.endswith("-"):
        forms = ["train", "valid", "dev", "test", *(f"{name}-LANGUAGE" for name in SPLITS)]
        raise errors.unknown("subset", subset, forms)
    if language:
        if language not in benchmark.languages:
            raise errors.unknown("language", language, benchmark.languages, f"subset {subset}")
        return Subset(subset, split, (language,), ())
    if split == "train":
        return Subset(subset, split, (benchmark.source,), ())
    return _every_language(benchmark, Path(folder), split)


def load_subset(benchmark: Benchmark, folder: str | os.PathLike[str], subset: str) -> list[Example]:
    """The examples of a subset, language after language; see `resolve` for the names and `read` for the errors."""
    resolved = resolve(benchmark, folder, subset)
    return [example for language in resolved.languages for example in read(benchmark, folder, resolved.split, language)]


def _every_language(benchmark: Benchmark, folder: Path, split: str) -> Subset:
    if not folder.is_dir():
        raise UserError(f"no such data folder: {folder}")
    present = tuple(code for code in benchmark.languages if locate(benchmark, folder, split, code))
    if not present:
        patterns = [layout.files[split] for layout in benchmark.layouts if split in layout.files]
        if not patterns:
            raise UserError(f"benchmark {benchmark.name!r} has no {split} split")
        raise UserError(f"no {split} file of any language in {folder}; looked for: {', '.join(patterns)}")
    return Subset(split, split, present, tuple(code for code in benchmark.languages if code not in present))
