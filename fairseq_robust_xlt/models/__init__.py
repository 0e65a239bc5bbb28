"""XLM-R classifiers under fairseq architecture names."""

from fairseq_robust_xlt.models.classifier import XLMRClassifier

__all__ = ["XLMRClassifier"]
