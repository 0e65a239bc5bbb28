"""Benchmark tables: what a benchmark's published files are, as data."""

from fairseq_robust_xlt.benchmarks.table import Benchmark, Layout, known, load

__all__ = ["Benchmark", "Layout", "known", "load"]
