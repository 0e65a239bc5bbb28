"""What the columns of a user's files seem to hold: label, texts, options, id, language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairseq_robust_xlt.benchmarks.table import Column as Place
from fairseq_robust_xlt.errors import UserError, shortened
from fairseq_robust_xlt.text.drafting.columns import IDS, LABELS, LANGUAGES, PAIRS, SENTENCES, Column, plain, seen
from fairseq_robust_xlt.text.drafting.naming import known_code
from fairseq_robust_xlt.text.drafting.options import Options, find_options


@dataclass
class Guess:
    """What the columns of some files hold: the fields of a table's layout, and a comment on each. `language` is the
    column of languages, which is not read where the files' names say them."""

    kind: str
    columns: dict[str, Place]
    comments: dict[str, str]
    labels: list[str]
    unread: list[Column]
    language: Column | None


def guess(
    columns: Sequence[Column], language_in_name: bool, label: str | None, texts: Sequence[str], where: str
) -> Guess:
    """What these columns hold. `label` and `texts` are what the user said they are (a header name, a number from 0 or
    a JSON path); `where` names the files in messages.

    Raises `UserError` where that cannot be told, with what was seen and what to say.
    """
    left = {column.place: column for column in columns}
    options = find_options(columns)
    for column in [*options.columns, *filter(None, [options.beside])] if options else ():
        del left[column.place]
    given = _given(columns, label, "--label", where) if label is not None else None
    named = [_given(columns, text, "--text", where) for text in texts]
    said = {column.place for column in (given, *named) if column}
    language = find_language(column for column in left.values() if column.place not in said)
    if language:
        del left[language.place]
    identifier = _identifier([column for column in left.values() if column.place not in said], language)
    if identifier:
        del left[identifier.place]
    candidates = [column for column in left.values() if column.place not in said]
    answer = given or _label(candidates, options, where, columns)
    left.pop(answer.place, None)
    labels, about_labels = _labels(answer, options, where)
    kind, fields = _stem(named, left, where) if options else _texts(named, list(left.values()), columns, where)

    places: dict[str, Place] = {}
    comments = {"kind": _reason(kind, fields, options), "labels": about_labels}
    if identifier:
        places["id"], comments["id"] = identifier.place, "different in every row of a file, or nearly"
    for name, column in fields.items():
        places[name] = column.place
        comments[name] = f"mean {sum(map(len, column.texts)) / max(1, len(column.texts)):.0f} characters"
        left.pop(column.place, None)
    if options:
        places["options"], comments["options"] = options.place, options.comment()
    places["label"], comments["label"] = answer.place, answer.count()
    if language and not language_in_name:
        places["language"], comments["language"] = language.place, language.count()
    unread = [*left.values(), *([language] if language and language_in_name else [])]
    return Guess(kind, places, comments, labels, unread, language)


def fitted(known: Guess, columns: Sequence[Column], language_in_name: bool) -> Guess:
    """What is known of other files, for some that may have no ids, or a column of languages too."""
    places, comments = dict(known.columns), dict(known.comments)
    if places.get("id") not in [column.place for column in columns]:
        places.pop("id", None)
    others = [place for name, place in known.columns.items() if name != "language"]
    language = find_language(column for column in columns if column.place not in others)
    if language and not language_in_name and "language" not in places:
        places["language"], comments["language"] = language.place, language.count()
    options = find_options(columns) if known.kind == "choice" else None
    if options and options.beside and options.own_labels != known.labels:
        raise UserError(
            f"{options.beside.paths[0]}: the options' labels ({options.beside.name}) are "
            f"{', '.join(options.own_labels)}, and {', '.join(known.labels)} in the other files; a table counts the "
            "options of such a list, so their labels must be the same in every row"
        )
    return replace(known, columns=places, comments=comments, language=language)


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels sorted, numbers by their size."""
    return sorted(labels, key=lambda text: (int(text) if text.isdecimal() else -1, text))


def _given(columns: Sequence[Column], name: str, flag: str, where: str) -> Column:
    for column in columns:
        if name in (column.name, str(column.place)) or (name.isdecimal() and int(name) == column.number):
            return column
    raise UserError(
        f"{flag} {name}: no such column in {where}; it has {shortened(', '.join(column.name for column in columns))}"
    )


def _several(columns: Iterable[Column], what: str, where: str) -> UserError:
    return UserError(f"{where}: several columns {what}; saw {seen(columns)}")


def find_language(columns: Iterable[Column]) -> Column | None:
    """A column of language codes: under a usual name, or all of whose values are beyond doubt."""
    for column in columns:
        words = column.distinct and all(
            re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{1,19}", value) for value in column.distinct
        )
        # "it" and "hr" may be departments, "si" and "no" answers.
        sure = column.key not in LABELS and len(column.distinct) > 1 and all(map(known_code, column.distinct))
        if words and (column.key in LANGUAGES or sure):
            return column
    return None


def _identifier(columns: Sequence[Column], language: Column | None) -> Column | None:
    """A column under an id's name with hardly a repeated value (that is the reader's to say), or one all of whose
    values differ, hold a digit and no space."""
    found: list[Column] = []
    for column in columns:
        keys = set()
        rows = 0
        for number, values in enumerate(column.files):
            codes = language.files[number] if language else [None] * len(values)
            keys |= {(number, code, plain(value)) for code, value in zip(codes, values, strict=True)}
            rows += len(values)
        if not rows or any(isinstance(value, list | dict) or " " in plain(value) for value in column.values):
            continue
        named = IDS.fullmatch(column.name.rpartition(".")[2]) is not None
        digits = sum(any(c.isdigit() for c in text) for text in column.texts)
        if (named and len(keys) >= 0.9 * rows) or (len(keys) == rows > 4 and digits > 0.9 * rows):
            found.append(column)
    return min(
        found, key=lambda column: (column.key != "id", not IDS.fullmatch(column.name.rpartition(".")[2])), default=None
    )


def _label(candidates: Sequence[Column], options: Options | None, where: str, columns: Sequence[Column]) -> Column:
    found = [c for c in candidates if (options.labels(c.distinct) is not None if options else c.is_label())]
    named = [column for column in found if column.key in LABELS]
    if named:
        return min(named, key=lambda column: LABELS.index(column.key))
    if len(found) > 1:
        raise _several(found, "could be the label: say which with --label", where)
    if found:
        return found[0]
    what = (
        f"names one of the options ({options}) {options.naming()}"
        if options
        else "looks like a label (a few short values in many rows)"
    )
    raise UserError(f"{where}: no column {what}; saw {seen(columns)}; say which one it is with --label")


def _labels(answer: Column, options: Options | None, where: str) -> tuple[list[str], str]:
    """The labels in a sensible order, and a comment on them."""
    if options is None:
        return in_order(answer.distinct), f"sorted; {answer.count()}"
    found = options.labels(answer.distinct)
    if found is None:
        few = ", ".join(repr(value[:40]) for value in sorted(answer.distinct)[:5])
        raise UserError(
            f"{where}: --label: {answer.name} has {few}; expected what names one of the options ({options}) "
            f"{options.naming()}"
        )
    return found, "one for each option, in their order"


def _stem(named: Sequence[Column], left: Mapping[str | int, Column], where: str) -> tuple[str, dict[str, Column]]:
    """The kind choice, and the column of what stands before every option, if there is one."""
    found = named or [column for column in left.values() if column.is_text()]
    if len(found) > 1:
        raise _several(found, "could be the stem, which stands before every option: say which with --text", where)
    return "choice", {"stem": found[0]} if found else {}


def _texts(
    named: Sequence[Column], left: Sequence[Column], columns: Sequence[Column], where: str
) -> tuple[str, dict[str, Column]]:
    """The kind, sentence or pair, and its columns."""
    found = list(named)
    if not found:
        found = [column for column in left if column.is_text()]
        by_name = {column.key: column for column in left}
        pair = next((names for names in PAIRS if all(name in by_name for name in names)), None)
        if pair:
            found = [by_name[name] for name in pair]
        elif not found:
            found = [column for column in left if any(c.isalpha() for text in column.texts for c in text)]
            found = found if len(found) == 1 else []
        elif len(found) == 2 and any(column.key in SENTENCES for column in found):
            raise _several(found, "hold texts: say --text A for a sentence or --text A,B for a pair", where)
    if len(found) > 2:
        raise _several(found, "hold texts: say --text A for a sentence or --text A,B for a pair", where)
    if not found:
        raise UserError(f"{where}: no column holds texts; saw {seen(columns)}; say which it is with --text")
    if len(found) == 1:
        return "sentence", {"text": found[0]}
    return "pair", {"first": found[0], "second": found[1]}


def _reason(kind: str, fields: Mapping[str, Column], options: Options | None) -> str:
    if options:
        return f"options in {options}"
    names = " and ".join(column.name for column in fields.values())
    return f"{'one column holds' if kind == 'sentence' else 'two columns hold'} texts: {names}"
