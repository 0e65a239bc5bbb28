"""The run record, and opening a checkpoint with it: `inference.open(checkpoint).predict([...])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairseq_robust_xlt.inference.classifier import Classifier

#: A text, the two texts of a pair, or a choice: {"stem": text, "options": [text, ...]}, the stem only if there is one;
#: with a "template" where the benchmark's table words the stem by one.
Input = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def open(checkpoint: str, *, cpu: bool = False) -> Classifier:
    """The classifier of a checkpoint that this package's tasks trained; see `Classifier`."""
    from fairseq_robust_xlt.inference.classifier import Classifier

    return Classifier(checkpoint, cpu=cpu)
