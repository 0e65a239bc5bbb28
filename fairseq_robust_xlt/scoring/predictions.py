"""What a classifier said about each example, and the TSV file that keeps it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write

HEADER = ("subset", "languages", "id", "gold", "predicted", "probabilities")


@dataclass(slots=True)
class Prediction:
    """One example's prediction.

    `subset` is the name that was scored ("test"), `languages` the example's language ("sw"), `id` its identifier,
    unique within subset and language. `gold` (None where unknown) and `predicted` are class indices,
    `probabilities` holds one number per class.
    """

    subset: str
    languages: str
    id: str
    gold: int | None
    predicted: int
    probabilities: tuple[float, ...]


def write(path: str | os.PathLike[str], predictions: Iterable[Prediction], labels: Sequence[str]) -> None:
    """Write predictions as TSV, in the given order; labels by name, probabilities with 6 significant digits.

    Raises `UserError` for a name or id that holds a tab or a line break, for a number of probabilities that differs
    from the number of labels, and for a probability that is not finite (a diverged model); nothing is written then.
    """
    check(predictions := list(predictions), labels)
    with atomic_write(path) as file:
        file.write("\t".join(HEADER) + "\n")
        for p in predictions:
            gold = "" if p.gold is None else labels[p.gold]
            probabilities = ",".join(f"{value:.6g}" for value in p.probabilities)
            row = (p.subset, p.languages, p.id, gold, labels[p.predicted], probabilities)
            file.write("\t".join(row) + "\n")


def check(predictions: Iterable[Prediction], labels: Sequence[str]) -> None:
    """Raise `UserError` for the first prediction that the file cannot hold (see `write`)."""
    for label in labels:
        _check_field("label", label)
    for p in predictions:
        for what, text in (("subset", p.subset), ("languages", p.languages), ("id", p.id)):
            _check_field(what, text)
        where = f"example {p.id} of {p.subset}, {p.languages}"
        if len(p.probabilities) != len(labels):
            raise UserError(f"{where}: {len(p.probabilities)} probabilities for {len(labels)} labels")
        if not all(map(math.isfinite, p.probabilities)):
            raise UserError(f"{where}: probabilities {p.probabilities} are not finite; has the model diverged?")
        for index in (p.predicted, 0 if p.gold is None else p.gold):
            if not 0 <= index < len(labels):
                raise UserError(f"{where}: class {index} is not one of the {len(labels)} labels {', '.join(labels)}")


def _check_field(what: str, text: str) -> None:
    if not text or any(character in text for character in "\t\n\r"):
        raise UserError(f"{what} {text!r}: must hold at least one character and no tab or line break")


def read(path: str | os.PathLike[str], labels: Sequence[str]) -> list[Prediction]:
    """Read what `write` wrote; `labels` in class order.

    Raises `UserError` with file and line for anything else, and for an example that is there twice.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from error
    header, *rows = text.removesuffix("\n").split("\n")
    if tuple(header.split("\t")) != HEADER:
        raise UserError(f"{path}:1: the header is {header!r}, not the columns {', '.join(HEADER)}")
    classes = {label: index for index, label in enumerate(labels)}
    found = [_parse(row, classes, f"{path}:{number}") for number, row in enumerate(rows, start=2)]
    seen: dict[tuple[str, str, str], int] = {}
    for number, p in enumerate(found, start=2):
        if (line := seen.setdefault((p.subset, p.languages, p.id), number)) != number:
            raise UserError(f"{path}:{number}: example {p.id} of {p.subset}, {p.languages} is in line {line} already")
    return found


def _parse(row: str, classes: dict[str, int], where: str) -> Prediction:
    fields = row.split("\t")
    if len(fields) != len(HEADER):
        raise UserError(f"{where}: {len(fields)} columns, not {len(HEADER)}")
    subset, languages, identifier, gold, predicted, numbers = fields
    for label in (gold, predicted) if gold else (predicted,):
        if label not in classes:
            raise UserError(f"{where}: unknown label {label!r}; known: {', '.join(classes)}")
    try:
        probabilities = tuple(float(number) for number in numbers.split(","))
    except ValueError as error:
        raise UserError(f"{where}: probabilities {numbers!r} are not numbers joined by commas") from error
    if not all(map(math.isfinite, probabilities)):
        raise UserError(f"{where}: probabilities {numbers} are not finite")
    if len(probabilities) != len(classes):
        raise UserError(f"{where}: {len(probabilities)} probabilities for {len(classes)} labels")
    return Prediction(subset, languages, identifier, classes.get(gold), classes[predicted], probabilities)
