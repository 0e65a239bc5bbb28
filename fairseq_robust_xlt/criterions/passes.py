"""The forward passes of one training step and the objective made of them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_robust_xlt.criterions.consistency import divergence, kl
from fairseq_robust_xlt.criterions.displacement import Displacement, Norms
from fairseq_robust_xlt.criterions.ear import PushAndPull
from fairseq_robust_xlt.criterions.generators import Generators
from fairseq_robust_xlt.criterions.mixup import Mixup
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import ascend, changed, find_word_embeddings, unwrapped
from fairseq_robust_xlt.recipes import Recipe

Sample = dict[str, Any]


class Criterion(Protocol):
    """What the passes need of `RobustClassificationCriterion`."""

    recipe: Recipe
    seed: int
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
    None), `norms` (of the perturbation; None without one in the embeddings), `non_finite` (examples that were left
    unperturbed, because a gradient of the ascent was not finite, or the class scores at a point that the loss is taken
    at).
    """

    def __init__(self, criterion: Criterion, model: nn.Module, sample: Sample):
        self.criterion, self.recipe, self.model, self.sample = criterion, criterion.recipe, model, sample
        self.targets = sample["target"].view(-1)
        self.tokens = sample["net_input"]["src_tokens"]
        self.sequences = len(self.tokens) // len(self.targets)
        self.generators = Generators(self.tokens.device, own=self.recipe.dropout_masks == "own")
        self.clean_logits: Tensor | None = None
        self.perturbed_logits: Tensor | None = None
        self.norms: Norms | None = None
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
            self.clean_logits = self._clean_pass()
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
        self.displacement = Displacement(recipe, self.model, self.tokens, len(self.targets))
        start = self.displacement.start(self._keys(self.displacement.own))
        if recipe.perturbation == "random":
            # A clean pass that trains comes last, so that DDP finds every parameter in the graph of the last pass.
            if recipe.consistency_weight and not recipe.trains_clean:
                self.clean_logits = self._clean_pass()
            points = [self._point(start, torch.ones_like(start[:, 0, 0], dtype=torch.bool))]
            if recipe.consistency_weight and recipe.trains_clean:
                self.clean_logits = self._clean_pass()
        else:
            points = self._ascent(start)
        self._add_perturbed(points)
        self.perturbed_logits = points[-1]
        self.norms = self.displacement.norms()

    def _ascent(self, start: Tensor) -> list[Tensor]:
        """Class scores at the points of the ascent that the loss is taken at."""
        recipe = self.recipe
        virtual, every = recipe.perturbation == "virtual", recipe.perturbed_points == "all"
        needs_clean = virtual or recipe.clean_weight or recipe.consistency_weight or recipe.bregman_weight
        # The first pass is the clean one, if it starts there and trains what the clean one has to train.
        shared = bool(needs_clean) and not virtual and not recipe.perturb_start
        shared = shared and recipe.perturbed_embeddings == "trained"
        if needs_clean and not shared:
            self.clean_logits = self._clean_pass()
        clean = self.clean_logits.detach() if virtual and self.clean_logits is not None else None
        steps = recipe.perturb_steps - every
        graphs = steps if every else int(shared and recipe.trains_clean)
        kept = steps if every else int(shared)
        visited: list[Tensor] = []
        points: list[Tensor] = []

        def losses(delta: Tensor) -> Tensor:
            logits = self._pass(delta)
            if len(points) < kept:
                points.append(logits if graphs else logits.detach())
            if every:
                visited.append(delta.detach().clone())
            return self._magnified(logits, clean)

        delta, finite = ascend(
            losses,
            start,
            self.displacement.ball,
            self.displacement.where,
            steps=steps,
            step_size=recipe.perturb_step_size,
            scaled=recipe.perturb_direction == "scaled",
            keep_graphs=graphs,
        )
        if shared:
            self.clean_logits = points[0] if points else self._clean_pass()
        if every and not bool(finite.all()):
            # A graph with a number that is not finite would carry it to the parameters whatever its loss counts for.
            points = [self._again(point, finite) for point in visited]
        last = self._point(delta, finite)
        return [*points, last] if every else [last]

    def _point(self, delta: Tensor, finite: Tensor) -> Tensor:
        """Class scores at `delta`, which the loss is taken at: an example whose scores are not finite there is not
        moved, like those that are not `finite` [perturbations]. The host waits for the device."""
        logits = self._pass(delta)
        known = torch.isfinite(logits.detach()).all(dim=-1)
        finite = finite & known.repeat_interleave(self.displacement.own)
        if not bool(known.all()) and not fairscale_wrapper(self.model):
            logits = self._again(delta, finite)
        self.non_finite = (~finite).sum() // self.displacement.own
        return logits

    def _again(self, delta: Tensor, finite: Tensor) -> Tensor:
        """The pass at `delta` once more, with what is `finite` moved alone.

        Other processes make no such pass: it goes past the wrapper, in which DDP would wait for them where it sends
        buffers around (`--broadcast-buffers`). Gradients are gathered at the parameters all the same.
        """
        return self._pass(torch.where(finite[:, None, None], delta, 0.0), model=unwrapped(self.model))

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
                self.clean_logits = self._clean_pass()
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

    def _clean_pass(self) -> Tensor:
        """Class scores of x; without a graph where the loss has no gradient through them."""
        if self.recipe.trains_clean:
            return self._pass()
        with torch.no_grad():
            logits = self._pass()
        # Under autocast, torch 2.5 keeps the weights that this pass has cast, without a graph, for the next one.
        torch.clear_autocast_cache()
        return logits

    def _pass(
        self, delta: Tensor | None = None, sample: Sample | None = None, model: nn.Module | None = None
    ) -> Tensor:
        """Class scores of the batch; with `delta` added at the perturbed layer."""
        self.generators.begin_pass()
        sample, model = self.sample if sample is None else sample, self.model if model is None else model
        if delta is None:
            return self.criterion.logits(model, sample)
        with changed(model, self.recipe.perturb_layer, self.displacement.change(delta)):
            return self.criterion.logits(model, sample)

    def _keys(self, rows: int) -> list[tuple[int, ...]]:
        """(seed, update, example) for each example; with its option's number for each of several rows.

        They are the same on any number of processes and after a resume.
        fairseq's own tasks do not say which update it is, but its trainer seeds torch with seed + update.
        """
        seed = self.criterion.seed
        seed, update = self.criterion.seed_and_update or (seed, torch.initial_seed() - seed)
        examples: list[tuple[int, ...]] = [(seed % 2**64, update, int(i)) for i in self.sample["id"].tolist()]
        if rows == 1:
            return examples
        return [(*example, row) for example in examples for row in range(rows)]


def fairscale_wrapper(model: nn.Module) -> str | None:
    """The name of fairscale's wrapper around the model or inside it, if there is one.

    In it a pass on one process alone would wait for the others for ever: what is not finite stays so there, for the
    trainer's own check of the gradients.
    """
    names = (type(module).__name__ for module in model.modules())
    return next((name for name in names if name.startswith(("FullySharded", "SlowMo"))), None)
