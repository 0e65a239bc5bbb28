"""fairseq tasks: `cross_lingual --benchmark TABLE`, and one named task for each benchmark that the package brings."""

from fairseq_robust_xlt.tasks.cross_lingual import CrossLingualTask

__all__ = ["CrossLingualTask"]
