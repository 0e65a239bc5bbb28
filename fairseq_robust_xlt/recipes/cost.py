"""What an update costs, counted from a recipe's settings: passes through the encoder, in thirds of a standard update.

A forward pass, a gradient by activations and a gradient by parameters count a third each, since each multiplies every
weight with every token once (`encoders.footprint.flops` has the exact numbers, with attention).
"""

from __future__ import annotations

from typing import NamedTuple

from fairseq_robust_xlt.recipes.recipe import Recipe


class Count(NamedTuple):
    """Forward passes and gradients of an update. As many passes as have a gradient by parameters are held at once."""

    forward: int
    activations: int
    parameters: int


def count(recipe: Recipe) -> Count:
    """The passes of one update, as `criterions.passes` makes them.

    A pass that the loss is taken at has a forward pass and both gradients, a step of an ascent a forward pass and a
    gradient by activations (above the word embeddings that is an upper bound: it ends at the perturbed layer).
    """
    ascends = recipe.perturbs and recipe.perturbation in ("ascent", "virtual")
    every = ascends and recipe.perturbed_points == "all"
    compares, trains_clean = recipe.consistency_weight > 0, recipe.trains_clean
    # All but a consistency that stops there train the perturbed pass.
    trains_perturbed = (
        recipe.perturbed_weight or recipe.teacher_weight or recipe.embedding_push or recipe.attention_pull
    )
    trains_perturbed = bool(trains_perturbed or (compares and recipe.consistency_stop != "perturbed"))
    makes_clean = trains_clean or compares or (ascends and recipe.perturbation == "virtual")

    points = recipe.perturb_steps if every else int(recipe.perturbs)
    steps = recipe.perturb_steps - every if ascends else 0
    # The first pass of an ascent from the clean input is the clean one; a point of the loss needs no second pass.
    shared = makes_clean and steps > 0 and recipe.perturbation == "ascent" and not recipe.perturb_start
    shared = shared and recipe.perturbed_embeddings == "trained"
    others = (recipe.teacher_weight > 0) + (recipe.bregman_weight > 0)  # other models: a forward pass each
    forward = (makes_clean and not shared) + (steps + 1 if ascends else points) + others
    trained = (trains_clean and not (shared and every and trains_perturbed)) + points * trains_perturbed
    return Count(forward, steps + trained, trained)


def thirds(recipe: Recipe) -> int:
    """The cost of an update in thirds of a standard one: 3 for one pass, 2K + 3 for K steps of ascent, ..."""
    return sum(count(recipe))
