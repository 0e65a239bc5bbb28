"""How processes begin and end: what would train nothing, or cannot be done, is refused at the start."""

from __future__ import annotations

import re

import pytest
from driving import Training, mistake, one_message, run_command, train_arguments, train_in_process


def test_a_wrapper_that_several_passes_break_is_refused(tmp_path, xnli_folder, encoder_dir):
    arguments = train_arguments(
        xnli_folder, encoder_dir, tmp_path / "run", "--method", "fgm", "--ddp-backend", "slowmo"
    )
    said = mistake(Training, *arguments)
    assert "--ddp-backend slowmo: not with --method fgm" in said
    assert "legacy_ddp" in said


@pytest.mark.parametrize("method", ["standard", "rs-rp", "fgm"])
def test_full_sharding_is_refused(tmp_path, xnli_folder, encoder_dir, method):
    flags = ("--method", method, "--ddp-backend", "fully_sharded")
    said = mistake(Training, *train_arguments(xnli_folder, encoder_dir, tmp_path / "run", *flags))
    assert said.startswith("--ddp-backend fully_sharded: not with these models")
    assert "legacy_ddp --zero-sharding os" in said


def test_full_sharding_is_refused_by_the_command(tmp_path, xnli_folder, encoder_dir):
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", "--ddp-backend", "fully_sharded")
    assert "legacy_ddp --zero-sharding os" in one_message(run_command("fairseq-train", *arguments))
    assert not any((tmp_path / "run").iterdir())


def test_threads_of_the_processes_end_with_the_training(tmp_path, xnli_folder, encoder_dir):
    """One that is at work while the interpreter ends aborts it, after a training that has done everything."""
    script = tmp_path / "threads.py"
    script.write_text(
        r"""
import os
import torch.distributed.nn  # a default argument there would keep the group that is the default when it is imported
from fairseq.trainer import Trainer
from fairseq_cli.train import cli_main
from fairseq_robust_xlt import host
def threads():
    return len(os.listdir("/proc/self/task"))
step, training = Trainer.train_step, []
def train_step(*args, **kwargs):
    training.append(threads())
    return step(*args, **kwargs)
Trainer.train_step = train_step
host.prepare()
cli_main()
ended = training[-1] - threads()
os.write(1, f"\nended: {ended}\n".encode())  # at once: both processes write there
""",
        encoding="utf-8",
    )
    launch = ("--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(script))
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", "--max-update", "2")
    done = run_command("torchrun", *launch, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    # Six: of the world's group and of fairseq's two that work and one that listens. Others may have begun meanwhile.
    ended = re.findall(r"^ended: (-?\d+)$", done.stdout, re.MULTILINE)
    assert len(ended) == 2, done.stdout[-2000:]
    assert min(map(int, ended)) >= 4


def test_a_launch_by_address_that_would_train_nothing_is_refused(tmp_path, xnli_folder, encoder_dir):
    """fairseq alone starts no process at all and exits 0."""
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", "--distributed-world-size", "2")
    done = run_command("fairseq-train", *arguments, "--distributed-init-method", "tcp://localhost:29411")
    assert "torchrun --nproc_per_node" in one_message(done)
    assert not (tmp_path / "run").exists()


def test_a_launch_without_address_is_refused(tmp_path, xnli_folder, encoder_dir):
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", "--distributed-world-size", "2")
    assert "torchrun --nproc_per_node" in mistake(train_in_process, *arguments)
    assert not (tmp_path / "run").exists()
