"""What fairseq's real iterators make of the data sets: every example once, similar lengths together, noise anew."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from driving import Training, train_arguments

BATCH = 16


@pytest.fixture(scope="module")
def run(sib_folder, encoder_dir, synonyms, tmp_path_factory) -> Training:
    """Training with synonym noise, set up but not begun."""
    folder = tmp_path_factory.mktemp("run")
    flags = ("--method", "rs-da", "--synonyms", str(synonyms), "--seed", "4")
    return Training(*train_arguments(sib_folder, encoder_dir, folder, *flags, task="sib200"))


def epoch_of(run: Training, epoch: int, workers: int = 0, shards: int = 1, shard: int = 0, subset="train"):
    """The batches of one epoch from a fresh iterator, as the trainer makes it."""
    iterator = run.task.get_batch_iterator(
        run.task.datasets[subset],
        max_sentences=BATCH,
        max_positions=run.task.max_positions(),
        required_batch_size_multiple=8,
        seed=run.cfg.common.seed,
        num_shards=shards,
        shard_id=shard,
        num_workers=workers,
        data_buffer_size=10,
        epoch=epoch,
        disable_iterator_cache=True,
    )
    return [batch for batch in iterator.next_epoch_itr(shuffle=subset == "train") if batch]


def texts(batches) -> dict[int, list[int]]:
    """Example -> its tokens without padding."""
    return {
        int(i): row[:n].tolist()
        for batch in batches
        for i, row, n in zip(
            batch["id"], batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"].tolist(), strict=True
        )
    }


@pytest.fixture(scope="module")
def first(run):
    return epoch_of(run, 1)


def test_every_example_once(run, first) -> None:
    for batches in (first, epoch_of(run, 2)):
        ids = [int(i) for batch in batches for i in batch["id"]]
        assert sorted(ids) == list(range(203))
    # 203 is no multiple of 8: fairseq would drop three.
    assert sum(len(batch["id"]) for batch in first) == 203


def test_every_example_is_evaluated(run) -> None:
    run.task.load_dataset("dev")
    batches = epoch_of(run, 1, subset="dev")
    assert sorted(int(i) for batch in batches for i in batch["id"]) == list(range(135))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_have_no_say(run, first, workers) -> None:
    """Order, noise and batches are the same; also in the second epoch, of which workers must learn."""
    for epoch, alone in ((1, first), (2, epoch_of(run, 2))):
        several = epoch_of(run, epoch, workers=workers)
        assert [batch["id"].tolist() for batch in several] == [batch["id"].tolist() for batch in alone]
        assert texts(several) == texts(alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_noise_of_one_iterator_is_drawn_anew_each_epoch(run, workers) -> None:
    """One iterator over three epochs, as in training: fairseq keeps workers, which then never see a new epoch."""
    iterator = run.task.get_batch_iterator(
        run.task.datasets["train"], max_sentences=BATCH, seed=4, num_workers=workers, data_buffer_size=10
    )
    seen = [texts(list(iterator.next_epoch_itr(shuffle=True))) for _ in range(3)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        changed = sum(seen[one][i] != seen[other][i] for i in range(203))
        assert changed > 100
    assert seen[1] == texts(epoch_of(run, 2))


def test_noise_changes_words_and_no_label(run, first) -> None:
    dataset = run.task.datasets["train"]
    plain = {i: dataset.encoded.item(i).tolist() for i in range(len(dataset))}
    assert sum(texts(first)[i] != plain[i] for i in plain) > 100
    for batch in first:
        assert batch["target"].tolist() == [dataset.examples[int(i)].label for i in batch["id"]]


def test_no_noise_in_evaluation(run) -> None:
    run.task.load_dataset("valid")
    dataset = run.task.datasets["valid"]
    found = texts(epoch_of(run, 3, subset="valid"))
    assert found == {i: dataset.encoded.item(i).tolist() for i in range(len(dataset))}


def test_batches_hold_similar_lengths(run, first) -> None:
    """Little padding: fairseq's sentence_prediction batches at random."""
    sizes = run.task.datasets["train"].sizes

    def fill(groups) -> float:
        return sum(sizes[g].sum() for g in groups) / sum(len(g) * sizes[g].max() for g in groups)

    grouped = fill([batch["id"].numpy() for batch in first])
    order = np.random.default_rng(0).permutation(len(sizes))
    random = fill(np.split(order, range(BATCH, len(order), BATCH)))
    assert grouped > 0.85
    assert grouped > random + 0.1
    for batch in first:
        lengths = sizes[batch["id"].numpy()]
        assert batch["net_input"]["src_tokens"].shape[1] <= lengths.max() + 30


def test_batches_are_made_anew_and_shuffled(run, first) -> None:
    second = epoch_of(run, 2)
    sets = [{frozenset(batch["id"].tolist()) for batch in batches} for batches in (first, second)]
    assert len(sets[0] & sets[1]) < 3
    means = [run.task.datasets["train"].sizes[batch["id"].numpy()].mean() for batch in first]
    assert means != sorted(means)  # short and long batches in random order
    again = epoch_of(run, 1)
    assert [batch["id"].tolist() for batch in again] == [batch["id"].tolist() for batch in first]


def test_the_order_depends_on_the_epoch(run) -> None:
    dataset = run.task.datasets["train"]
    orders = []
    for epoch in (1, 2, 1):
        dataset.set_epoch(epoch)
        orders.append(dataset.ordered_indices())
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[0], orders[2])
    assert all(sorted(order) == list(range(203)) for order in orders)


@pytest.mark.parametrize("shards", [2, 3])
def test_processes_share_one_order(run, first, shards) -> None:
    """Process k of n takes the batches k, k + n, ... of the order that one process has, with the same noise."""
    parts = [epoch_of(run, 1, shards=shards, shard=shard) for shard in range(shards)]
    whole = [batch["id"].tolist() for batch in first]
    for shard, part in enumerate(parts):
        assert [batch["id"].tolist() for batch in part] == whole[shard::shards]
    together = {i: tokens for part in parts for i, tokens in texts(part).items()}
    assert together == texts(first)


def test_the_share_of_replaced_words_is_logged(run, caplog) -> None:
    with caplog.at_level(logging.INFO):
        run.task.load_dataset("train")
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("noise synonyms")]
    assert "of the words have a synonym" in line
