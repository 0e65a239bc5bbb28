"""What is suspicious in files that can be read: rows that repeat, leak, were not translated, or are not aligned."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from fairseq_robust_xlt.text.examples import Example

_WORDS = 4  # a shorter text (a name, a number) may well be the same in two languages


def repeated(rows: Sequence[Example]) -> Iterator[str]:
    """Rows of one file with the texts of an earlier one; those whose label differs are told apart."""
    first: dict[tuple[tuple[str, ...], ...], Example] = {}
    again = [(row, first[row.sequences]) for row in rows if first.setdefault(row.sequences, row) is not row]
    if not again:
        return
    yield f"{_rows(len(again))} with the texts of an earlier one, the first {_both(*again[0])}"
    other = [(row, earlier) for row, earlier in again if row.label != earlier.label]
    if other:
        yield f"{_rows(len(other))} of these with another label, the first {_both(*other[0])}"


def fingerprint(row: Example) -> int:
    """A number of 64 bits for a row's texts: millions of training rows are looked through with little memory."""
    return hash(row.sequences)


def leaked(rows: Sequence[Example], training: Collection[int]) -> Iterator[str]:
    """Rows whose texts the training file has, by their fingerprints."""
    seen = [row for row in rows if fingerprint(row) in training]
    if seen:
        yield f"{_rows(len(seen))} with the texts of a training row, the first {seen[0].where}"


def unlike_source(rows: Sequence[Example], source: Sequence[Example], identified: bool) -> Iterator[str]:
    """What a language's file has not in common with the source language's of the same split, or has and should not.

    Rows belong together by id where the files are `identified`, else by line: then a language with as many rows is
    compared, one with fewer or more is only said to have them.
    """
    if identified:
        by_id = {row.id: row for row in source}
        together = [(row, by_id[row.id]) for row in rows if row.id in by_id]
        if strange := len(rows) - len(together):
            yield f"{_rows(strange)} with an id that {source[0].language} has not: pairs leave them out"
        if lacking := len(source) - len(together):
            yield f"{_rows(lacking)} of {source[0].language} not there: pairs leave them out"
    elif len(rows) != len(source):
        yield f"{len(rows)} rows, {source[0].language} {len(source)}: not line-aligned, so no pairs with it"
        return
    else:
        together = list(zip(rows, source, strict=True))
    differing = [pair for pair in together if pair[0].label != pair[1].label]
    if differing:
        first = _both(*differing[0]) + ("" if identified else "; the files are perhaps not line-aligned")
        yield f"{_rows(len(differing))} with another label than {source[0].language}, the first {first}"
    same = [pair for pair in together if not _texts(pair[0]).isdisjoint(_texts(pair[1]))]
    if same:
        yield f"{_rows(len(same))} with a text of {source[0].language}, not translated, the first {_both(*same[0])}"


def audit(
    split: str,
    found: Mapping[str, Sequence[Example]],
    source: str,
    identified: bool = False,
    training: Collection[int] = (),
) -> Iterator[str]:
    """One line for each thing that is suspicious in a split.

    `found` has the rows of each language that has any, `training` the fingerprints of all training rows.
    """
    for language, rows in found.items():
        remarks = list(repeated(rows))
        if split != "train":
            remarks += leaked(rows, training)
            if language != source and source in found:
                remarks += unlike_source(rows, found[source], identified)
        for remark in remarks:
            yield f"note: {split} {language}: {remark}"


def _texts(row: Example) -> set[str]:
    return {text for sequence in row.sequences for text in sequence if len(text.split()) >= _WORDS}


def _rows(count: int) -> str:
    return f"{count} row" + "s" * (count != 1)


def _both(row: Example, other: Example) -> str:
    return f"{row.where} (as {other.where})"
