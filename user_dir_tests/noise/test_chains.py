import json
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.noise import NoiseChain, NoiseOptions, SynonymNoise, SynonymTable, build, generator

WORDS = {f"w{i}": [f"v{i}", f"u{i}", f"t{i}"] for i in range(20)}
EXAMPLES = [((f"w{i % 20} w1 w2 w3", "w4 w5 w6"),) for i in range(40)]


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(WORDS), encoding="utf-8")
    return str(path)


def noised(chain: NoiseChain, index: int) -> tuple[tuple[str, ...], ...]:
    return chain(EXAMPLES[index], seed=3, epoch=2, index=index)


@pytest.mark.parametrize("workers", [1, 2])
def test_noise_does_not_depend_on_order_or_workers(table, workers):
    expected = [noised(build("synonyms", NoiseOptions(table)), i) for i in range(len(EXAMPLES))]
    order = random.Random(workers).sample(range(len(EXAMPLES)), len(EXAMPLES))
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        results = list(pool.map(partial(noised, build("synonyms", NoiseOptions(table))), order, chunksize=7))
    assert [results[order.index(i)] for i in range(len(EXAMPLES))] == expected


def test_noise_differs_by_seed_epoch_and_example(table):
    chain = build("synonyms", NoiseOptions(table))
    sequences = ((" ".join(WORDS),),)
    keys = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]
    results = {chain(sequences, seed=seed, epoch=epoch, index=index) for seed, epoch, index in keys}
    assert len(results) == len(keys)


def test_the_options_of_a_choice_share_their_stem_and_nothing_else(table):
    stem, other = " ".join(WORDS), " ".join(reversed(WORDS))
    chain = build("synonyms", NoiseOptions(table))
    (stem_1, first), (stem_2, second) = chain(((stem, stem[:-1]), (stem, other)), seed=1, epoch=1, index=0)
    assert stem_1 == stem_2 != stem
    assert first[:10] != stem_1[:10]
    assert second not in (stem_1, other)


def test_equal_texts_of_a_pair_are_noised_apart(table):
    ((first, second),) = build("synonyms", NoiseOptions(table))(((" ".join(WORDS),) * 2,), seed=1, epoch=1, index=0)
    assert first != second


_NUMBERS = st.integers(0, 2**31)


@given(st.integers(-(2**40), 2**40), _NUMBERS, _NUMBERS)
def test_the_key_is_pure_and_salted(seed, epoch, index):
    draw = generator(seed, epoch, index, "synonyms").random(4)
    assert np.array_equal(draw, generator(seed, np.int64(epoch), np.int64(index), "synonyms").random(4))
    assert not np.array_equal(draw, generator(seed, epoch, index, "characters").random(4))
    assert not np.array_equal(draw, generator(seed, epoch, index + 1, "synonyms").random(4))
    assert not np.array_equal(draw, generator(seed, index + 1, epoch, "synonyms").random(4)) or index + 1 == epoch


def test_the_key_never_changes():
    # Stored results stay reproducible only while these numbers stay.
    assert generator(1, 2, 3, "synonyms").integers(0, 1000, 4).tolist() == [875, 248, 836, 83]


def test_noises_act_one_after_the_other():
    class Second(SynonymNoise):
        name = "second"

    chain = NoiseChain([SynonymNoise(SynonymTable({"a": ["b"]})), Second(SynonymTable({"b": ["c"]}))])
    results = {chain((("a",),), seed=1, epoch=1, index=index) for index in range(60)}
    assert results == {(("a",),), (("b",),), (("c",),)}


def test_build_reads_names_and_options(table):
    (noise,) = build(" synonyms ", NoiseOptions(table, "exact")).noises
    assert noise.name == "synonyms"
    assert noise(("W1, W2",), np.random.default_rng(0)) == ("W1, W2",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("synonym", "--noise: unknown noise 'synonym'; did you mean synonyms"),
        ("synonyms+", "--noise: unknown noise ''"),
        ("", "--noise: unknown noise ''"),
        ("synonyms+synonyms", "--noise: 'synonyms' is given twice"),
    ],
)
def test_faulty_names(table, spec, message):
    with pytest.raises(UserError, match=message):
        build(spec, NoiseOptions(table))


def test_synonyms_need_their_table():
    with pytest.raises(UserError, match="--synonyms: the noise 'synonyms' needs a table"):
        build("synonyms", NoiseOptions())
