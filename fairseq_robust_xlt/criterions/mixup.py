"""Mixup of word embeddings between the examples of a batch (Zhang et al. 2018; Guo et al. 2019, wordMixup)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mixup:
    """Pairs the examples of a batch: words and labels are mixed, w of its own and 1 - w of its partner's.

        x~ = w * x + (1 - w) * x'        L = w * CE(x~, y) + (1 - w) * CE(x~, y')        w ~ Beta(alpha, alpha)

    A mixed text is as long as the longer of the two; where only one of them has a word, that word stands alone, for
    half a word and half of nothing is no input that a text could give. In a multiple choice the options of two
    questions are mixed in their order, with one weight. Partners are a random permutation of the batch, as in the
    paper's code: one example of a batch is on average its own partner, and stays as it is.

    keys: (seed, update, example) of each example. Pairs and weights are functions of the keys in the batch alone.
    """

    def __init__(
        self, alpha: float, sample: dict[str, Any], keys: Sequence[tuple[int, ...]], table: nn.Embedding, rows: int
    ):
        tokens = sample["net_input"]["src_tokens"]
        pairing = np.random.default_rng([n for key in keys for n in key]).permutation(len(keys))
        weights = [np.random.default_rng(key).beta(alpha, alpha) for key in keys]
        self.partner = torch.from_numpy(pairing).to(tokens.device)
        self.weight = torch.tensor(weights, dtype=torch.float32, device=tokens.device)
        self.table, pad = table, table.padding_idx
        assert pad is not None
        first = self.partner[:, None] * rows + torch.arange(rows, device=tokens.device)
        self.other = tokens[first.flatten()]
        own, other = tokens.ne(pad), self.other.ne(pad)
        self.both = (own & other).unsqueeze(-1)
        self.row_weight = self.weight.repeat_interleave(rows)[:, None, None]
        merged = torch.where(own, tokens, self.other)
        net_input = {**sample["net_input"], "src_tokens": merged, "src_lengths": merged.ne(pad).sum(dim=1)}
        #: The batch with every text as long as the mixed one.
        self.sample = {**sample, "net_input": net_input}

    def change(self, words: Tensor) -> Tensor:
        """The mixed word embeddings, from those of `sample`."""
        other = F.embedding(self.other, self.table.weight, self.table.padding_idx).to(words.dtype)
        weight = self.row_weight.to(words.dtype)
        return torch.where(self.both, weight * words + (1 - weight) * other, words)

    def losses(self, loss_of: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """The mixed losses [examples]; `loss_of` takes labels."""
        return self.weight * loss_of(targets) + (1 - self.weight) * loss_of(targets[self.partner])
