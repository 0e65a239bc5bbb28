"""Published files to checked examples, as a benchmark's table describes them."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.benchmarks import Benchmark, Layout
from fairseq_robust_xlt.benchmarks.schema import TEXT_FIELDS
from fairseq_robust_xlt.errors import UserError, shortened
from fairseq_robust_xlt.files import is_file
from fairseq_robust_xlt.text import formats
from fairseq_robust_xlt.text.examples import Example

logger = logging.getLogger(__name__)

#: The texts of a row as the encoder reads them, from its values, their names in messages, and its file:line.
Sequences = Callable[[Sequence[Any], Sequence[str], str], tuple[tuple[str, ...], ...]]


class EmptyText(UserError):
    """A row has a text without any characters but blanks."""


def locate(
    benchmark: Benchmark, folder: str | os.PathLike[str], split: str, language: str
) -> tuple[Layout, Path] | None:
    """The first of the benchmark's layouts whose file for this split and language exists, and that file."""
    for layout, name in benchmark.files(split, language):
        path = Path(folder, name)
        if is_file(path):
            return layout, path
    return None


def present(benchmark: Benchmark, folder: str | os.PathLike[str], split: str) -> tuple[str, ...]:
    """The languages of which the folder holds this split, in the table's order."""
    found = {language: locate(benchmark, folder, split, language) for language in benchmark.languages}
    inside: dict[Path, set[str]] = {}
    for layout, path in filter(None, found.values()):
        if _shared(layout, split) and path not in inside:
            _, rows = formats.rows(path, layout, [layout.columns["language"]])  # type: ignore[list-item]
            inside[path] = {_language(benchmark, value, f"{path}:{number}") for number, (value,) in rows}
    return tuple(
        language
        for language, place in found.items()
        if place is not None and (place[1] not in inside or language in inside[place[1]])
    )


def has_ids(benchmark: Benchmark, folder: str | os.PathLike[str], split: str, languages: Sequence[str]) -> bool:
    """Whether the files of all these languages give their examples ids."""
    found = [locate(benchmark, folder, split, language) for language in languages]
    return all(place is not None and "id" in place[0].columns for place in found)


def read(benchmark: Benchmark, folder: str | os.PathLike[str], split: str, language: str) -> list[Example]:
    """The examples of one split ("train", "dev", "test") in one language, in the file's order.

    An example's id is its id column where the layout has one, else its zero-based row number among those of its
    language. A gold label may be missing in a test file (its column, or its value), as benchmarks with a leaderboard
    publish them: then the example's label is None.
    Raises `UserError`, with the file and line, for a missing or empty file, whatever `formats.rows` refuses, an unknown
    label or language, an empty text or id, an id that occurs twice, and options that are not those of the table.
    """
    return read_languages(benchmark, folder, split, [language])[language]


def read_languages(
    benchmark: Benchmark, folder: str | os.PathLike[str], split: str, languages: Sequence[str]
) -> dict[str, list[Example]]:
    """As `read`, for several languages; a file that holds all of them is read once."""
    found: dict[str, list[Example]] = {}
    for language in languages:
        if language in found:
            continue
        place = locate(benchmark, folder, split, language)
        if place is None:
            raise _not_found(benchmark, Path(folder), split, language)
        layout, path = place
        if _shared(layout, split):
            of_file = _read(benchmark, layout, path, split, None)
            here = [code for code in languages if locate(benchmark, folder, split, code) == place]
            for code in here:
                if code not in of_file:
                    languages_there = shortened(", ".join(sorted(of_file)))
                    raise UserError(f"{path}: no rows in language {code!r}; the file has: {languages_there}")
                found[code] = of_file[code]
        else:
            found |= _read(benchmark, layout, path, split, language)
    return found


def _shared(layout: Layout, split: str) -> bool:
    """Whether one file holds this split of all languages."""
    return "language" in layout.columns and "{lang}" not in layout.files[split]


def _read(
    benchmark: Benchmark, layout: Layout, path: Path, split: str, language: str | None
) -> dict[str, list[Example]]:
    """The examples of a file by language: the given one, or for None that of a column.

    Training rows with an empty text are left out where the layout says so, with a warning that counts them.
    """
    texts, sequences = _text_columns(benchmark, layout)
    more = [name for name in ("label", "id", "language") if name in layout.columns]
    at = {name: position for position, name in enumerate(more, len(texts))}
    wanted = [*texts, *(layout.columns[name] for name in more)]
    hidden = [layout.columns["label"]] if split == "test" else []
    names, rows = formats.rows(path, layout, wanted, hidden)  # type: ignore[arg-type]
    classes = {label: index for index, label in enumerate(benchmark.labels)}
    classes |= {spelling: classes[label] for spelling, label in layout.label_names.items()}

    examples: dict[str, list[Example]] = {} if language is None else {language: []}
    ids: dict[tuple[str, str], int] = {}
    skip = split == "train" and layout.empty_rows == "skip"
    skipped: list[int] = []
    read: Counter[str] = Counter()
    for number, values in rows:
        where = f"{path}:{number}"
        code = _language(benchmark, values[at["language"]], where) if "language" in at else language
        assert code is not None
        if language is not None and code != language:
            raise UserError(f"{where}: a row in language {code!r} in a file of {language!r}")
        mine = examples.setdefault(code, [])
        gold = _plain(values[at["label"]], names[at["label"]], where)
        label = classes.get(gold)
        if label is None and not (hidden and gold == ""):
            shown, allowed = shortened(repr(gold)), shortened(", ".join(classes))
            raise UserError(f"{where}: unknown label {shown} in {names[at['label']]}; allowed: {allowed}")
        identifier = str(read[code])
        read[code] += 1
        if "id" in at:
            identifier = _plain(values[at["id"]], names[at["id"]], where)
            _check_id(identifier, number, ids, code, path)
        try:
            given = sequences(values, names, where)
        except EmptyText:
            if not skip:
                raise
            skipped.append(number)
            continue
        mine.append(Example(identifier, code, given, label, where))
    if skipped:
        _say_skipped(path, skipped)
        if not any(examples.values()):
            raise UserError(f"{path}: every row has an empty text")
    return examples


def _say_skipped(path: Path, lines: Sequence[int]) -> None:
    first = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
    what = "row has an empty text and is" if len(lines) == 1 else "rows have an empty text and are"
    logger.warning("%s: %d %s left out (line %s)", path, len(lines), what, first)


def _text_columns(benchmark: Benchmark, layout: Layout) -> tuple[list[Any], Sequences]:
    """The columns that hold text, and what makes the encoder's input of their values."""
    if benchmark.kind == "choice":
        return _choice(benchmark, layout)
    columns = [layout.columns[name] for name in TEXT_FIELDS[benchmark.kind]]
    count = len(columns)

    def one_sequence(values: Sequence[Any], names: Sequence[str], where: str) -> tuple[tuple[str, ...], ...]:
        return (tuple([_filled(values[i], names[i], where) for i in range(count)]),)

    return columns, one_sequence


def _choice(benchmark: Benchmark, layout: Layout) -> tuple[list[Any], Sequences]:
    """One sequence for each option: the stem, if there is one, and the option."""
    before = [layout.columns[name] for name in ("stem", "template") if name in layout.columns]
    given = layout.columns["options"]
    listed = given if isinstance(given, dict) else None
    columns = [*before, listed["list"]] if listed else [*before, *given]  # type: ignore[misc]
    first = len(before)

    def a_sequence_an_option(values: Sequence[Any], names: Sequence[str], where: str) -> tuple[tuple[str, ...], ...]:
        stem: tuple[str, ...] = ()
        if before:
            stem = (_filled(values[0], names[0], where),)
        if len(before) == 2:
            template = _plain(values[1], names[1], where)
            stem = (worded(stem[0], template, layout.templates, f" in {names[1]}", where),)
        if listed:
            options = _options(values[first], listed, benchmark.labels, names[first], where)
        else:
            options = [_filled(values[i], names[i], where) for i in range(first, first + len(benchmark.labels))]
        return tuple([(*stem, option) for option in options])

    return columns, a_sequence_an_option


def worded(stem: str, template: str, templates: Mapping[str, str], place: str, where: str) -> str:
    """The stem in the words of the template of that name. Raises `UserError` for a name that is none of them."""
    if template not in templates:
        raise UserError(f"{where}: unknown template {template!r:.60}{place}; allowed: {', '.join(templates)}")
    return templates[template].replace("{stem}", stem)


def _options(items: Any, listed: dict[str, str], labels: Sequence[str], name: str, where: str) -> list[str]:
    """The texts of a JSON list of options, in the order of the table's labels."""
    if not isinstance(items, list):
        raise UserError(f"{where}: {name}: expected a list of options, found {items!r:.60}")
    for key in (listed.get("text"), listed.get("label")):
        for position, item in enumerate(items):
            if key is not None and (not isinstance(item, dict) or key not in item):
                raise UserError(f"{where}: {name}: option {position + 1} has no {key!r}: {item!r:.60}")
    key = listed.get("text")
    texts = [_filled(item[key] if key else item, f"{name}, option {i + 1}", where) for i, item in enumerate(items)]
    key = listed.get("label")
    given = [_plain(item[key], name, where) for item in items] if key else list(labels[: len(items)])
    if len(texts) != len(labels) or sorted(given) != sorted(labels):
        labelled = f" labelled {shortened(', '.join(given))}" if key else ""
        raise UserError(f"{where}: {name}: {len(texts)} options{labelled}; expected {len(labels)}: {', '.join(labels)}")
    by_label = dict(zip(given, texts, strict=True))
    return [by_label[label] for label in labels]


def _filled(value: Any, name: str, where: str) -> str:
    text = _plain(value, name, where)
    if not text.strip():
        raise EmptyText(f"{where}: the text in {name} is empty")
    return text


def _plain(value: Any, name: str, where: str) -> str:
    """A value as text: JSON's numbers and truth values as JSON writes them, what is not there as nothing."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    raise UserError(f"{where}: {name}: expected text, found {value!r:.60}")


def _language(benchmark: Benchmark, value: Any, where: str) -> str:
    code = _plain(value, "language", where)
    language = benchmark.language(code)
    if language is None:
        raise errors.unknown("language", code, benchmark.languages, where)
    return language


def _check_id(identifier: str, number: int, ids: dict[tuple[str, str], int], language: str, path: Path) -> None:
    if not identifier:
        raise UserError(f"{path}:{number}: the id is empty")
    if any(character in identifier for character in "\t\n\r"):
        raise UserError(f"{path}:{number}: the id {shortened(repr(identifier))} holds a tab or a line break")
    if (earlier := ids.setdefault((language, identifier), number)) != number:
        raise UserError(f"{path}:{number}: the id {shortened(repr(identifier))} occurs before, in line {earlier}")


def _not_found(benchmark: Benchmark, folder: Path, split: str, language: str) -> UserError:
    if not folder.is_dir():
        return UserError(f"no such data folder: {folder}")
    tried = [name for _, name in benchmark.files(split, language)]
    if not tried:
        return UserError(f"benchmark {benchmark.name!r} has no {split} split for language {language!r}")
    return UserError(f"no {split} file for language {language!r} in {folder}; looked for: {', '.join(tried)}")
