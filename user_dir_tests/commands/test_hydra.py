"""fairseq-hydra-train is fairseq-train with other words; and --bf16 means bf16."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from driving import (
    PACKAGE,
    load_checkpoint,
    logged,
    one_message,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

#: What `train_arguments` says, for fairseq-hydra-train.
SETTINGS = """\
# @package _group_
task:
  _name: xnli
  data: {data}
  encoder: {encoder}
criterion:
  _name: robust_classification
  method: adv
  radius: 0.05
model:
  _name: xlmr_nano
  dropout: 0.1
optimizer:
  _name: adam
lr_scheduler:
  _name: fixed
optimization:
  lr: [0.001]
  max_epoch: 1
dataset:
  batch_size: 16
  num_workers: 0
common:
  cpu: true
  user_dir: {package}
  log_format: json
  log_interval: 1
checkpoint:
  save_dir: {folder}/run
  finetune_from_model: {encoder}/model.pt
  best_checkpoint_metric: accuracy
  maximize_best_checkpoint_metric: true
  no_epoch_checkpoints: true
hydra:
  run:
    dir: {folder}/logs
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory, xnli_folder, encoder_dir) -> Path:
    folder = tmp_path_factory.mktemp("hydra")
    text = SETTINGS.format(data=xnli_folder, encoder=encoder_dir, package=PACKAGE, folder=folder)
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    return folder


def hydra_train(settings: Path, *overrides: str, **environment: str):
    where = ("--config-dir", str(settings), "--config-name", "settings")
    return run_command("fairseq-hydra-train", *where, *overrides, cwd=settings, **environment)


@pytest.fixture(scope="module")
def both(tmp_path_factory, settings, xnli_folder, encoder_dir):
    """(run folder, losses) of fairseq-hydra-train and of fairseq-train."""
    done = hydra_train(settings)
    assert done.returncode == 0, done.stderr[-2000:]
    mark = "[train_inner][INFO] - "
    hydra = [json.loads(line.split(mark)[1]) for line in done.stdout.splitlines() if mark in line]

    folder = tmp_path_factory.mktemp("plain")
    arguments = train_arguments(xnli_folder, encoder_dir, folder, "--method", "adv", "--radius", "0.05")
    with logged() as records:
        train_in_process(*arguments, "--dropout", "0.1")
    plain = [json.loads(record.getMessage()) for record in records if record.name == "train_inner"]
    return (settings / "run", losses(hydra)), (folder, losses(plain))


def losses(lines: list[dict]) -> list[tuple[str, str, str]]:
    return [(line["num_updates"], line["loss"], line["gnorm"]) for line in lines]


def test_both_build_the_same_model_and_reach_the_same_parameters(both):
    hydra, plain = (load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder, _ in both)
    assert {key: value.shape for key, value in hydra.items()} == {key: value.shape for key, value in plain.items()}
    for key, value in hydra.items():
        assert torch.equal(value, plain[key]), key


def test_both_follow_the_same_losses(both):
    (_, hydra), (_, plain) = both
    assert len(plain) == 13
    assert hydra == plain


def test_fairseq_validate_scores_both_alike(both, xnli_folder, tmp_path):
    found = []
    for index, (folder, _) in enumerate(both):
        scores = tmp_path / str(index)
        validate_in_process(*score_arguments(xnli_folder, folder / "checkpoint_best.pt", "--scores", str(scores)))
        found.append((scores / "predictions.tsv").read_bytes())
    assert found[0].count(b"\n") == 136
    assert found[0] == found[1]


def test_a_mistake_is_one_message_under_hydra_too(settings):
    """Hydra would print a stack trace."""
    done = hydra_train(settings, "criterion.method=advv", "checkpoint.save_dir=refused")
    assert "'advv'; did you mean adv?" in one_message(done)


@pytest.mark.skipif(
    "fairseq 0.12.2" in {f"{d.name} {d.version}" for d in metadata.distributions()},
    reason="fairseq 0.12.2 joins the processes of torchrun by itself",
)
def test_processes_that_know_nothing_of_each_other_are_refused(settings):
    """fairseq-hydra-train under torchrun: each process would train alone, into the same folder."""
    alone = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    done = hydra_train(settings, "checkpoint.save_dir=refused", **alone)
    assert "2 processes were launched" in one_message(done)


def test_bf16_on_the_command_line_is_not_a_tpu(tmp_path, xnli_folder, encoder_dir):
    """fairseq alone reads --bf16 as "on a TPU" and stops."""
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path, "--method", "adv", "--bf16")
    train_in_process(*arguments)
    saved = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert saved["cfg"]["common"]["bf16"] is True
    key = "encoder.sentence_encoder.layers.0.fc1.weight"
    start = load_checkpoint(encoder_dir / "model.pt")["model"][key]
    weight = saved["model"][key]
    # fairseq stores what it trained in fp32, but every value is one of bf16.
    assert torch.equal(weight, weight.bfloat16().float())
    assert not torch.equal(weight, start.bfloat16().float())
    validate_in_process(*score_arguments(xnli_folder, tmp_path / "checkpoint_last.pt"))
