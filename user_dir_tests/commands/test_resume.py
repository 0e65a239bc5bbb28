"""A run that is killed and started again ends where the uninterrupted one does, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from driving import json_lines, load_checkpoint, logged, run_command, train_arguments, train_in_process

UPDATES = 26  # two epochs of 203 examples in batches of 16


def settings(synonyms: Path) -> list[str]:
    """Ascent, text noise and dropout, two data workers, a save every five updates and at the end of an epoch."""
    return [
        *("--method", "adv", "--noise", "synonyms", "--synonyms", str(synonyms)),
        *("--dropout", "0.1", "--attention-dropout", "0.1", "--num-workers", "2"),
        *("--max-epoch", "2", "--save-interval-updates", "5", "--keep-interval-updates", "1"),
    ]


def kill_after(update: int, arguments: list[str]) -> int:
    """Start fairseq-train, kill -9 it and its workers once it has logged this update; the last update it logged."""
    with subprocess.Popen(
        [Path(sys.executable).parent / "fairseq-train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        last = 0
        for line in process.stdout:
            if "| train_inner |" in line:
                last = int(json.loads(line.split("| train_inner | ")[1])["num_updates"])
                if last == update:
                    os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return last


@pytest.fixture(scope="module")
def runs(tmp_path_factory, xnli_folder, encoder_dir, synonyms):
    """(folder of the uninterrupted run, folder of the run that was killed and started again, output of its restart)"""
    folder = tmp_path_factory.mktemp("resume")
    whole = train_arguments(xnli_folder, encoder_dir, folder / "whole", *settings(synonyms))
    done = run_command("fairseq-train", *whole)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json_lines(done.stdout, "train_inner")) == UPDATES

    arguments = train_arguments(xnli_folder, encoder_dir, folder / "killed", *settings(synonyms))
    last = kill_after(17, arguments)
    saved = load_checkpoint(folder / "killed/checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
    assert 0 < saved < last < UPDATES, "killed in the middle, at an update that is in no checkpoint"

    again = run_command("fairseq-train", *arguments)
    assert again.returncode == 0, again.stderr[-2000:]
    assert int(json_lines(again.stdout, "train_inner")[0]["num_updates"]) == saved + 1
    return folder / "whole", folder / "killed", again.stdout


def differing(one, other, where="") -> list[str]:
    """Where two nested states differ in a single bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) and one.dtype == other.dtype else [where]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        return [found for key in one for found in differing(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), where
        return [f for i, (a, b) in enumerate(zip(one, other, strict=True)) for f in differing(a, b, f"{where}/{i}")]
    return [] if one == other else [where]


def test_killed_and_started_again_equals_uninterrupted_bit_for_bit(runs):
    whole, killed = (load_checkpoint(folder / "checkpoint_last.pt") for folder in runs[:2])
    assert whole["optimizer_history"][-1] == killed["optimizer_history"][-1]
    assert whole["optimizer_history"][-1]["num_updates"] == UPDATES
    for part in ("model", "last_optimizer_state", "task_state"):
        assert differing(whole[part], killed[part], part) == []
    moments = whole["last_optimizer_state"]["state"]
    assert any(state["exp_avg"].abs().sum() > 0 for state in moments.values())


def test_the_restart_selects_the_same_best_checkpoint(runs):
    whole, killed = (load_checkpoint(folder / "checkpoint_best.pt") for folder in runs[:2])
    assert differing(whole["model"], killed["model"]) == []
    assert whole["extra_state"]["best"] == killed["extra_state"]["best"]


def test_training_moved_the_encoder(runs, encoder_dir):
    """The equality above would be worth nothing if nothing had been trained."""
    trained = load_checkpoint(runs[0] / "checkpoint_last.pt")["model"]
    start = load_checkpoint(encoder_dir / "model.pt")["model"]
    key = "encoder.sentence_encoder.layers.0.fc1.weight"
    assert not torch.equal(trained[key], start[key])


def test_a_finished_run_started_again_trains_nothing_more(runs, xnli_folder, encoder_dir, synonyms):
    before = load_checkpoint(runs[0] / "checkpoint_last.pt")
    with logged() as records:
        train_in_process(*train_arguments(xnli_folder, encoder_dir, runs[0], *settings(synonyms)))
    assert not [record for record in records if record.name == "train_inner"]
    after = load_checkpoint(runs[0] / "checkpoint_last.pt")
    assert after["optimizer_history"][-1]["num_updates"] == UPDATES
    assert differing(before["model"], after["model"]) == []
