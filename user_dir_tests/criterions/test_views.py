"""What xTune, EAR and mixup are made of in training: two views of a text, a teacher, and pairs of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from driving import Training, logged, mistake, train_arguments, train_in_process
from scipy import stats

from fairseq_robust_xlt.criterions.mixup import Mixup


@pytest.fixture(scope="module")
def start(sib_folder, encoder_dir, synonyms, tmp_path_factory):
    def training(*flags: str) -> Training:
        folder = tmp_path_factory.mktemp("run")
        given = ("--synonyms", str(synonyms), *flags)
        return Training(*train_arguments(sib_folder, encoder_dir, folder, *given, task="sib200"))

    return training


@pytest.fixture(scope="module")
def teacher(sib_folder, encoder_dir, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    train_in_process(*train_arguments(sib_folder, encoder_dir, folder, task="sib200"))
    return str(folder / "checkpoint_last.pt")


def test_a_batch_has_the_clean_and_the_noised_text(start) -> None:
    """The clean view is that of a run without noise, the noised one that of RS-DA; evaluation has the clean one."""
    both, noised = start("--method", "xtune"), start("--method", "rs-da")
    plain = start("--method", "rs-da")
    plain.task.datasets["train"].noise = None
    for epoch in (1, 2):
        batches = []
        for run in (both, plain, noised):
            dataset = run.task.datasets["train"]
            dataset.set_epoch(epoch)
            batches.append(dataset.collater([dataset[i] for i in range(40)]))
        longest = max(int(batch["net_input"]["src_lengths"].max()) for batch in batches)
        for view, batch in (("net_input", batches[1]), ("noised_input", batches[2])):
            found, wanted = batches[0][view], batch["net_input"]
            assert torch.equal(found["src_lengths"], wanted["src_lengths"])
            length = wanted["src_tokens"].size(1)
            assert torch.equal(found["src_tokens"][:, :length], wanted["src_tokens"])
            assert (found["src_tokens"][:, length:] == 1).all()  # padding
            assert found["src_tokens"].size(1) == longest
        assert "noised_input" not in batches[2]
    both.task.load_dataset("valid")
    dataset = both.task.datasets["valid"]
    assert "noised_input" not in dataset.collater([dataset[0]])


@pytest.mark.parametrize("masks", ["shared", "own"])
def test_both_views_leave_out_the_same_layers(start, masks) -> None:
    """Also where the noised texts are longer: masks and layers are drawn from one stream on a CPU."""
    run = start("--method", "xtune", "--encoder-layerdrop", "0.5", "--dropout-masks", masks)
    dataset, layers = run.task.datasets["train"], list(run.model.encoder.sentence_encoder.layers.children())
    samples = [dataset[i] for i in range(8)]
    for sample in samples:
        sample["noised"] = [torch.cat([row[:-1], row[1:]]) for row in sample["noised"]]
    batch, reached = dataset.collater(samples), []
    handles = [layer.register_forward_hook(lambda m, *_: reached.append(m)) for layer in layers]
    run.model.train()
    run.criterion.train()
    kinds = set()
    for seed in range(12):
        reached.clear()
        torch.manual_seed(seed)
        run.criterion(run.model, batch)
        half = len(reached) // 2
        assert reached[:half] == reached[half:]
        kinds.add(half)
    for handle in handles:
        handle.remove()
    assert len(kinds) > 1  # layers were left out


def test_the_second_view_needs_a_noise(tmp_path, sib_folder, encoder_dir) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("defaults: {perturbation: text, consistency_weight: 1}", encoding="utf-8")
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", "--method", str(own), task="sib200")
    assert "say how with --noise" in mistake(Training, *arguments)


def test_the_teacher_teaches(start, teacher) -> None:
    """KL(teacher || student) on the noised text, on top of the rest, which does not depend on the teacher."""
    none = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0")
    run = start("--method", "xtune-stage2", "--teacher", teacher, "--teacher-weight", "2", *none)
    rest = start("--method", "xtune-stage2", "--teacher", teacher, "--teacher-weight", "0.5", *none)
    batch = next(iter(run.groups()))[0]
    losses = []
    for training in (run, rest):
        training.model.train()
        training.criterion.train()
        torch.manual_seed(1)
        losses.append(training.criterion(training.model, batch)[0])
    from fairseq_robust_xlt import inference

    noised = {**batch, "net_input": batch["noised_input"]}
    student = run.criterion.logits(run.model, noised).double().softmax(-1)
    with torch.no_grad():
        model = inference.open(teacher, cpu=True).model
        target = run.criterion.logits(model, noised).double().softmax(-1)
    term = (target * (target / student).log()).sum()
    assert term > 0.1
    torch.testing.assert_close((losses[0] - losses[1]).double(), 1.5 * term, rtol=1e-4, atol=1e-4)
    with_more, with_less = (
        torch.autograd.grad(loss, list(training.model.parameters()))
        for loss, training in zip(losses, (run, rest), strict=True)
    )
    wanted = torch.autograd.grad(1.5 * term, list(run.model.parameters()))
    for more, less, gradient in zip(with_more, with_less, wanted, strict=True):
        torch.testing.assert_close(more - less, gradient, rtol=2e-3, atol=2e-4)


def test_weights_that_are_for_three_classes(start, teacher) -> None:
    """The published code averages a KL over the classes; SIB-200 has seven."""
    for flags, said in (
        (("xtune:paper",), "they would be --consistency-weight 0.7143"),
        (("xtune-stage2:paper", "--teacher", teacher), "--consistency-weight 0.7143 --teacher-weight 0.7143"),
        (("xtune",), None),
    ):
        with logged() as records:
            start("--method", *flags)
        lines = [r.getMessage() for r in records if "3 classes of XNLI, and this task has 7" in r.getMessage()]
        assert (len(lines) == 1 and lines[0].endswith(said)) if said else lines == []


def test_teachers_that_do_not_fit(start, teacher, standard_run, tmp_path) -> None:
    assert "needs --teacher" in mistake(start, "--method", "xtune-stage2")
    assert "--teacher x.pt: has no meaning" in mistake(start, "--method", "rs-da", "--teacher", "x.pt")
    other = str(standard_run / "checkpoint_last.pt")  # of another benchmark
    said = mistake(start, "--method", "xtune-stage2", "--teacher", other)
    assert f"--teacher {other}" in said
    assert "of kind pair" in said
    missing = str(tmp_path / "none.pt")
    assert missing in mistake(start, "--method", "xtune-stage2", "--teacher", missing)


def pairs(alpha: float, count: int, rows: int = 1, update: int = 3) -> Mixup:
    tokens = torch.full((count * rows, 6), 1)
    for row in range(count * rows):
        tokens[row, : 2 + row % 5] = 5 + row
    table = torch.nn.Embedding(5 + count * rows, 4, padding_idx=1)
    keys = [(7, update, i) for i in range(count)]
    return Mixup(alpha, {"net_input": {"src_tokens": tokens}}, keys, table, rows)


def test_pairs_and_weights_of_mixup() -> None:
    """Beta(alpha, alpha), each example a partner once; functions of the keys; options keep their order."""
    drawn = pairs(0.4, 2000)
    assert stats.kstest(drawn.weight.numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 1e-3
    assert sorted(drawn.partner.tolist()) == list(range(2000))
    assert torch.equal(drawn.partner, pairs(0.4, 2000).partner)
    other = pairs(0.4, 2000, update=4)
    assert (drawn.partner != other.partner).float().mean() > 0.9
    assert (drawn.weight != other.weight).float().mean() > 0.9
    choice = pairs(0.4, 6, rows=3)
    words = choice.table(choice.sample["net_input"]["src_tokens"])
    mixed = choice.change(words)
    weights, partner = choice.weight.tolist(), choice.partner.tolist()
    for row in range(18):
        own, option = divmod(row, 3)
        other = 3 * partner[own] + option
        lengths = [2 + row % 5, 2 + other % 5]
        table = choice.table.weight
        for place in range(6):
            parts = [table[5 + r] if place < n else None for r, n in zip((row, other), lengths, strict=True)]
            if None in [p if p is None else 0 for p in parts]:
                wanted = next((p for p in parts if p is not None), table[1])
            else:
                wanted = weights[own] * parts[0] + (1 - weights[own]) * parts[1]
            torch.testing.assert_close(mixed[row, place], wanted)
    assert np.array_equal(choice.sample["net_input"]["src_lengths"].numpy(),
                          [max(2 + r % 5, 2 + (3 * partner[r // 3] + r % 3) % 5) for r in range(18)])  # fmt: skip
