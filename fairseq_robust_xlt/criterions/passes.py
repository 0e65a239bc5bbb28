"""The forward passes of one training step: clean, ascent, perturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import (
    Ball,
    absolute_radius,
    ascend,
    draw,
    find_word_embeddings,
    perturbed,
)
from fairseq_robust_xlt.recipes import Recipe


class Passes:
    """Runs the passes that a recipe asks for on one batch.

    Every pass starts from the same state of the random number generators, so all passes of a step see the same
    dropout masks: the ascent attacks the very network that is updated, and the step leaves the generators as the
    standard method would.

    After `run()`: `loss` (per example, [batch], fp32), `clean_logits` and `perturbed_logits` ([batch, classes] or
    None), `norm_sum` and `norm_count` (of the perturbation, over tokens or sequences), `non_finite` (examples whose
    ascent gradient was not finite, which were left unperturbed).
    """

    def __init__(
        self,
        recipe: Recipe,
        model: torch.nn.Module,
        sample: dict[str, Any],
        logits: Callable[[], Tensor],
        seed_and_update: tuple[int, int] | None,
    ):
        self.recipe, self.model, self.sample, self.logits = recipe, model, sample, logits
        self.targets = sample["target"].view(-1)
        self.sequences = len(sample["net_input"]["src_tokens"]) // len(self.targets)
        self.seed_and_update = seed_and_update
        self.clean_logits: Tensor | None = None
        self.perturbed_logits: Tensor | None = None
        self.norm_sum: Tensor | float = 0.0
        self.norm_count = 0
        self.non_finite: Tensor | int = 0

    def run(self) -> Passes:
        recipe = self.recipe
        if not recipe.perturbed_weight:
            self.clean_logits = self.logits()
            self.loss = recipe.clean_weight * self._losses(self.clean_logits)
            return self
        self.embeddings = find_word_embeddings(self.model)
        tokens = self.sample["net_input"]["src_tokens"]
        self.mask = tokens.ne(self.embeddings.padding_idx)
        self.ball = self._ball()
        self.generators = _Generators(tokens.device)
        self.loss = torch.zeros(len(self.targets), device=tokens.device)
        clean: list[Tensor] = []  # logits of the clean pass, if the first step of the ascent makes it

        start = self._start()
        if recipe.perturbation == "ascent":
            share = recipe.clean_weight > 0 and not recipe.random_start

            def losses(delta: Tensor) -> Tensor:
                logits = self._perturbed_pass(delta)
                if share and not clean:
                    clean.append(logits)
                return self._losses(logits)

            delta, finite = ascend(
                losses,
                start,
                self.ball,
                self.mask,
                steps=recipe.perturb_steps,
                step_size=recipe.perturb_step_size,
                keep_first_graph=share,
            )
            self.non_finite = (~finite).sum() // self.sequences
        else:
            delta = start
        if recipe.clean_weight:
            self.clean_logits = clean[0] if clean else self._clean_pass()
            self.loss = self.loss + recipe.clean_weight * self._losses(self.clean_logits)
        self.perturbed_logits = self._perturbed_pass(delta)
        self.loss = self.loss + recipe.perturbed_weight * self._losses(self.perturbed_logits)
        norms = self.ball.norms(delta, self.mask)
        counted = self.mask if norms.dim() == 2 else self.mask.any(dim=-1)
        self.norm_sum, self.norm_count = norms[counted].sum(), int(counted.sum())
        return self

    def _clean_pass(self) -> Tensor:
        self.generators.rewind()
        return self.logits()

    def _perturbed_pass(self, delta: Tensor) -> Tensor:
        self.generators.rewind()
        with perturbed(self.embeddings, delta):
            return self.logits()

    def _losses(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), self.targets, reduction="none")

    def _ball(self) -> Ball:
        recipe, norm = self.recipe, 0.0
        if recipe.radius_unit == "relative":
            module = self.model
            while not hasattr(module, "embedding_norm") and hasattr(module, "module"):
                module = module.module  # type: ignore[assignment]
            if not hasattr(module, "embedding_norm"):
                raise UserError(
                    "--radius-unit relative: this architecture does not keep the mean norm of its first word "
                    "embeddings; use one of --arch xlmr_*, or --radius-unit absolute"
                )
            norm = float(module.embedding_norm)  # type: ignore[arg-type]
            if not norm:  # it is taken from the weights as they are loaded; 0 would silently perturb nothing
                raise UserError(
                    "--radius-unit relative: no weights were loaded, so the mean norm of the first word embeddings is "
                    "not known; give --finetune-from-model, or --radius-unit absolute"
                )
        radius = absolute_radius(
            recipe.radius,
            recipe.radius_unit,
            norm,
            recipe.perturb_norm,
            recipe.perturb_scope,
            lengths=self.mask.sum(dim=-1),
            dim=self.embeddings.embedding_dim,
        )
        return Ball(radius, recipe.perturb_norm, recipe.perturb_scope)

    def _start(self) -> Tensor:
        """The random perturbation, or where the ascent starts."""
        recipe, tokens = self.recipe, self.sample["net_input"]["src_tokens"]
        dim = self.embeddings.embedding_dim
        if recipe.perturbation == "ascent" and not recipe.random_start:
            return torch.zeros(*tokens.shape, dim, device=tokens.device)
        return draw(
            recipe.perturb_draw,
            self.ball,
            self.mask,
            dim,
            keys=self.keys(),
            device=tokens.device,
            dtype=torch.float32,
        )

    def keys(self) -> list[tuple[int, ...]]:
        """(seed, update, example) for each row, with its option's number in a multiple choice.

        They are the same on any number of processes and after a resume.

        fairseq's own tasks do not say which update it is, but its trainer seeds torch with seed + update.
        """
        seed, update = self.seed_and_update or (torch.initial_seed(), 0)
        examples: list[tuple[int, ...]] = [(seed % 2**64, update, int(i)) for i in self.sample["id"].tolist()]
        if self.sequences == 1:
            return examples
        return [(*example, option) for example in examples for option in range(self.sequences)]


class _Generators:
    """The states of torch's random number generators on the CPU and on one device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def rewind(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
