"""Embedding push and attention pull between the two views of a text (Ding et al. 2022, arXiv 2210.09934)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_robust_xlt.perturbation import changed, layers_from


class PushAndPull:
    """Records two passes, a block of `view` each, and compares them.

        -push * mean (m - m')^2 + pull * mean (A - A')^2

    m: an example's mean embedding over its tokens, behind positions and layer norm (the input of layer 1); A: the
    attention maps of one layer. Squares are averaged over dimensions, and over heads and those pairs of positions of
    which the longer view has both; the shorter has no attention there. (The published code averages over padding too,
    so that an example's term depends on the batch that it comes in.) Maps are without dropout. Where LayerDrop leaves
    that layer out, there is no pull: DDP would find its parameters in no pass.
    """

    def __init__(self, model: nn.Module, push: float, pull: float, layer: int):
        self.model, self.push, self.pull, self.layer = model, push, pull, layer
        self.means: list[Tensor] = []
        self.maps: list[Tensor] = []
        self.masks: list[Tensor] = []

    @property
    def wanted(self) -> bool:
        return bool(self.push or self.pull)

    @contextmanager
    def view(self, mask: Tensor) -> Iterator[None]:
        """Record the forward pass inside the block; `mask` [rows, length] is True on its real tokens."""
        self.masks.append(mask)

        def embeddings(hidden: Tensor) -> Tensor:
            real = mask.unsqueeze(-1).float()
            self.means.append((hidden.float() * real).sum(dim=1) / real.sum(dim=1))
            return hidden

        def attention(layer: nn.Module, inputs: tuple) -> None:
            self.maps.append(attention_maps(layer, inputs[0].transpose(0, 1), mask))

        with ExitStack() as stack:
            if self.push:
                stack.enter_context(changed(self.model, 1, embeddings))
            if self.pull:
                layer = layers_from(self.model, self.layer)[0]
                stack.enter_context(layer.register_forward_pre_hook(attention))
            yield

    def losses(self, examples: int) -> Tensor:
        """The weighted difference of the two views [examples], in fp32; of an example of several rows their mean."""
        total = torch.zeros(len(self.masks[0]), device=self.masks[0].device)
        if self.push:
            one, other = self.means
            total = total - self.push * (one - other).square().mean(dim=-1)
        if self.maps:
            total = total + self.pull * map_difference(self.maps, self.masks)
        return total.view(examples, -1).mean(dim=-1)


def map_difference(maps: list[Tensor], masks: list[Tensor]) -> Tensor:
    """Mean square difference [rows] of two lots of attention maps [rows, heads, length, length]."""
    length = max(map_.size(-1) for map_ in maps)
    wide = [F.pad(map_, (0, length - map_.size(-1)) * 2) for map_ in maps]
    real = torch.stack([F.pad(mask, (0, length - mask.size(-1))) for mask in masks]).any(dim=0)
    pairs = (real[:, None, :, None] & real[:, None, None, :]).float()
    square = (wide[0] - wide[1]).square() * pairs
    return square.sum(dim=(1, 2, 3)) / (pairs.sum(dim=(1, 2, 3)) * wide[0].size(1))


def attention_maps(layer: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """Attention probabilities [rows, heads, length, length] of an encoder layer, from its input [rows, length, dim];
    zero where a padding position attends. fairseq's fused attention returns none per head."""
    attention = layer.self_attn
    if layer.normalize_before:
        hidden = layer.self_attn_layer_norm(hidden)

    def heads(projection: nn.Module) -> Tensor:
        return projection(hidden).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    scores = (heads(attention.q_proj) @ heads(attention.k_proj).transpose(2, 3)).float() * attention.scaling
    scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return scores.softmax(dim=-1) * mask[:, None, :, None]
