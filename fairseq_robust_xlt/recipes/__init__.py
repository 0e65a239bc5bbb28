"""Recipes: what each robust-training method means, as data. See `resolve`."""

from fairseq_robust_xlt.recipes.cost import count, thirds
from fairseq_robust_xlt.recipes.loader import Recipe, names, resolve

__all__ = ["Recipe", "count", "names", "resolve", "thirds"]
