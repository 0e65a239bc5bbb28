"""What a noise is, and the key that its random numbers are drawn with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Noise(Protocol):
    """A random change of an example's texts that keeps its label."""

    @property
    def name(self) -> str:
        """The name in `--noise`; it also separates this noise's random numbers from those of others."""

    def __call__(self, texts: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
        """A noised copy of an example's texts, one by one, drawn from `rng` alone."""


def generator(seed: int, epoch: int, index: int, noise: str) -> np.random.Generator:
    """The random numbers of one noise for one example in one epoch.

    They depend on nothing else, so noise is the same under any number of workers, in any order, after a resume and on
    any machine.
    """
    # NumPy takes no negative seed, fairseq's --seed does.
    return np.random.default_rng([seed % 2**64, epoch, index, zlib.crc32(noise.encode())])


class NoiseChain:
    """Several noises, each acting on what the one before it left."""

    def __init__(self, noises: Sequence[Noise]) -> None:
        self.noises = tuple(noises)

    def __call__(
        self, sequences: tuple[tuple[str, ...], ...], seed: int, epoch: int, index: int
    ) -> tuple[tuple[str, ...], ...]:
        """A noised copy of the sequences (`Example.sequences`) of the example numbered `index`, for this epoch.

        A text that the sequences of a choice share, its stem, stays the same in all of them.
        """
        for noise in self.noises:
            rng = generator(seed, epoch, index, noise.name)
            if len(sequences) == 1:
                sequences = (noise(sequences[0], rng),)
                continue
            texts = tuple(dict.fromkeys(text for sequence in sequences for text in sequence))
            noised = dict(zip(texts, noise(texts, rng), strict=True))
            sequences = tuple([tuple([noised[text] for text in sequence]) for sequence in sequences])
        return sequences
