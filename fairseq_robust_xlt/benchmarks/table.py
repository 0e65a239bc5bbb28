"""Benchmark tables: load one by name or from a file, and check it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import jsonschema
import yaml

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.benchmarks.schema import MORE_FIELDS, SCHEMA, TEXT_FIELDS
from fairseq_robust_xlt.errors import UserError

#: Where a field of a row is: a header name, a zero-based column number, or a dotted path in JSON lines. The options of
#: a choice are several of them, or in JSON lines a list: {"list": path, "text": key of an item, "label": the same}.
Column = str | int | list[str | int] | dict[str, str]


@dataclass(frozen=True)
class Layout:
    """One way in which a benchmark's files are laid out: UTF-8 text in the `format` "tsv", "csv" or "jsonl".

    `columns` maps the fields (`text`, or `first` and `second`, or `options` and perhaps `stem` and `template`; `label`;
    optionally `id` and `language`) to where they are, `files` maps a split to a file pattern, `label_names` the files'
    spelling of a label to the table's, `templates` a value of the column `template` to a text around the stem, and
    `codes` the table's language codes to those in the files (the same where none is given). `empty_rows` "skip" leaves
    out training rows with an empty text, which are refused otherwise; `quoted` TSV is read as CSV, but with tabs.
    """

    name: str
    columns: Mapping[str, Column]
    files: Mapping[str, str]
    format: str = "tsv"
    header: bool = False
    quoted: bool = False
    empty_rows: str | None = None
    label_names: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as data: what `fairseq_robust_xlt.text` needs to read its published files.

    `kind` is "sentence", "pair" or "choice"; `source` is the language of the training data; the order of `labels` is
    the class index, in a choice that of the options; `layouts` are tried in order; `sha256` is that of the content,
    whatever its comments and line breaks; `text` is the YAML source, to be stored beside checkpoints.
    """

    name: str
    version: str
    kind: str
    source: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    layouts: tuple[Layout, ...]
    licence: str
    citation: str
    sha256: str
    text: str

    @property
    def outputs(self) -> int:
        """How many scores a classifier gives a sequence: one per label, or the one of an option in a choice."""
        return 1 if self.kind == "choice" else len(self.labels)

    def files(self, split: str, language: str) -> list[tuple[Layout, str]]:
        """Every layout with the file, relative to the data folder, where it would hold this split and language.

        A pattern without {lang} stands for the source language alone, or for every language where a column says which.
        """
        return [
            (layout, pattern.replace("{lang}", layout.codes.get(language, language)))
            for layout in self.layouts
            if (pattern := layout.files.get(split))
            and ("{lang}" in pattern or "language" in layout.columns or language == self.source)
        ]

    def language(self, code: str) -> str | None:
        """The table's language of a code, which may also be one that only the files use; None for an unknown one."""
        if code in self.languages:
            return code
        return next((mine for layout in self.layouts for mine, its in layout.codes.items() if its == code), None)


def known() -> list[str]:
    """The names of the benchmarks that come with the package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load(name_or_path: str | os.PathLike[str], flag: str = "--benchmark") -> Benchmark:
    """The benchmark of that name, or the one in that file (ends in .yaml or .yml, or contains a path separator).

    Raises `UserError` for an unknown name, a missing or unreadable file, and a table that is not valid, with the file
    and the key. `flag` is what gave it, for messages.
    """
    given = os.fspath(name_or_path)
    if given.endswith((".yaml", ".yml")) or os.sep in given or "/" in given:
        path = Path(given)
    elif given in known():
        path = Path(__file__).with_name(f"{given}.yaml")
    else:
        raise errors.unknown("benchmark", given, known(), flag)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        where = f"{flag}: " if flag else ""
        raise UserError(f"{where}cannot read the benchmark table {path}: {reason}") from error
    return _parse(text, str(path))


def _parse(text: str, where: str) -> Benchmark:
    try:
        content = yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: 1999-99-99, which YAML takes for a date
        raise UserError(f"{where}: not valid YAML: {error}") from error
    _check_shape(content, where)
    _check_references(content, where)
    layouts = tuple(Layout(**layout) for layout in content["layouts"])
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Benchmark(
        name=content["name"],
        version=str(content["version"]),
        kind=content["kind"],
        source=content["source"],
        languages=tuple(content["languages"]),
        labels=tuple(content["labels"]),
        layouts=layouts,
        licence=content.get("licence", ""),
        citation=content.get("citation", ""),
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
        text=text,
    )


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, except that a repeated key is an error: YAML itself silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or a mapping", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_shape(content: Any, where: str) -> None:
    # JSON schema counts 1.0 as an integer; a column 1.0 is none, and a version 1.10 would silently become 1.1.
    draft = jsonschema.Draft202012Validator
    types = draft.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator = jsonschema.validators.extend(draft, type_checker=types)(SCHEMA)
    # A misspelt key rather than the one that is missing for it.
    relevance = jsonschema.exceptions.by_relevance(strong={"additionalProperties"})
    error = jsonschema.exceptions.best_match(validator.iter_errors(content), key=relevance)
    if error is None:
        return
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    at = f"{where}: {key}" if key else where
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        raise errors.unknown("key", str(next(k for k in error.instance if k not in allowed)), allowed, at)
    if error.validator == "required":
        missing = next(k for k in error.schema["required"] if k not in error.instance)
        raise UserError(f"{at}: the key {missing!r} is missing")
    raise UserError(f"{at}: given {errors.shortened(repr(error.instance))}, expected {error.schema['description']}")


def _check_references(content: dict[str, Any], where: str) -> None:
    """What a schema cannot say: names that must exist elsewhere in the table, and what follows from the kind."""
    languages, labels = content["languages"], content["labels"]
    if content["source"] not in languages:
        raise errors.unknown("language", content["source"], languages, f"{where}: source")
    # Training and dev data are often the source language's alone, and may be called train.tsv and dev.tsv; but the
    # other languages have to be somewhere.
    elsewhere = len(languages) == 1 or any(
        "language" in layout["columns"] or "{lang}" in pattern
        for layout in content["layouts"]
        for split, pattern in layout["files"].items()
        if split != "train"
    )
    splits: dict[str, str] = {}
    for number, layout in enumerate(content["layouts"]):
        at = f"{where}: layouts[{number}]"
        _check_columns(layout, content["kind"], at)
        _check_options(content, at, layout)
        for label in layout.get("label_names", {}).values():
            if label not in labels:
                raise errors.unknown("label", label, labels, f"{at}.label_names")
        for code in layout.get("codes", {}):
            if code not in languages:
                raise errors.unknown("language", code, languages, f"{at}.codes")
        _check_files(layout, languages, at, splits)
        for split, pattern in layout["files"].items():
            if split != "train" and not elsewhere:
                raise UserError(
                    f"{at}.files.{split}: {pattern!r} has no {{lang}}, so {len(languages)} languages would share one "
                    f"file; give a pattern such as {split}-{{lang}}.tsv, or a column `language`"
                )


def _check_files(layout: dict[str, Any], languages: list[str], at: str, splits: dict[str, str]) -> None:
    """No file may be read for two languages, or for two splits. `splits` has those of the layouts before, by file."""
    mine: dict[str, str] = {}
    for language in languages:
        code = layout.get("codes", {}).get(language, language)
        if (other := mine.setdefault(code, language)) != language:
            raise UserError(f"{at}.codes: {other} and {language} would both be read from the files of {code!r}")
    for split, pattern in layout["files"].items():
        if "{lang}{lang}" in pattern:
            raise UserError(f"{at}.files.{split}: {pattern!r}: two {{lang}} need something between them")
        for code in mine:
            path = PurePath(pattern.replace("{lang}", code))
            if path.is_absolute() or ".." in path.parts:
                raise UserError(f"{at}.files.{split}: {str(path)!r} may lie outside the data folder; give a path in it")
            if (first := splits.setdefault(path.as_posix(), split)) != split:
                raise UserError(
                    f"{at}.files.{split}: {pattern!r} is a file of {first} too ({path}); each needs files of its own"
                )


def _check_columns(layout: dict[str, Any], kind: str, at: str) -> None:
    if "quoted" in layout and layout.get("format", "tsv") != "tsv":
        raise UserError(f"{at}.quoted: is for format tsv, and this is {layout['format']}")
    if "empty_rows" in layout and "train" not in layout["files"]:
        raise UserError(f"{at}.empty_rows: is for training files, and this layout has none")
    columns, needed = layout["columns"], (*TEXT_FIELDS[kind], "label")
    json_lines = layout.get("format") == "jsonl"
    if json_lines == ("header" in layout):
        raise UserError(
            f"{at}.header: has no meaning in JSON lines" if json_lines else f"{at}: the key 'header' is missing"
        )
    allowed = [*needed, *MORE_FIELDS[kind], "id", "language"]
    for name in columns:
        if name not in allowed:
            raise errors.unknown("field", str(name), allowed, f"{at}.columns")
    for name in needed:
        if name not in columns:
            raise UserError(f"{at}.columns: the field {name!r} is missing; kind {kind!r} needs {', '.join(needed)}")
    places: list[str | int] = []
    for name, column in columns.items():
        if isinstance(column, list | dict) and name != "options":
            raise UserError(f"{at}.columns.{name}: given {column!r}, expected one column")
        if isinstance(column, dict) and not json_lines:
            raise UserError(
                f"{at}.columns.{name}: given {column!r}, expected a list of columns, as format is not jsonl"
            )
        if name == "options" and isinstance(column, str | int):
            raise UserError(f"{at}.columns.{name}: given {column!r}, expected a list of columns")
        for place in column if isinstance(column, list) else [column["list"] if isinstance(column, dict) else column]:
            wanted = str if json_lines else (str, int) if layout["header"] else int
            if not isinstance(place, wanted):
                expected = "a field's name" if json_lines else "a column number, as header is false"
                raise UserError(f"{at}.columns.{name}: given {place!r}, expected {expected}")
            places.append(place)
    if len(set(places)) < len(places):
        raise UserError(f"{at}.columns: two fields name the same column: {columns}")
    if ("template" in columns) != ("templates" in layout) or ("template" in columns and "stem" not in columns):
        raise UserError(f"{at}: the column `template` needs `templates` and a column `stem`, and they need it")


def _check_options(content: dict[str, Any], at: str, layout: dict[str, Any]) -> None:
    options = layout["columns"].get("options")
    if isinstance(options, list) and len(options) != len(content["labels"]):
        raise UserError(
            f"{at}.columns.options: {len(options)} columns for {len(content['labels'])} labels; in a choice each "
            "option has a label"
        )
