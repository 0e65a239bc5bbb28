"""Predictions, statistics and scores folders (no torch, no fairseq)."""

from fairseq_robust_xlt.scoring.folder import add, read
from fairseq_robust_xlt.scoring.predictions import Prediction
from fairseq_robust_xlt.scoring.scores import lines, score
from fairseq_robust_xlt.scoring.statistics import (
    Difference,
    accuracy_interval,
    difference,
    difference_of_means,
    holm,
    largest_radius,
    mcnemar,
)

__all__ = [
    "Difference",
    "Prediction",
    "accuracy_interval",
    "add",
    "difference",
    "difference_of_means",
    "holm",
    "largest_radius",
    "lines",
    "mcnemar",
    "read",
    "score",
]
