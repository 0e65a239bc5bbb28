"""What fairseq alone does wrong in training, with exit status 0: each test's name says what holds here."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys

import pytest
import torch
from driving import (
    Training,
    json_lines,
    load_checkpoint,
    logged,
    mistake,
    run_command,
    train_arguments,
    train_in_process,
)


def messages(call, *arguments) -> str:
    with logged() as records:
        call(*arguments)
    return "\n".join(f"{record.levelname} | {record.name} | {record.getMessage()}" for record in records)


def test_the_tail_of_a_data_set_is_trained_on(tmp_path, xnli_folder, encoder_dir):
    training = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path))
    ids = [int(i) for (batch,) in training.groups() for i in batch["id"]]
    assert sorted(ids) == list(range(203))


def test_an_encoder_that_was_not_loaded_is_refused(tmp_path, xnli_folder, encoder_dir):
    """fairseq would fine-tune a random encoder."""
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run")
    at = arguments.index("--finetune-from-model")
    del arguments[at : at + 2]
    message = mistake(train_in_process, *arguments)
    assert f"--finetune-from-model {encoder_dir}/model.pt" in message
    assert not list((tmp_path / "run").glob("*"))
    train_in_process(*arguments, "--from-scratch", "--max-update", "2")
    saved = load_checkpoint(tmp_path / "run/checkpoint_last.pt")
    assert saved["task_state"]["run_record"]["encoder"] is None


def test_finetune_from_model_loads_the_encoder(standard_run, tmp_path, xnli_folder, encoder_dir):
    training = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path))
    state, start = training.model.state_dict(), load_checkpoint(encoder_dir / "model.pt")["model"]
    body = [key for key in start if ".lm_head." not in key]
    assert len(body) > 30
    for key in body:
        assert torch.equal(state[key], start[key]), key


def test_restore_file_with_resets_loads_the_encoder_too(tmp_path, xnli_folder, encoder_dir):
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path)
    at = arguments.index("--finetune-from-model")
    arguments[at] = "--restore-file"
    resets = ("--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler")
    training = Training(*arguments, *resets)
    key = "encoder.sentence_encoder.layers.1.fc2.weight"
    assert torch.equal(training.model.state_dict()[key], load_checkpoint(encoder_dir / "model.pt")["model"][key])


def test_data_workers_learn_of_a_new_epoch(tmp_path, xnli_folder, encoder_dir, synonyms):
    """fairseq's workers stay in epoch 1, and its noise would repeat."""

    def epochs(workers: int) -> list[dict[int, list[int]]]:
        more = ("--method", "rs-da", "--synonyms", str(synonyms), "--num-workers", str(workers))
        training = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path, *more))
        seen = []
        for _ in range(2):
            batches = [batch for (batch,) in training.groups()]
            texts = {}
            for batch in batches:
                for i, row in zip(batch["id"].tolist(), batch["net_input"]["src_tokens"].tolist(), strict=True):
                    texts[i] = [token for token in row if token != 1]
            seen.append(texts)
            training.iterator = training.trainer.get_train_iterator(training.iterator.next_epoch_idx)
        return seen

    with_workers, without = epochs(2), epochs(0)
    assert with_workers == without
    first, second = with_workers
    changed = sum(first[i] != second[i] for i in range(203))
    assert changed > 100


def test_data_workers_do_not_outlive_their_epoch(tmp_path, xnli_folder, encoder_dir):
    """fairseq keeps the workers of every epoch (14 processes after eight), and collecting one takes five seconds."""
    training = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path, "--num-workers", "2"))
    before = set(multiprocessing.active_children())
    for _ in range(6):
        assert len(list(training.groups())) == 13
        training.iterator = training.trainer.get_train_iterator(training.iterator.next_epoch_idx)
        assert len(set(multiprocessing.active_children()) - before) <= 2


def test_no_workers_and_an_end_within_an_epoch_exit_0(tmp_path, xnli_folder, encoder_dir):
    """fairseq's reader thread aborts the interpreter (exit status 134)."""
    done = run_command("fairseq-train", *train_arguments(xnli_folder, encoder_dir, tmp_path, "--max-update", "5"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json_lines(done.stdout, "train_inner")) == 5


def test_accuracy_is_logged_and_compared_unrounded(standard_run):
    """fairseq rounds to one decimal, and ties go to the later checkpoint."""
    best = load_checkpoint(standard_run / "checkpoint_best.pt")["extra_state"]["best"]
    hits = best * 45 / 100
    assert hits == pytest.approx(round(hits), abs=1e-4)
    assert best == pytest.approx(100 * round(hits) / 45, abs=1e-4)


def test_validation_without_saving_is_warned_of(tmp_path, xnli_folder, encoder_dir):
    def said(*more: str) -> str:
        return messages(Training, *train_arguments(xnli_folder, encoder_dir, tmp_path, *more))

    assert "validates without saving" in said("--validate-interval-updates", "5")
    assert "validates without saving" in said("--validate-interval-updates", "5", "--save-interval-updates", "10")
    assert "validates without saving" not in said("--validate-interval-updates", "10", "--save-interval-updates", "5")
    assert "validates without saving" not in said("--save-interval-updates", "5")


def test_only_source_language_dev_data_select_checkpoints(tmp_path, xnli_folder, encoder_dir):
    """fairseq selects on whatever --valid-subset comes first."""
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run")
    for other in ("dev-sw", "dev", "test-en"):
        message = mistake(train_in_process, *arguments, "--valid-subset", f"{other},valid")
        assert f"--valid-subset valid,{other}" in message
    said = messages(train_in_process, *arguments, "--valid-subset", "dev-en,dev-sw")
    valid = [json.loads(line.split(" | ")[2]) for line in said.splitlines() if " | dev-en | {" in line]
    best = load_checkpoint(tmp_path / "run/checkpoint_best.pt")["extra_state"]["best"]
    assert best == pytest.approx(float(valid[0]["dev-en_accuracy"]), abs=1e-4)


def test_scores_in_training_are_refused(tmp_path, xnli_folder, encoder_dir):
    """The flag would be stored, and act again at every validation."""
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", "--scores", str(tmp_path / "scores"))
    assert "--scores" in mistake(train_in_process, *arguments)
    assert not (tmp_path / "scores").exists()


def test_workers_that_are_reused_are_refused(tmp_path, xnli_folder, encoder_dir):
    for flag in ("--reuse-dataloader", "--persistent-workers"):
        arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", flag)
        assert flag in mistake(train_in_process, *arguments)


LOADS_AT_EXIT = """
import sys
import torch
from fairseq.data.iterators import BufferedIterator
if sys.argv[1] == "prepared":
    import fairseq_robust_xlt
    fairseq_robust_xlt.register()

class Source:
    def __len__(self):
        return 100_000
    def __iter__(self):
        for _ in range(len(self)):
            yield torch.rand(700, 700) @ torch.rand(700, 700)

next(BufferedIterator(1000, Source()))
"""


@pytest.mark.parametrize(("how", "status"), [("prepared", 0), ("alone", -signal.SIGABRT)])
def test_a_process_that_still_loads_data_at_its_end_exits_with_0(how, status):
    """fairseq alone aborts, after a training that has done everything: its thread still computes at the end, as where
    --max-update stops within an epoch."""
    done = subprocess.run([sys.executable, "-c", LOADS_AT_EXIT, how], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr[-2000:]
    assert ("terminate called" in done.stderr) is (status != 0)
