"""Noise in the text: what is drawn anew for every example in every epoch."""

from fairseq_robust_xlt.noise.base import Noise, NoiseChain, generator
from fairseq_robust_xlt.noise.registry import NOISES, NoiseOptions, build
from fairseq_robust_xlt.noise.synonyms import SynonymNoise, SynonymTable

__all__ = ["NOISES", "Noise", "NoiseChain", "NoiseOptions", "SynonymNoise", "SynonymTable", "build", "generator"]
