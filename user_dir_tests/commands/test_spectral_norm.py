"""--method r4f alone puts a spectral norm on the head: in training, when resumed and when scored."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from driving import (
    Training,
    load_checkpoint,
    mistake,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import inference

PREFIX = "classification_heads.sentence_classification_head.out_proj."


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sib_folder, encoder_dir):
    """A run of one epoch, and the arguments that it was started with."""
    folder = tmp_path_factory.mktemp("r4f")
    arguments = train_arguments(sib_folder, encoder_dir, folder, "--method", "r4f", task="sib200")
    train_in_process(*arguments)
    return folder, arguments


def test_the_head_has_it_and_keeps_it(trained, sib_folder, tmp_path, caplog) -> None:
    folder, arguments = trained
    state = load_checkpoint(folder / "checkpoint_last.pt")
    names = {key.removeprefix(PREFIX) for key in state["model"] if key.startswith(PREFIX)}
    assert names == {"weight_orig", "weight_u", "bias"} | ({"weight_v"} & names)
    resumed = Training(*arguments)
    head = resumed.model.classification_heads["sentence_classification_head"].out_proj
    assert resumed.trainer.get_num_updates() == 13
    assert torch.equal(head.weight_orig, state["model"][PREFIX + "weight_orig"])

    checkpoint = folder / "checkpoint_last.pt"
    with caplog.at_level(logging.WARNING):
        scored = ("--valid-subset", "dev", "--scores", str(tmp_path))
        validate_in_process(*score_arguments(sib_folder, checkpoint, *scored, task="sib200"))
    assert not [r for r in caplog.records if "Overwriting" in r.getMessage()]
    classifier = inference.open(str(checkpoint), cpu=True)
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["subsets"]["dev"]["languages"]
    rows = [line.split("\t") for line in (sib_folder / "dev-en.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    predicted = classifier.predict([row[2] for row in rows])
    right = sum(found.label == row[1] for found, row in zip(predicted, rows, strict=True))
    assert scores["en"]["correct"] == right
    matrix = classifier.model.classification_heads["sentence_classification_head"].out_proj.weight
    largest = torch.linalg.svdvals(matrix.detach().double())[0]
    assert 0.95 < largest < 1.2  # power iteration has had an epoch to find it


def test_heads_that_differ_in_it_are_refused(trained, standard_run, sib_folder, encoder_dir, tmp_path) -> None:
    folder, _ = trained
    plain = train_arguments(sib_folder, encoder_dir, tmp_path / "plain", task="sib200")
    plain[plain.index("--finetune-from-model") + 1] = str(folder / "checkpoint_last.pt")
    assert "has a spectral norm and this run wants none" in mistake(Training, *plain)
    new = [*plain, "--classification-head-name", "fresh"]
    names = Training(*new).model.classification_heads.keys()
    assert list(names) == ["fresh"]


@pytest.mark.parametrize("method", ["fgm", "r4f"])
def test_one_power_iteration_a_step(method, sib_folder, encoder_dir, tmp_path) -> None:
    """All passes of a step see one network, also where the norm is there by fairseq's own flag."""
    flags = ("--method", method, "--spectral-norm-classification-head")
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200"))
    batch = next(iter(run.groups()))[0]
    run.model.train().keep_embedding_norm()
    run.criterion.train()
    layer = run.model.classification_heads["sentence_classification_head"].out_proj
    before = layer.weight_u.clone()
    expected = torch.nn.functional.normalize(layer.weight_orig.detach().T @ before, dim=0)
    expected = torch.nn.functional.normalize(layer.weight_orig.detach() @ expected, dim=0)
    run.criterion(run.model, batch)
    torch.testing.assert_close(layer.weight_u, expected)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert layer.training


def test_a_model_without_it_is_refused(sib_folder, encoder_dir, tmp_path) -> None:
    """As with fairseq's own task, which does not know what a method needs of the head."""
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, "--method", "r4f", task="sib200"))
    plain = Training(*train_arguments(sib_folder, encoder_dir, tmp_path / "plain", task="sib200"))
    batch = next(iter(run.groups()))[0]
    run.criterion.train()
    said = mistake(run.criterion, plain.model, batch)
    assert "--spectral-norm-classification-head" in said


def test_a_model_in_evaluation_stays_in_it(sib_folder, encoder_dir, tmp_path) -> None:
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, "--method", "r4f", task="sib200"))
    batch = next(iter(run.groups()))[0]
    run.model.keep_embedding_norm()
    run.model.eval()
    run.criterion.train()
    layer = run.model.classification_heads["sentence_classification_head"].out_proj
    before = layer.weight_u.clone()
    for _ in range(2):
        run.criterion(run.model, batch)
    assert not layer.training
    assert torch.equal(layer.weight_u, before)
