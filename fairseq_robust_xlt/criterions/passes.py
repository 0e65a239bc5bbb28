"""The forward passes of one training step and the objective made of them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_robust_xlt.criterions.consistency import divergence, kl
from fairseq_robust_xlt.criterions.ear import PushAndPull
from fairseq_robust_xlt.criterions.generators import Generators
from fairseq_robust_xlt.criterions.mixup import Mixup
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import (
    Ball,
    absolute_radius,
    added,
    ascend,
    changed,
    draw,
    embedding_norm,
    find_word_embeddings,
)
from fairseq_robust_xlt.recipes import Recipe

Sample = dict[str, Any]


class Criterion(Protocol):
    """What the passes need of `RobustClassificationCriterion`."""

    recipe: Recipe
    seed_and_update: tuple | None
    proximal: Any
    teacher: Any

    def logits(self, model: Any, sample: Sample) -> Tensor: ...


class Passes:
    """Runs the passes that a recipe asks for on one batch.

        loss = clean_weight * CE(x) + perturbed_weight * CE(x~) + consistency_weight * D(x, x~)   (+ terms of their own)

    All passes of a step see the same dropout masks (the ascent attacks the very network that is updated), unless the
    recipe says that each draws its own; either way the step leaves the random number generators as the standard method
    would. No pass that a loss already made is made again.

    After `run()`: `loss` (per example, [batch], fp32), `clean_logits` and `perturbed_logits` ([batch, classes] or
    None), `norm_sum` and `norm_count` (of the perturbation, over tokens or sequences; None without one in the
    embeddings), `non_finite` (examples that were left unperturbed, because a gradient of the ascent was not finite, or
    the class scores at a point that the loss is taken at).
    """

    def __init__(self, criterion: Criterion, model: nn.Module, sample: Sample):
        self.criterion, self.recipe, self.model, self.sample = criterion, criterion.recipe, model, sample
        self.targets = sample["target"].view(-1)
        self.tokens = sample["net_input"]["src_tokens"]
        self.sequences = len(self.tokens) // len(self.targets)
        self.generators = Generators(self.tokens.device, own=self.recipe.dropout_masks == "own")
        self.clean_logits: Tensor | None = None
        self.perturbed_logits: Tensor | None = None
        self.norm_sum: Tensor | None = None
        self.norm_count = 0
        self.non_finite: Tensor | int = 0

    def run(self) -> Passes:
        recipe = self.recipe
        kind = recipe.perturbation if recipe.perturbs else "none"
        self.loss = torch.zeros(len(self.targets), device=self.tokens.device)
        if kind == "text":
            self._two_views()
        elif kind == "mixup":
            self._mixed()
        elif kind != "none":
            self._in_the_embeddings()
        if self.clean_logits is None and (recipe.clean_weight or recipe.bregman_weight):
            self.clean_logits = self._pass()
        if recipe.clean_weight:
            assert self.clean_logits is not None
            self.loss = self.loss + recipe.clean_weight * self._losses(self.clean_logits)
        if recipe.bregman_weight:
            self._proximal()
        self.generators.finish()
        return self

    # ---- what x~ is ------------------------------------------------------------------------------------------------

    def _in_the_embeddings(self) -> None:
        """x~ is x with a vector added to its embeddings or hidden states: random, or found by ascent."""
        recipe = self.recipe
        self.table = find_word_embeddings(self.model)
        self.mask = self.tokens.ne(self.table.padding_idx)
        shared = recipe.perturb_options == "shared"
        #: How many perturbations an example has, and where they are: [perturbations, length].
        self.own = 1 if shared else self.sequences
        self.where = self.mask.view(len(self.targets), self.sequences, -1).any(dim=1) if shared else self.mask
        self.ball = self._ball(recipe.radius)
        delta = self._start()
        if recipe.perturbation == "random":
            # The clean pass comes last, so that DDP finds every parameter in the graph of the last pass.
            logits, delta = self._point(delta, torch.ones_like(self.where[:, 0]))
            points = [logits]
            if recipe.consistency_weight:
                self.clean_logits = self._pass()
        else:
            points, delta = self._ascent(delta)
        self._add_perturbed(points)
        self.perturbed_logits = points[-1]
        norms = self.ball.norms(delta, self.where)
        counted = self.where if norms.dim() == 2 else self.where.any(dim=-1)
        self.norm_sum, self.norm_count = norms[counted].sum(), int(counted.sum())

    def _ascent(self, start: Tensor) -> tuple[list[Tensor], Tensor]:
        """Class scores at the points of the ascent that the loss is taken at, and the last point."""
        recipe = self.recipe
        virtual, every = recipe.perturbation == "virtual", recipe.perturbed_points == "all"
        needs_clean = virtual or recipe.clean_weight or recipe.consistency_weight or recipe.bregman_weight
        # The first pass is the clean one, if it starts there and trains what the clean one has to train.
        shared = bool(needs_clean) and not virtual and not recipe.perturb_start
        shared = shared and recipe.perturbed_embeddings == "trained"
        if needs_clean and not shared:
            self.clean_logits = self._pass()
        clean = self.clean_logits.detach() if virtual and self.clean_logits is not None else None
        visited: list[Tensor] = []
        points: list[Tensor] = []

        def losses(delta: Tensor) -> Tensor:
            logits = self._pass(delta)
            visited.append(delta.detach().clone())
            points.append(logits)
            return self._magnified(logits, clean)

        steps = recipe.perturb_steps - every
        delta, finite = ascend(
            losses,
            start,
            self.ball,
            self.where,
            steps=steps,
            step_size=recipe.perturb_step_size,
            scaled=recipe.perturb_direction == "scaled",
            keep_graphs=steps if every else int(shared),
        )
        if shared:
            self.clean_logits = points[0] if points else self._pass()
        if every and not bool(finite.all()):
            # A graph with a number that is not finite would carry it to the parameters whatever its loss counts for.
            points = [self._pass(torch.where(finite[:, None, None], point, 0.0)) for point in visited]
        logits, delta = self._point(delta, finite)
        return [*points, logits] if every else [logits], delta

    def _point(self, delta: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores at `delta`, which the loss is taken at, and what is left of `delta`: an example whose scores are
        not finite there is not moved, like those that are not `finite` [perturbations]. The host waits for the device.
        """
        logits = self._pass(delta)
        known = torch.isfinite(logits.detach()).all(dim=-1)
        finite = finite & known.repeat_interleave(self.own)
        if not bool(known.all()) and not _passes_in_step(self.model):
            delta = torch.where(finite[:, None, None], delta, 0.0)
            logits = self._pass(delta)
        self.non_finite = (~finite).sum() // self.own
        return logits, delta

    def _two_views(self) -> None:
        """x~ is the text under noise."""
        recipe, sample = self.recipe, {**self.sample, "net_input": self.sample["noised_input"]}
        pad = find_word_embeddings(self.model).padding_idx
        teacher = None
        if recipe.teacher_weight:
            teacher = F.log_softmax(self.criterion.teacher.logits(sample).float(), dim=-1)
        compared = PushAndPull(self.model, recipe.embedding_push, recipe.attention_pull, recipe.attention_layer)
        if recipe.clean_weight or recipe.consistency_weight or compared.wanted:
            with compared.view(self.tokens.ne(pad)):
                self.clean_logits = self._pass()
        with compared.view(sample["net_input"]["src_tokens"].ne(pad)):
            self.perturbed_logits = self._pass(sample=sample)
        self._add_perturbed([self.perturbed_logits])
        if teacher is not None:
            student = F.log_softmax(self.perturbed_logits.float(), dim=-1)
            self.loss = self.loss + recipe.teacher_weight * kl(teacher, student)
        if compared.wanted:
            self.loss = self.loss + compared.losses(len(self.targets))

    def _mixed(self) -> None:
        """x~ is each example mixed with another one of the batch, and so is its label."""
        recipe = self.recipe
        keys = self._keys(rows=1)
        mixup = Mixup(recipe.mixup_alpha, self.sample, keys, find_word_embeddings(self.model), self.sequences)
        with changed(self.model, 0, mixup.change):
            logits = self._pass(sample=mixup.sample)
        mixed = mixup.losses(lambda targets: F.cross_entropy(logits.float(), targets, reduction="none"), self.targets)
        self.loss = self.loss + recipe.perturbed_weight * mixed

    # ---- the terms -------------------------------------------------------------------------------------------------

    def _add_perturbed(self, points: list[Tensor]) -> None:
        recipe = self.recipe
        for logits in points:
            if recipe.perturbed_weight:
                self.loss = self.loss + recipe.perturbed_weight / len(points) * self._losses(logits)
            if recipe.consistency_weight:
                self.loss = self.loss + recipe.consistency_weight / len(points) * self._apart(self.clean_logits, logits)

    def _losses(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), self.targets, reduction="none")

    def _apart(self, clean: Tensor | None, logits: Tensor) -> Tensor:
        assert clean is not None, "a consistency without a clean pass"
        return divergence(self.recipe.consistency, self.recipe.consistency_stop, clean, logits)

    def _magnified(self, logits: Tensor, clean: Tensor | None) -> Tensor:
        """What the ascent raises: CE, or with `clean` the divergence from it.

        In fp16 each example's is multiplied by the power of two that brings its gradient at the class scores to about
        128: gradients of confident examples would vanish on their way back. The direction does not depend on it.
        """
        scores = logits.float()
        losses = self._losses(scores) if clean is None else self._apart(clean, scores)
        if logits.dtype is not torch.float16:
            return losses
        (gradient,) = torch.autograd.grad(losses.sum(), scores, retain_graph=True)
        exponent = 7 - gradient.abs().amax(dim=-1).log2().ceil()
        return losses * torch.where(exponent.isfinite(), exponent.clamp(-100, 100), 0.0).exp2()

    def _proximal(self) -> None:
        """The symmetric KL to the running average of the model, in a pass like the others."""
        proximal, criterion = self.criterion.proximal, self.criterion
        if criterion.seed_and_update is None:
            raise UserError("--bregman-weight: needs one of the tasks of fairseq_robust_xlt, which count the updates")
        proximal.follow(self.model, criterion.seed_and_update[1])
        self.generators.begin_pass()
        average = proximal.logits(self.model, lambda model: criterion.logits(model, self.sample))
        assert self.clean_logits is not None
        apart = divergence("symmetric_kl", "clean", average, self.clean_logits)
        self.loss = self.loss + self.recipe.bregman_weight * apart

    # ---- one pass --------------------------------------------------------------------------------------------------

    def _pass(self, delta: Tensor | None = None, sample: Sample | None = None) -> Tensor:
        """Class scores of the batch; with `delta` added at the perturbed layer."""
        self.generators.begin_pass()
        sample = self.sample if sample is None else sample
        if delta is None:
            return self.criterion.logits(self.model, sample)
        if len(delta) != len(self.mask):
            delta = torch.where(self.mask[:, :, None], delta.repeat_interleave(self.sequences, dim=0), 0.0)
        with changed(self.model, self.recipe.perturb_layer, lambda hidden: self._moved(hidden, delta)):
            return self.criterion.logits(self.model, sample)

    def _moved(self, hidden: Tensor, delta: Tensor) -> Tensor:
        """Embeddings or hidden states with the perturbation; above the embeddings, a relative one counts in the mean
        norm of the row's own hidden states there, over its real tokens. They are those of the clean pass."""
        if self.recipe.perturbed_embeddings == "detached":
            hidden = hidden.detach()
        if self.recipe.perturb_layer and self.recipe.radius_unit == "relative":
            norms = hidden.detach().float().norm(dim=-1) * self.mask
            delta = delta * (norms.sum(dim=1) / self.mask.sum(dim=1))[:, None, None]
        return added(hidden, delta)

    # ---- ball and start --------------------------------------------------------------------------------------------

    def _ball(self, radius: float) -> Ball:
        recipe = self.recipe
        unit: Tensor | float = 1.0
        if recipe.radius_unit == "relative" and recipe.perturb_layer == 0:
            unit = embedding_norm(self.model).to(self.tokens.device)
        lengths, dim = self.where.sum(dim=-1), self.table.embedding_dim
        scale = absolute_radius(
            radius, recipe.radius_unit, unit, recipe.perturb_norm, recipe.perturb_scope, lengths, dim
        )
        return Ball(scale, recipe.perturb_norm, recipe.perturb_scope)

    def _start(self) -> Tensor:
        """The random perturbation, or where the ascent starts."""
        recipe, dim = self.recipe, self.table.embedding_dim
        random = recipe.perturbation == "random"
        if not (random or recipe.perturb_start):
            return torch.zeros(*self.where.shape, dim, device=self.tokens.device)
        ball = self.ball if random else self._ball(recipe.radius * recipe.perturb_start)
        keys = self._keys(self.own)
        return draw(recipe.perturb_draw, ball, self.where, dim, keys, device=self.tokens.device, dtype=torch.float32)

    def _keys(self, rows: int) -> list[tuple[int, ...]]:
        """(seed, update, example) for each example; with its option's number for each of several rows.

        They are the same on any number of processes and after a resume.
        fairseq's own tasks do not say which update it is, but its trainer seeds torch with seed + update.
        """
        seed, update = self.criterion.seed_and_update or (torch.initial_seed(), 0)
        examples: list[tuple[int, ...]] = [(seed % 2**64, update, int(i)) for i in self.sample["id"].tolist()]
        if rows == 1:
            return examples
        return [(*example, row) for example in examples for row in range(rows)]


def _passes_in_step(model: nn.Module) -> bool:
    """Whether a pass on one process alone would wait for the others for ever; there what is not finite stays so, for
    the trainer's own check of the gradients."""
    return any(type(module).__name__.startswith(("FullySharded", "SlowMo")) for module in model.modules())
