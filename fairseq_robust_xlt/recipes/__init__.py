"""Recipes: what each robust-training method means, as data. See `resolve`."""

from fairseq_robust_xlt.recipes.cost import count, thirds
from fairseq_robust_xlt.recipes.loader import FLAGS, names, resolve
from fairseq_robust_xlt.recipes.recipe import KEYS, Recipe

__all__ = ["FLAGS", "KEYS", "Recipe", "count", "names", "resolve", "thirds"]
