"""What a draft says of files that were read otherwise than their owner may have meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fairseq_robust_xlt.text.drafting.guessing import Guess, in_order
from fairseq_robust_xlt.text.drafting.layouts import own
from fairseq_robust_xlt.text.drafting.naming import DataFile
from fairseq_robust_xlt.text.drafting.samples import Sample


def unknown_languages(
    guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]], source: str
) -> list[str]:
    """A remark on the files that count as the source language's though their names have words that may be another."""
    files: dict[tuple[str, ...], list[DataFile]] = {}
    for one, _ in guesses:
        if one.file.words and not languages[id(one)]:
            files.setdefault(one.file.words, []).append(one.file)
    return [
        f"{_several([file.name for file in alike])}: {not_languages(alike[0])}, so that this counts as {source}, the "
        "language of the training data"
        for alike in files.values()
    ]


def not_languages(file: DataFile) -> str:
    """That the words of a file's name are no language, and how it would say one."""
    were = "were not taken for languages" if len(file.words) > 1 else "was not taken for a language"
    return f"{_quoted(file.words)} {were} (another language's file is named like {file.split}-sw{file.path.suffix})"


def other_languages(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """A remark on every file whose column of languages has others than its name."""
    remarks = []
    for one, found in guesses:
        named = one.file.language
        if named is None or found.language is None:
            continue
        values = one.values(found.language.place)
        others = {code: count for code, count in Counter(values).items() if not _same_language(code, named)}
        if others:
            few = list(others)[:5]
            counts = ", ".join(f"{code} in {others[code]}" for code in few) + (
                ", ..." if len(others) > len(few) else ""
            )
            read = "language" in found.columns
            taken = "rows of another language are refused" if read else f"all rows count as {named}"
            remarks.append(
                f"{one.file.name}: the column {found.language.name} has {counts} of {len(one.rows)} rows, but the "
                f"file's name says {named}: {taken}; if the column is right, take the language out of the name"
            )
    return remarks


def _same_language(code: str, other: str) -> bool:
    """Whether two codes are the same one, of which one may leave the script and region out."""
    parts, others = (re.split("[-_]", value.lower()) for value in (code, other))
    return all(part == its for part, its in zip(parts, others, strict=False))


def unknown_labels(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """A remark on the dev and test files with labels that no training file has; none where there is no training file,
    or the labels are those of options."""
    labels = {id(one): set(one.values(found.columns["label"])) for one, found in guesses}
    trained = {label for one, _ in guesses if one.file.split == "train" for label in labels[id(one)]}
    if not trained or guesses[0][1].kind == "choice":
        return []
    files: dict[tuple[str, ...], list[str]] = {}
    for one, _ in guesses:
        if unknown := labels[id(one)] - trained:
            files.setdefault(tuple(in_order(unknown)), []).append(one.file.name)
    return [
        f"{_several(names)}: no training file has the label{'s' if len(unknown) > 1 else ''} {_quoted(unknown)}; those "
        "that are other spellings of a training label belong under `label_names` of the layout ({theirs: the training "
        "label}), not under `labels`"
        for unknown, names in files.items()
    ]


def labels_alike(labels: Sequence[str]) -> list[str]:
    """A remark on the labels that are other ones but for blanks at their ends and capitals."""
    same: dict[str, list[str]] = {}
    for label in labels:
        same.setdefault(label.strip().casefold(), []).append(label)
    groups = [_quoted(alike) for alike in same.values() if len(alike) > 1]
    if not groups:
        return []
    return [
        f"labels differ in capitals or blanks only: {'; '.join(groups)}; if they mean the same, keep one of each under "
        "`labels` and the others under `label_names` of the layout ({theirs: the one that is kept})"
    ]


def unread_questions(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """A remark where a choice has a column of a few words that may say what is asked (XCOPA's: cause, effect)."""
    distinct = {id(found): found for _, found in guesses}.values()
    columns = {column.name: column for found in distinct if found.kind == "choice" for column in found.unread}
    return [
        f"the column {column.name} ({_quoted(in_order(column.distinct))}) is not read; if it says what is asked, "
        "name it as `template` under `columns`, and word each value under `templates` of the layout"
        for column in columns.values()
        if column.is_label() and any(character.isalpha() for text in column.distinct for character in text)
    ]


def no_dev_set(guesses: Sequence[tuple[Sample, Guess]], languages: dict[int, list[str]], source: str) -> list[str]:
    """A remark where there are training data, and no dev data of the source language."""
    train = [one.file for one, _ in guesses if one.file.split == "train"]
    dev = {own(code) for one, _ in guesses if one.file.split == "dev" for code in languages[id(one)] or [source]}
    if not train or source in dev:
        return []
    return [
        f"no dev set of {source}: a training needs one, which selects its checkpoints; keep some of the training rows "
        f"back for it, in a file such as dev-{source}{train[0].path.suffix}"
    ]


def _several(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _quoted(values: Sequence[str]) -> str:
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(repr(value[:40]) for value in values[:5]) + more
