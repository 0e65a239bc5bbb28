"""Comparisons of scored runs (no torch, no fairseq)."""

from fairseq_robust_xlt.reports.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
