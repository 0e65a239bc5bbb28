"""Predictions, statistics and scores folders (no torch, no fairseq)."""

from fairseq_robust_xlt.scoring.folder import add, read
from fairseq_robust_xlt.scoring.predictions import Prediction
from fairseq_robust_xlt.scoring.scores import lines, score
from fairseq_robust_xlt.scoring.statistics import (
    Difference,
    accuracy_interval,
    difference_of_means,
    holm,
    largest_radius,
)

__all__ = [
    "Difference",
    "Prediction",
    "accuracy_interval",
    "add",
    "difference_of_means",
    "holm",
    "largest_radius",
    "lines",
    "read",
    "score",
]
