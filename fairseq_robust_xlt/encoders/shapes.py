"""The sizes of the encoders that have an architecture name here, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What an architecture name stands for.

    `pre_norm` layers normalise before attention and feed-forward, end in one more layer norm and have none after the
    embeddings (XLM-R XL and XXL, Goyal et al. 2021, arXiv 2105.00572); the others are BERT's post-norm (XLM-R base and
    large, Conneau et al. 2020, arXiv 1911.02116).
    """

    layers: int
    dim: int
    ffn: int
    heads: int
    pre_norm: bool


SHAPES: dict[str, Shape] = {
    "xlmr_nano": Shape(2, 64, 128, 2, False),
    "xlmr_mini": Shape(12, 384, 1536, 12, False),
    "xlmr_base": Shape(12, 768, 3072, 12, False),
    "xlmr_large": Shape(24, 1024, 4096, 16, False),
    "xlmr_xl": Shape(36, 2560, 10240, 32, True),
    "xlmr_xxl": Shape(48, 4096, 16384, 32, True),
}


def fitting(layers: int, dim: int, ffn: int, heads: int | None, pre_norm: bool) -> str | None:
    """The name of the architecture with these sizes, or None. With `heads` None any number of heads fits."""
    for name, shape in SHAPES.items():
        if shape == Shape(layers, dim, ffn, shape.heads if heads is None else heads, pre_norm):
            return name
    return None
