"""fairseq criteria: the robust objective."""

from fairseq_robust_xlt.criterions.robust_classification import RobustClassificationCriterion

__all__ = ["RobustClassificationCriterion"]
