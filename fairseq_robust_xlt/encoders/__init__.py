"""Encoder directories: read one, check one, make one from a pip package."""

from fairseq_robust_xlt.encoders.directory import EncoderInfo, check, inspect
from fairseq_robust_xlt.encoders.shapes import SHAPES, Shape
from fairseq_robust_xlt.encoders.vocabulary import Vocabulary

__all__ = ["SHAPES", "EncoderInfo", "Shape", "Vocabulary", "check", "inspect"]
