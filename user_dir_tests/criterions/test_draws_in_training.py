"""What reaches the encoder: random perturbations keyed by (seed, update, example), and never any on padding."""

from __future__ import annotations

import contextlib

import pytest
import torch
from driving import Training, train_arguments

from fairseq_robust_xlt.errors import UserError

PAD = 1
NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0")
RANDOM = ("--method", "rs-rp", "--radius", "0.7")


@pytest.fixture(scope="module")
def run(sib_folder, encoder_dir, tmp_path_factory):
    made: dict[tuple[str, ...], Training] = {}

    def training(*flags: str) -> Training:
        if flags not in made:
            folder = tmp_path_factory.mktemp("run")
            arguments = train_arguments(sib_folder, encoder_dir, folder, *NO_DROPOUT, *flags, task="sib200")
            made[flags] = Training(*arguments)
            made[flags].model.train().keep_embedding_norm()
            made[flags].criterion.train()
        return made[flags]

    return training


@contextlib.contextmanager
def embedded(model):
    """What every forward pass in the block has behind words and positions, [batch, length, dim]."""
    seen: list[torch.Tensor] = []
    norm = model.encoder.sentence_encoder.layernorm_embedding
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    try:
        yield seen
    finally:
        handle.remove()


def noise_of(training: Training, examples: list[int], update: int, seed: int = 1) -> dict[int, torch.Tensor]:
    """Example -> the perturbation [length, dim] that it gets in a batch of these examples."""
    dataset = training.task.datasets["train"]
    batch = dataset.collater([dataset[i] for i in examples])
    training.criterion.seed_and_update = (seed, update)
    with embedded(training.model) as seen:
        training.criterion.logits(training.model, batch)
        training.criterion(training.model, batch)
    delta = seen[-1] - seen[0]
    lengths = batch["net_input"]["src_lengths"].tolist()
    return {i: row[:n] for i, row, n in zip(examples, delta, lengths, strict=True)}


def test_keyed_by_seed_update_and_example(run) -> None:
    training = run(*RANDOM)
    alone, together = noise_of(training, [3], 5)[3], noise_of(training, [90, 3, 17], 5)
    assert alone.norm(dim=-1).min() > 0.1
    torch.testing.assert_close(alone, together[3])
    for other in (noise_of(training, [3], 6)[3], noise_of(training, [3], 5, seed=2)[3]):
        assert (alone - other).norm(dim=-1).min() > 0.1
    shared = min(len(alone), len(together[17]))
    assert (alone[:shared] - together[17][:shared]).norm(dim=-1).min() > 0.1


def test_the_trainer_counts_the_updates(run) -> None:
    """The same batch in two updates of the real trainer gets two perturbations, those of its keys."""
    training = run(*RANDOM)
    batch = next(iter(training.groups()))[0]
    examples = batch["id"].tolist()
    for update in range(2):
        assert training.trainer.get_num_updates() == update
        expected = noise_of(training, examples, update, seed=1)
        with embedded(training.model) as seen, torch.no_grad():
            training.criterion.logits(training.model, batch)
        clean = seen[0]
        with embedded(training.model) as seen:
            training.trainer.train_step([batch])
        for row, i in enumerate(examples):
            found = (seen[-1] - clean)[row, : len(expected[i])]
            torch.testing.assert_close(found, expected[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        ("rs-rp", "--perturb-draw", "gaussian"),
        ("rs-rp", "--perturb-draw", "sphere", "--perturb-norm", "linf"),
        ("rs-rp", "--perturb-draw", "uniform", "--perturb-scope", "sequence"),
        ("adv",),
        ("adv", "--perturb-norm", "linf"),
        ("fgm", "--perturb-scope", "sequence"),
        ("freelb",),
        ("r3f",),
        ("smart", "--perturb-norm", "linf"),
    ],
    ids=" ".join,
)
def test_never_on_padding(run, flags) -> None:
    training = run("--method", *flags, "--radius", "3")
    dataset = training.task.datasets["train"]
    order = dataset.sizes.argsort()
    batch = dataset.collater([dataset[int(i)] for i in (order[0], order[-1])])
    padding = batch["net_input"]["src_tokens"].eq(PAD)
    assert padding.any()
    with embedded(training.model) as seen:
        training.criterion.logits(training.model, batch)
        training.criterion(training.model, batch)
    clean, passes = seen[0], seen[1:]
    assert len(passes) == {"rs-rp": 1, "adv": 2, "fgm": 2, "freelb": 2, "r3f": 2, "smart": 3}[flags[0]]
    for one in passes:
        assert torch.equal(one[padding], clean[padding])
    perturbed = passes[0 if flags[0] == "r3f" else -1]
    assert (perturbed - clean)[~padding].norm(dim=-1).min() > 0


def test_evaluation_is_the_plain_classifier(run) -> None:
    """Whatever the method: one pass, nothing drawn, the loss of the clean input."""
    training = run("--method", "adv", "--radius", "3")
    batch = next(iter(training.groups()))[0]
    training.criterion.eval()
    try:
        with embedded(training.model) as seen, torch.no_grad():
            loss, size, log = training.criterion(training.model, batch)
            logits = training.criterion.logits(training.model, batch)
    finally:
        training.criterion.train()
    assert torch.equal(seen[0], seen[1])
    expected = torch.nn.functional.cross_entropy(logits, batch["target"], reduction="sum")
    torch.testing.assert_close(loss, expected)
    assert size == len(batch["id"])
    assert log["ncorrect"] == logits.argmax(1).eq(batch["target"]).sum()
    assert "perturbed_ncorrect" not in log


def test_relative_radii_need_the_unit(run) -> None:
    """fairseq's own architectures do not keep it; absolute radii work there."""
    from fairseq import models

    from fairseq_robust_xlt.criterions.passes import Passes

    training = run(*RANDOM)
    settings = type(training.cfg.model)(**{k: v for k, v in vars(training.cfg.model).items() if k != "encoder"})
    settings.arch = settings._name = "roberta"
    stock = models.build_model(settings, training.task)
    stock.register_classification_head("sentence_classification_head", num_classes=7)
    batch = next(iter(training.groups()))[0]
    with pytest.raises(UserError, match="--radius-unit relative: this architecture"):
        Passes(training.criterion, stock, batch).run()
    absolute = run("--method", "fgm", "--radius-unit", "absolute").criterion
    loss, _, _ = absolute(stock, batch)
    assert torch.isfinite(loss)
