"""A scores folder: the predictions and scores of one checkpoint, subset by subset.

`predictions.tsv` is the truth, `scores.json` is computed from it and says what the predictions are of. The predictions
are written first. A crash between the two leaves rows that scores.json does not describe yet; the next `add` computes
scores.json anew from the rows, and drops those of a subset that scores.json has never heard of (with a warning), since
nothing says how they came about. One process writes to a folder at a time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write
from fairseq_robust_xlt.scoring import predictions as table
from fairseq_robust_xlt.scoring.predictions import Prediction
from fairseq_robust_xlt.scoring.scores import score

logger = logging.getLogger(__name__)

FORMAT = 1
PREDICTIONS = "predictions.tsv"
SCORES = "scores.json"

_COUNT = {"type": ["integer", "null"], "minimum": 0}
_FRACTION = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_MEAN = {
    "type": ["object", "null"],
    "required": ["accuracy", "languages"],
    "properties": {
        "accuracy": _FRACTION,
        "macro_f1": _FRACTION,
        "languages": {"type": "array", "items": {"type": "string"}},
    },
}
_LANGUAGE = {
    "type": "object",
    "required": ["n", "correct", "accuracy", "interval"],
    "properties": {
        "n": _COUNT,
        "correct": _COUNT,
        "accuracy": _FRACTION,
        "interval": {"type": ["array", "null"], "items": _FRACTION, "minItems": 2, "maxItems": 2},
        "macro_f1": _FRACTION,
        "unlabelled": _COUNT,
    },
}
_SUBSET = {
    "type": "object",
    "required": ["signature", "languages", "mean", "mean_without_source"],
    "properties": {
        "signature": {"type": "object"},
        "languages": {"type": "object", "additionalProperties": _LANGUAGE},
        "mean": _MEAN,
        "mean_without_source": _MEAN,
    },
}
_SCHEMA = {
    "type": "object",
    "required": ["format", "checkpoint_sha256", "benchmark", "labels", "subsets"],
    "properties": {
        "format": {"const": FORMAT},
        "checkpoint_sha256": {"type": "string"},
        "labels": {"type": "array", "items": {"type": "string"}},
        "subsets": {"type": "object", "additionalProperties": _SUBSET},
    },
}


def add(
    folder: str | os.PathLike[str],
    signature: dict[str, Any],
    predictions: Iterable[Prediction],
    labels: Sequence[str],
    *,
    source: str,
    f1: bool = True,
) -> dict[str, Any]:
    """Put the predictions of one or several subsets into a scores folder, which is made where it does not exist.

    Subsets that the folder holds already are replaced, the others kept. `signature` (JSON values; `checkpoint_sha256`
    and `benchmark` are required) is stored with each of these subsets; `labels` are the label names
    in class order, `source` is the training language that `mean_without_source` leaves out, `f1` asks for macro-F1.
    Rows are sorted by subset, language and id, so that neither batches nor processes nor the order of runs change a
    byte. Returns what scores.json holds then.

    Raises `UserError`, and changes nothing, for a folder of another checkpoint, benchmark or label set, for damaged
    files, for an example that was predicted twice, and for whatever `predictions.write` or `scores.score` refuse.
    """
    folder = Path(folder)
    signature = json.loads(json.dumps(signature))  # Compared and returned as it will be read back.
    new = list(predictions)
    if not new:
        raise UserError(f"no predictions to put into {folder}")
    table.check(new, labels)
    identity = {
        "checkpoint_sha256": signature["checkpoint_sha256"],
        "benchmark": signature["benchmark"],
        "labels": list(labels),
    }
    replaced = {p.subset for p in new}
    kept, signatures = _held(folder, identity, replaced)
    signatures |= dict.fromkeys(replaced, signature)
    rows = sorted(kept + new, key=lambda p: (p.subset, p.languages, len(p.id), p.id))
    for one, other in zip(rows, rows[1:], strict=False):
        if (one.subset, one.languages, one.id) == (other.subset, other.languages, other.id):
            raise UserError(f"example {one.id} of {one.subset}, {one.languages} was predicted twice")
    by_subset: dict[str, list[Prediction]] = {}
    for p in rows:
        by_subset.setdefault(p.subset, []).append(p)
    subsets = {name: {"signature": signatures[name], **score(part, source, f1=f1)} for name, part in by_subset.items()}
    scores = {"format": FORMAT, **identity, "subsets": subsets}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the scores folder {folder}: {error.strerror}") from error
    table.write(folder / PREDICTIONS, rows, labels)
    with atomic_write(folder / SCORES) as file:
        file.write(json.dumps(scores, indent=1, ensure_ascii=False) + "\n")
    return scores


def read(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a folder's scores.json holds; `UserError` where there is none, or it is damaged or of another format."""
    path = Path(folder) / SCORES
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(scores, _SCHEMA)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # Neither JSON nor UTF-8.
        raise UserError(f"{path} is damaged ({error}): remove the folder, or score into another one") from error
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "top level"
        raise UserError(
            f"{path} is damaged or of another version ({where}: {error.message[:200]}): "
            "remove the folder, or score into another one"
        ) from error
    return scores


def _held(
    folder: Path, identity: dict[str, Any], replaced: set[str]
) -> tuple[list[Prediction], dict[str, dict[str, Any]]]:
    """The rows of a folder that stay, and the signature of each of their subsets."""
    old_rows = (folder / PREDICTIONS).exists()
    if not (folder / SCORES).exists():
        if old_rows:
            logger.warning("%s has no %s: its predictions are of unknown origin and are replaced", folder, SCORES)
        return [], {}
    scores = read(folder)
    for key, what in (("checkpoint_sha256", "checkpoint"), ("benchmark", "benchmark"), ("labels", "label set")):
        if scores[key] != identity[key]:
            raise UserError(
                f"the scores folder {folder} belongs to another {what} ({scores[key]}, now {identity[key]}): "
                "nothing was changed; score into another folder"
            )
    signatures = {name: part["signature"] for name, part in scores["subsets"].items() if name not in replaced}
    rows = table.read(folder / PREDICTIONS, identity["labels"]) if old_rows else []
    present = {p.subset for p in rows} - replaced
    if lost := sorted(signatures.keys() - present):
        raise UserError(
            f"{folder / PREDICTIONS} lacks the rows of subset {', '.join(lost)}, which {SCORES} has scores of: "
            "restore it, or score into another folder"
        )
    if strange := sorted(present - signatures.keys()):
        logger.warning("%s: dropped unfinished predictions of subset %s; score it again", folder, ", ".join(strange))
    return [p for p in rows if p.subset in signatures], signatures
