import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairseq_robust_xlt.text import length_grouped_order

_SIZES = st.lists(st.integers(1, 200), max_size=200)
_SEEDS = st.integers(-(2**40), 2**40)


@given(_SIZES, _SEEDS, st.integers(0, 1000), st.integers(1, 16))
def test_a_permutation_sorted_by_length_in_steps(sizes, seed, epoch, width):
    order = length_grouped_order(sizes, seed, epoch, width)
    assert sorted(order.tolist()) == list(range(len(sizes)))
    steps = [(sizes[i] + width - 1) // width for i in order]
    assert steps == sorted(steps)
    assert np.array_equal(order, length_grouped_order(np.array(sizes), seed, epoch, width))


@given(_SEEDS, st.integers(0, 1000))
def test_another_order_every_epoch_and_seed(seed, epoch):
    sizes = np.full(300, 17)
    order = length_grouped_order(sizes, seed, epoch)
    assert not np.array_equal(order, length_grouped_order(sizes, seed, epoch + 1))
    assert not np.array_equal(order, length_grouped_order(sizes, seed + 1, epoch))


def test_examples_of_a_length_meet_different_neighbours():
    sizes = np.repeat(np.arange(1, 101), 100)
    neighbours = [set(length_grouped_order(sizes, 1, epoch)[:32].tolist()) for epoch in (1, 2)]
    assert len(neighbours[0] & neighbours[1]) < 16  # 32 of the same 400 examples: about 3 by chance


def test_little_padding_on_lengths_like_those_of_xnli():
    # English pairs of XNLI have a mean of 35 tokens and a long tail; a gamma distribution has about their shape.
    sizes = np.clip(np.random.default_rng(0).gamma(4, 35 / 4, 20_000), 8, 128).astype(int)

    def fill(order: np.ndarray) -> float:
        batches = [sizes[order[i : i + 32]] for i in range(0, len(order), 32)]
        return sizes.sum() / sum(len(batch) * batch.max() for batch in batches)

    assert fill(length_grouped_order(sizes, 1, 1)) > 0.9 > fill(np.arange(len(sizes)))
