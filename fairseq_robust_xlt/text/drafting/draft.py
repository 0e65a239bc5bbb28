"""A benchmark table for a user's files, from what is found in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fairseq_robust_xlt.benchmarks import Benchmark, Layout
from fairseq_robust_xlt.benchmarks.schema import SPLITS
from fairseq_robust_xlt.errors import UserError, shortened
from fairseq_robust_xlt.text.drafting.guessing import Guess, fitted, guess, in_order
from fairseq_robust_xlt.text.drafting.layouts import find_layouts, own
from fairseq_robust_xlt.text.drafting.naming import DataFile, find
from fairseq_robust_xlt.text.drafting.remarks import (
    labels_alike,
    no_dev_set,
    not_languages,
    other_languages,
    unknown_labels,
    unknown_languages,
    unread_questions,
)
from fairseq_robust_xlt.text.drafting.rendering import render
from fairseq_robust_xlt.text.drafting.samples import Sample, columns, find_headers, sample
from fairseq_robust_xlt.text.readers import locate


def draft(
    folder: Path, name: str, source: str | None = None, label: str | None = None, texts: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """The text of a benchmark table that describes the files in `folder`, and remarks on what it leaves out.

    source: the language of the training data; None to take it from the files. label, texts: the columns that hold them,
    where that cannot be told: header names, numbers from 0, or JSON paths.
    Raises `UserError` for files of which no table can be made.
    """
    files, remarks = find(folder, source)
    samples = [one for one in map(sample, files) if one is not None]
    remarks += [
        f"not used: {file.pattern} (text without tabs)" for file in files if file not in [s.file for s in samples]
    ]
    find_headers(samples)
    guesses = _guesses(samples, label, texts)
    languages = {id(one): _languages(one, found) for one, found in guesses}
    codes = {code for of_file in languages.values() for code in of_file}
    training = [languages[id(one)] for one, _ in guesses if one.file.split == "train"]
    mine = _source(source, codes, training)
    _check_once(guesses, languages, mine)
    layouts = find_layouts(guesses, languages)
    labels = _labels(guesses)
    remarks += [*unknown_languages(guesses, languages, mine), *other_languages(guesses), *unknown_labels(guesses)]
    remarks += [*labels_alike(labels), *unread_questions(guesses), *no_dev_set(guesses, languages, mine)]
    text = render(name, mine, {own(code) for code in codes} | {mine}, labels, layouts, guesses, remarks)
    _check_read(text, folder, guesses, languages)
    return text, remarks


def _guesses(samples: Sequence[Sample], label: str | None, texts: Sequence[str]) -> list[tuple[Sample, Guess]]:
    """What each file's columns hold: guessed of all files that look alike, those with training and dev data first. A
    test file without labels is read as the others, by what it has."""
    shapes: dict[tuple[Any, ...], list[Sample]] = {}
    for one in samples:
        if one.rows:
            shapes.setdefault(one.shape, []).append(one)
    faults = [one.fault for one in samples if one.fault]
    if not shapes:
        empty = ", ".join(one.file.pattern for one in samples) or "text without tabs"
        raise faults[0] if faults else UserError(f"no rows in what was found: {empty}")
    found: dict[tuple[Any, ...], Guess] = {}
    for shape, alike in sorted(shapes.items(), key=lambda item: min(SPLITS.index(s.file.split) for s in item[1])):
        only_test = all(one.file.split == "test" for one in alike)
        fitting = [known for known in found.values() if only_test and _fits(known, alike[0])]
        in_names = all(one.file.language is not None for one in alike)
        try:
            if fitting:
                found[shape] = fitted(fitting[0], columns(alike), in_names)
            else:
                found[shape] = guess(columns(alike), in_names, label, texts, _where(alike))
        except UserError:
            if faults:
                raise faults[0] from None
            raise
    first = next(iter(found.values()))
    for shape, other in found.items():
        if other.kind != first.kind:
            raise UserError(
                f"{_where(shapes[shape])} looks like kind {other.kind} ({other.comments['kind']}) and the files before "
                f"it like kind {first.kind} ({first.comments['kind']}): one table has one kind"
            )
    readable = [one for one in samples if one.rows]
    for one in samples:
        if not one.rows:  # it is taken to look like the others of its format
            like = next((other for other in readable if other.format == one.format), None)
            if like is None:
                raise one.fault or UserError(f"{one.file.path}: the file has no rows")
            one.places, one.header = like.places, like.header
    return [(one, found[one.shape]) for one in samples]


def _where(alike: Sequence[Sample]) -> str:
    more = f" and {len(alike) - 1} more like it" if len(alike) > 1 else ""
    return f"{alike[0].file.path}{more}"


def _fits(known: Guess, one: Sample) -> bool:
    """Whether a file has the columns that must be there, all but the label; and the label, if they say where."""
    has = {place for place, _ in one.columns()}
    needed = set()
    for name, place in known.columns.items():
        if name not in ("label", "id"):
            needed |= set(place) if isinstance(place, list) else {place["list"] if isinstance(place, dict) else place}
    return needed <= has


def _languages(one: Sample, found: Guess) -> list[str]:
    """The languages of a file as it spells them; none where nothing says so."""
    if one.file.language is not None:
        return [one.file.language]
    return sorted(set(one.values(found.columns.get("language"))))


def _source(given: str | None, codes: set[str], training: Sequence[Sequence[str]]) -> str:
    """The table's code of the training data's language. `training`: the languages of each training file, none where
    nothing says so."""
    known = {own(code) for code in codes}
    trained = {own(code) for of_file in training for code in of_file}
    unnamed = not all(training)
    if given is not None:
        if trained and not unnamed and given not in trained:
            raise UserError(f"--source {given}: the training files are in {', '.join(sorted(trained))}")
        return given
    among = trained if trained and not unnamed else known
    english = sorted(code for code in among if re.fullmatch(r"en|eng|english|eng?_.*", code, re.IGNORECASE))
    if english:
        return english[0]
    if len(trained) == 1 and not unnamed:
        return trained.pop()
    if unnamed or not known:
        return "en"
    raise UserError(
        f"which is the language of the training data? found {', '.join(sorted(among))}; say it with --source"
    )


def _check_once(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]], source: str) -> None:
    """Raise `UserError` where two files would be the same split of the same language."""
    seen: dict[tuple[str, str], DataFile] = {}
    for one, _ in guesses:
        for code in languages[id(one)] or [source]:
            other = seen.setdefault((one.file.split, own(code)), one.file)
            if other is not one.file:
                unknown = [file for file in (other, one.file) if file.words]
                raise UserError(
                    f"{other.path} and {one.file.path} would both be the {one.file.split} set of {own(code)}; keep "
                    "one of them in the folder, or rename it" + "".join(f"; {not_languages(file)}" for file in unknown)
                )


def _labels(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """The labels of all files. Raises `UserError` for one that no table can hold, and for different ones of options."""
    for one, its in guesses:
        for value in one.values(its.columns["label"]):
            if any(character in value for character in "\t\r\n"):
                raise UserError(
                    f"{one.file.path}: the label {shortened(repr(value), 60)} holds a tab or a line break; no table "
                    "can have such a label: mend the file, or say with --label which column holds the label"
                )
    distinct = {id(found): found for _, found in guesses}.values()
    first = next(iter(distinct))
    for other in distinct:
        if first.kind == "choice" and other.labels != first.labels:
            raise UserError(
                f"the options are labelled {', '.join(first.labels)} in some files and {', '.join(other.labels)} in "
                "others: one table has one set of labels"
            )
    return first.labels if first.kind == "choice" else in_order({label for found in distinct for label in found.labels})


def _check_read(
    text: str, folder: Path, guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]]
) -> None:
    """Raise `UserError` for files that would not be read, since the table finds another one for the same language."""
    content = yaml.safe_load(text)
    benchmark = Benchmark(
        *(content["name"], str(content["version"]), content["kind"], content["source"]),
        *(tuple(content["languages"]), tuple(content["labels"])),
        tuple(Layout(**layout) for layout in content["layouts"]),
        *("", "", "", text),
    )
    for one, _ in guesses:
        for code in map(own, languages[id(one)] or [benchmark.source]):
            place = locate(benchmark, folder, one.file.split, code)
            if place is None or place[1] != one.file.path:
                instead = f"{place[1]} is" if place else "no file is"
                raise UserError(
                    f"{one.file.path} would not be read: of the {one.file.split} files {instead} the one that a table "
                    f"finds for {code}; keep the rows of both in one file, or in files with the language in their "
                    f"names, such as {one.file.split}-{code}{one.file.path.suffix}"
                )
