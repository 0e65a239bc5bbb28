"""Perturbations of embeddings: the ball, random and adversarial ones, and where they enter a model."""

from fairseq_robust_xlt.perturbation.ascent import ascend, default_step_size
from fairseq_robust_xlt.perturbation.ball import Ball
from fairseq_robust_xlt.perturbation.radius import absolute_radius, embedding_norm, mean_embedding_norm
from fairseq_robust_xlt.perturbation.random import draw
from fairseq_robust_xlt.perturbation.seam import added, changed, find_word_embeddings, layers_from, unwrapped

__all__ = [
    "Ball",
    "absolute_radius",
    "added",
    "ascend",
    "changed",
    "default_step_size",
    "draw",
    "embedding_norm",
    "find_word_embeddings",
    "layers_from",
    "mean_embedding_norm",
    "unwrapped",
]
