"""What the names of `--train-subset` and `--valid-subset` mean."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.examples import Example
from fairseq_robust_xlt.text.readers import has_ids, present, read_languages

logger = logging.getLogger(__name__)

#: What stands for all ordered pairs of languages in a subset's name.
PAIRS = "pairs"


@dataclass(frozen=True)
class Subset:
    """A subset's name resolved: the split, the languages to read in the table's order, and those that are missing.

    `pairs` are the language pairs of the generalized setting (first text in one language, second in the other; Huang
    et al. 2021, arXiv 2104.08645), none for a subset whose examples are in one language each.
    """

    name: str
    split: str
    languages: tuple[str, ...]
    missing: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()


def resolve(benchmark: Benchmark, folder: str | os.PathLike[str], subset: str) -> Subset:
    """Which split and languages a subset's name means for the files in `folder`.

    `train` is the source language's training set, `valid` its dev set; `train-sw`, `dev-sw`, `test-sw` name a language;
    `dev` and `test` mean every language present; `test-en-sw` pairs the first texts of one language with the second
    texts of another, `test-pairs` all languages present, in every order. `missing` are languages of the table that
    have no file, where all were asked for.
    Raises `UserError` for an unknown subset or language, for pairs of a benchmark of another kind, and where no file is
    there; a file's content is not looked at (but for which languages a file of all languages holds).
    """
    if subset == "valid":
        return Subset(subset, "dev", (benchmark.source,), ())
    split, *codes = subset.split("-")
    if split not in SPLITS or len(codes) > 2 or "" in codes:
        forms = ["train", "valid", "dev", "test", *(f"{name}-LANGUAGE" for name in SPLITS)]
        if benchmark.kind == "pair":
            forms += [form for name in SPLITS[1:] for form in (f"{name}-LANGUAGE-LANGUAGE", f"{name}-{PAIRS}")]
        raise errors.unknown("subset", subset, forms)
    meant = benchmark.language("-".join(codes)) or benchmark.language("_".join(codes))
    if len(codes) == 2 and meant and not all(map(benchmark.language, codes)):
        raise UserError(f"subset {subset}: no '-' in a language; did you mean {split}-{meant}?")
    paired = len(codes) == 2 or codes == [PAIRS]
    if paired and split == "train":
        raise UserError(f"subset {subset}: training data are in one language")
    if paired and benchmark.kind != "pair":
        raise UserError(f"subset {subset}: needs a benchmark of pairs, {benchmark.name} is of kind {benchmark.kind}")
    if codes and codes != [PAIRS]:
        languages = tuple(_language(benchmark, code, subset) for code in codes)
        pairs = ((languages[0], languages[1]),) if paired else ()
        return Subset(subset, split, tuple(dict.fromkeys(languages)), (), pairs)
    if split == "train":
        return Subset(subset, split, (benchmark.source,), ())
    here, missing = _every_language(benchmark, Path(folder), split)
    return Subset(subset, split, here, missing, tuple(itertools.product(here, here)) if paired else ())


def load_subset(benchmark: Benchmark, folder: str | os.PathLike[str], subset: str | Subset) -> list[Example]:
    """The examples of a subset, language after language or pair after pair: a name (see `resolve`) or what it means.

    Raises `UserError` for whatever `readers.read` refuses, and for pairs of languages that are not line-aligned.
    """
    resolved = resolve(benchmark, folder, subset) if isinstance(subset, str) else subset
    by_language = read_languages(benchmark, folder, resolved.split, resolved.languages)
    if not resolved.pairs:
        return [example for language in resolved.languages for example in by_language[language]]
    identified = has_ids(benchmark, folder, resolved.split, resolved.languages)
    aligned = _aligned(by_language, identified)
    return list(_paired(aligned, resolved.pairs))


def _aligned(by_language: dict[str, list[Example]], identified: bool) -> dict[str, list[Example]]:
    """The same examples in every language, in the same order: by their ids where the files have them (an example
    that a language lacks is left out), else by their line.

    Raises `UserError` where neither is possible, or a gold label differs: texts of different examples would be paired.
    """
    first_language, first = next(iter(by_language.items()))
    if identified:
        common = set.intersection(*({example.id for example in rows} for rows in by_language.values()))
        if not common:
            raise UserError(f"no example has the same id in all of {', '.join(by_language)}: they cannot be paired")
        order = [example.id for example in first if example.id in common]
        lost = {language: len(rows) - len(order) for language, rows in by_language.items() if len(rows) > len(order)}
        if lost:
            logger.warning(
                "pairs: %d examples are in all of %s; left out: %s",
                len(order),
                " ".join(by_language),
                ", ".join(f"{count} of {language}" for language, count in lost.items()),
            )
        aligned = {}
        for language, rows in by_language.items():
            by_id = {example.id: example for example in rows}
            aligned[language] = [by_id[identifier] for identifier in order]
    else:
        aligned = by_language
        labelled = any(example.label is not None for rows in by_language.values() for example in rows)
        if len(by_language) > 1 and not labelled:
            logger.warning("pairs: no ids and no labels: %s are aligned by line number only", " ".join(by_language))
    for language, rows in aligned.items():
        if len(rows) != len(first) and not identified:
            raise UserError(
                f"{language} has {len(rows)} rows ({_file(rows)}) and {first_language} {len(first)} ({_file(first)}): "
                "the files are not line-aligned and have no ids, so texts of different examples would be paired"
            )
        for mine, other in zip(rows, aligned[first_language], strict=True):
            if mine.label != other.label:
                raise UserError(
                    f"{mine.where} and {other.where} have different labels: the files are not line-aligned, so texts "
                    "of different examples would be paired"
                )
    return aligned


def _paired(aligned: dict[str, list[Example]], pairs: Sequence[tuple[str, str]]) -> Iterator[Example]:
    for first, second in pairs:
        for one, other in zip(aligned[first], aligned[second], strict=True):
            texts = (one.sequences[0][0], other.sequences[0][1])
            yield Example(one.id, f"{first}-{second}", (texts,), one.label, one.where)


def _file(rows: Sequence[Example]) -> str:
    return rows[0].where.rpartition(":")[0]


def _language(benchmark: Benchmark, code: str, subset: str) -> str:
    language = benchmark.language(code)
    if language is None:
        raise errors.unknown("language", code, benchmark.languages, f"subset {subset}")
    return language


def _every_language(benchmark: Benchmark, folder: Path, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The languages that are there and those that are not."""
    if not folder.is_dir():
        raise UserError(f"no such data folder: {folder}")
    here = present(benchmark, folder, split)
    if not here:
        patterns = [layout.files[split] for layout in benchmark.layouts if split in layout.files]
        if not patterns:
            raise UserError(f"benchmark {benchmark.name!r} has no {split} split")
        raise UserError(f"no {split} file of any language in {folder}; looked for: {', '.join(patterns)}")
    return here, tuple(code for code in benchmark.languages if code not in here)
