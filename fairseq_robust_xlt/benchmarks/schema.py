"""The shape of a benchmark table, as a JSON schema; every `description` completes the sentence "expected ..."."""

from __future__ import annotations

from typing import Any

# The fields of a row that hold text, by kind of benchmark: those that it needs and those that it may have.
TEXT_FIELDS = {"sentence": ("text",), "pair": ("first", "second"), "choice": ("options",)}
MORE_FIELDS = {"sentence": (), "pair": (), "choice": ("stem", "template")}
SPLITS = ("train", "dev", "test")
FORMATS = ("tsv", "csv", "jsonl")

_QUOTES = "in quotes where YAML would read a number or true/false"
_LANGUAGE = {
    "type": "string",
    "pattern": r"^[A-Za-z][A-Za-z0-9_]*$",
    "description": f"a language code of letters, digits and _ (no '-'), {_QUOTES}",
}
_LABEL = {"type": "string", "pattern": r"^[^\t\r\n]+$", "description": f"a label: text without tabs, {_QUOTES}"}

_COLUMN = "a column's name in the header, or its number counted from 0 (in JSON lines a field, as in question.stem)"
_LAYOUT: dict[str, Any] = {
    "type": "object",
    "description": "a layout with the keys name, columns, files",
    "required": ["name", "columns", "files"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "a name for the layout"},
        "format": {"enum": list(FORMATS), "description": f"one of {', '.join(FORMATS)} (default: tsv)"},
        "header": {"type": "boolean", "description": "true or false: whether the first line names the columns"},
        "quoted": {
            "type": "boolean",
            "description": "true or false: whether a csv writer has quoted the fields of the tsv",
        },
        "columns": {
            "type": "object",
            "description": "which column holds which field",
            "additionalProperties": {
                "type": ["string", "integer", "array", "object"],
                "minimum": 0,
                "minLength": 1,
                "items": {"type": ["string", "integer"], "minimum": 0, "minLength": 1, "description": _COLUMN},
                "properties": {
                    key: {"type": "string", "minLength": 1, "description": "the name of a field"}
                    for key in ("list", "text", "label")
                },
                "required": ["list"],
                "additionalProperties": False,
                "description": _COLUMN,
            },
        },
        "files": {
            "type": "object",
            "description": "a file pattern for at least one of train, dev, test",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                split: {
                    "type": "string",
                    "pattern": r"^(?:[^{}]|\{lang\})+$",
                    "description": "a file pattern relative to the data folder, with no placeholder other than {lang}",
                }
                for split in SPLITS
            },
        },
        "empty_rows": {"enum": ["skip"], "description": "skip: leave out the training rows that have an empty text"},
        "label_names": {
            "type": "object",
            "description": "a mapping from the files' spelling of a label to a label of this table",
            "propertyNames": _LABEL,
            "additionalProperties": _LABEL,
        },
        "templates": {
            "type": "object",
            "minProperties": 1,
            "description": "a mapping from a value of the column `template` to a text",
            "propertyNames": _LABEL,
            "additionalProperties": {
                "type": "string",
                "pattern": r"\{stem\}",
                "description": "a text with {stem} where the stem belongs",
            },
        },
        "codes": {
            "type": "object",
            "description": "a mapping from this table's language codes to those in the files",
            "propertyNames": _LANGUAGE,
            "additionalProperties": {"type": "string", "minLength": 1, "description": f"a code, {_QUOTES}"},
        },
    },
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "a mapping with the keys name, version, kind, source, languages, labels, layouts",
    "required": ["name", "version", "kind", "source", "languages", "labels", "layouts"],
    "additionalProperties": False,
    "properties": {
        "name": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            "description": "a name of letters, digits, '_', '-' and '.'",
        },
        "version": {"type": ["string", "integer"], "minLength": 1, "description": "a whole number, or text in quotes"},
        "kind": {"enum": sorted(TEXT_FIELDS), "description": f"one of {', '.join(sorted(TEXT_FIELDS))}"},
        "source": _LANGUAGE,
        "languages": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": _LANGUAGE,
            "description": "a list of different language codes",
        },
        "labels": {
            "type": "array",
            "minItems": 2,
            "uniqueItems": True,
            "items": _LABEL,
            "description": "a list of at least two different labels, in the order of the class index",
        },
        "layouts": {"type": "array", "minItems": 1, "items": _LAYOUT, "description": "a list of at least one layout"},
        "licence": {"type": "string", "description": "text"},
        "citation": {"type": "string", "description": "text"},
    },
}
