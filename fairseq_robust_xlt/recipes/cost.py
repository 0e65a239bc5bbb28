"""What an update costs, counted from a recipe's settings: passes through the encoder, in thirds of a standard update.

A forward pass, a gradient by activations and a gradient by parameters count a third each, since each multiplies every
weight with every token once (`encoders.footprint.flops` has the exact numbers, with attention).
"""

from __future__ import annotations

from typing import NamedTuple

from fairseq_robust_xlt.recipes.loader import Recipe


class Count(NamedTuple):
    """Forward passes and gradients of an update. As many passes as have a gradient by parameters are held at once."""

    forward: int
    activations: int
    parameters: int


def count(recipe: Recipe) -> Count:
    """The passes of one update: each loss has a forward pass and both gradients, each step of the ascent a forward
    pass and a gradient by activations; an ascent that starts at the clean input shares its first pass."""
    losses = (recipe.clean_weight > 0) + (recipe.perturbed_weight > 0)
    steps = recipe.perturb_steps if recipe.perturbed_weight and recipe.perturbation == "ascent" else 0
    shared = steps > 0 and recipe.clean_weight > 0 and not recipe.random_start
    return Count(steps + losses - shared, steps + losses, losses)


def thirds(recipe: Recipe) -> int:
    """The cost of an update in thirds of a standard one: 3 for one pass, 2K + 3 for K steps of ascent, ..."""
    return sum(count(recipe))
