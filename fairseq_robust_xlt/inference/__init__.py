"""The run record, and opening a checkpoint with it: `inference.open(checkpoint).predict([...])`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairseq_robust_xlt.inference.classifier import Classifier


def open(checkpoint: str, *, cpu: bool = False) -> Classifier:
    """The classifier of a checkpoint that this package's tasks trained; see `Classifier`."""
    from fairseq_robust_xlt.inference.classifier import Classifier

    return Classifier(checkpoint, cpu=cpu)
