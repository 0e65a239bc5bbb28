"""An order of the examples that wastes little padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def length_grouped_order(sizes: npt.ArrayLike, seed: int, epoch: int, width: int = 4) -> npt.NDArray[np.int64]:
    """A permutation of the examples in which neighbours have similar lengths, drawn anew every epoch.

    A shuffle, then a stable sort by length in steps of `width` tokens: examples of about the same length stay in random
    order, so that batches differ from epoch to epoch. A pure function of its arguments. The batches made of it run from
    short to long: shuffle them, as fairseq's iterator does.
    """
    buckets = -(-np.asarray(sizes, dtype=np.int64) // width)
    # NumPy takes no negative seed, fairseq's --seed does.
    shuffled = np.random.default_rng([seed % 2**64, epoch]).permutation(len(buckets))
    return shuffled[np.argsort(buckets[shuffled], kind="stable")]
