"""Perturbations of a batch in its embeddings or hidden states: how large, where, and how they are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairseq_robust_xlt.perturbation import (
    Ball,
    absolute_radius,
    added,
    draw,
    embedding_norm,
    find_word_embeddings,
    unwrapped,
)
from fairseq_robust_xlt.perturbation.seam import Change
from fairseq_robust_xlt.recipes import Recipe


class Norms(NamedTuple):
    """Sums of norms over `counted` tokens or sequences: of what was added, of what was to be added, and of what
    rounding has made of the difference."""

    applied: Tensor
    wanted: Tensor
    rounding: Tensor
    counted: int


class Displacement:
    """The perturbations that a recipe allows a batch of `tokens` [rows, length], which are `examples` examples.

    Each row has its own, or with `perturb_options: shared` all rows of an example have one, position by position.
    `own` is the number of perturbations of an example, `where` [perturbations, length] says which positions they move,
    and `ball` bounds them.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, tokens: Tensor, examples: int):
        self.recipe, self.model, self.tokens = recipe, model, tokens
        self.rows = len(tokens) // examples
        table = find_word_embeddings(model)
        self.dim, self.device = table.embedding_dim, tokens.device
        assert table.padding_idx is not None
        self.real = tokens.ne(table.padding_idx)
        self.mask = self.real & _words(model, tokens) if recipe.perturb_tokens == "words" else self.real
        shared = recipe.perturb_options == "shared"
        self.own = 1 if shared else self.rows
        self.where = self.mask.view(examples, self.rows, -1).any(dim=1) if shared else self.mask
        self.ball = self._ball(recipe.radius)
        #: Whether what lies below a detached perturbation gets its gradient in the last pass, a clean one. If not, DDP
        #: would miss it there, so that the perturbed passes give it one of zero.
        self.clean_trains_it = recipe.perturbation == "random" and recipe.trains_clean

    def start(self, keys: list[tuple[int, ...]]) -> Tensor:
        """The random perturbation, or where the ascent starts; `keys` has one for each perturbation."""
        recipe = self.recipe
        random = recipe.perturbation == "random"
        if not (random or recipe.perturb_start):
            return torch.zeros(*self.where.shape, self.dim, device=self.device)
        ball = self.ball if random else self._ball(recipe.radius * recipe.perturb_start)
        return draw(recipe.perturb_draw, ball, self.where, self.dim, keys, device=self.device, dtype=torch.float32)

    def change(self, delta: Tensor) -> Change:
        """Adds `delta` [perturbations, length, dim] to what it is given; `norms` then tells of it.

        Above the embeddings, a relative one counts in the mean norm of the row's own hidden states there, over its
        real tokens. They are those of the clean pass. In 16 bits the sum is rounded, and behind the word embeddings
        that with the positions once more: to the distance of the numbers around the embeddings. What is much smaller
        than that is lost, and what is added may lie outside the ball and point elsewhere.
        """
        if len(delta) != len(self.mask):
            delta = torch.where(self.mask[:, :, None], delta.repeat_interleave(self.rows, dim=0), 0.0)

        def moved(hidden: Tensor) -> Tensor:
            if self.recipe.perturbed_embeddings == "detached":
                hidden = hidden.detach() if self.clean_trains_it else _ZeroGradient.apply(hidden)
            unit = self._unit(hidden)
            result = added(hidden, delta * unit)
            self.wanted = self.applied = delta.detach()
            if hidden.dtype in (torch.float16, torch.bfloat16):
                behind = self._behind_positions() if self.recipe.perturb_layer == 0 else Tensor.float
                self.applied = (behind(result.detach()) - behind(hidden.detach())) / unit
            return result

        return moved

    def norms(self) -> Norms:
        """Of the perturbation that was added last, in the units of the ball."""
        deltas = (self.applied, self.wanted, self.applied - self.wanted)
        norms = [self.ball.norms(delta, self.mask) for delta in deltas]
        counted = self.mask if norms[0].dim() == 2 else self.mask.any(dim=-1)
        applied, wanted, rounding = (norm[counted].sum() for norm in norms)
        return Norms(applied, wanted, rounding, int(counted.sum()))

    @torch.no_grad()
    def _behind_positions(self) -> Callable[[Tensor], Tensor]:
        """What the encoder makes of word embeddings before its first norm, in their dtype; in their units, in fp32."""
        encoder: Any = unwrapped(self.model).encoder.sentence_encoder  # type: ignore[union-attr]
        positions = 0.0 if encoder.embed_positions is None else encoder.embed_positions(self.tokens)
        return lambda words: (encoder.embed_scale * words + positions).float() / encoder.embed_scale

    def _unit(self, hidden: Tensor) -> Tensor | float:
        """What a perturbation of size 1 is above the embeddings."""
        if not self.recipe.perturb_layer or self.recipe.radius_unit != "relative":
            return 1.0
        norms = hidden.detach().float().norm(dim=-1) * self.real
        return (norms.sum(dim=1) / self.real.sum(dim=1))[:, None, None]

    def _ball(self, radius: float) -> Ball:
        recipe = self.recipe
        unit: Tensor | float = 1.0
        if recipe.radius_unit == "relative" and recipe.perturb_layer == 0:
            unit = embedding_norm(self.model).to(self.device)
        lengths = self.where.sum(dim=-1)
        scale = absolute_radius(
            radius, recipe.radius_unit, unit, recipe.perturb_norm, recipe.perturb_scope, lengths, self.dim
        )
        return Ball(scale, recipe.perturb_norm, recipe.perturb_scope)


class _ZeroGradient(torch.autograd.Function):
    """What it is given; the gradient for that is zero, where `detach` would leave it without."""

    @staticmethod
    def forward(_ctx: Any, hidden: Tensor) -> Tensor:
        return hidden.view_as(hidden)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)


def _words(model: nn.Module, tokens: Tensor) -> Tensor:
    """True where no <s> or </s> stands."""
    dictionary: Any = unwrapped(model).encoder.dictionary  # type: ignore[union-attr]
    return tokens.ne(dictionary.bos()) & tokens.ne(dictionary.eos())
