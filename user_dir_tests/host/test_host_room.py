"""Copies of checkpoints, the message of a mistake, and launches that would train nothing."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from driving import Training, configuration, train_arguments

import fairseq_robust_xlt
from fairseq_robust_xlt import host
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import sha256

fairseq_robust_xlt.register()


def copy(source, target) -> None:
    from fairseq.file_io import PathManager

    assert PathManager.copy(str(source), str(target), overwrite=True)


def test_training_on_never_changes_the_best_checkpoint(sib_folder, encoder_dir, tmp_path) -> None:
    """checkpoint_best and checkpoint_last may be one file with two names; saving again must part them."""
    from fairseq import checkpoint_utils

    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, task="sib200"))
    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best
    best, last = tmp_path / "checkpoint_best.pt", tmp_path / "checkpoint_last.pt"
    run.train(1)
    checkpoint_utils.save_checkpoint(run.cfg.checkpoint, run.trainer, run.iterator, 80.0)
    after_one = sha256(best)
    assert sha256(last) == after_one
    run.train(1)
    checkpoint_utils.save_checkpoint(run.cfg.checkpoint, run.trainer, run.iterator, 70.0)
    assert sha256(best) == after_one
    assert sha256(last) != after_one
    run.train(1)
    checkpoint_utils.save_checkpoint(run.cfg.checkpoint, run.trainer, run.iterator, 90.0)
    assert sha256(best) == sha256(last) != after_one
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint_best.pt", "checkpoint_last.pt"]
    del checkpoint_utils.save_checkpoint.best


def test_an_update_counts_the_batches_that_are_there(sib_folder, encoder_dir, tmp_path) -> None:
    """At the end of an epoch a process may lack the last batch of an update, and has trained on those before it."""
    flags = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0", "--optimizer", "sgd", "--lr", "0.1")
    found = []
    for name, rest in (("alone", []), ("empty", [{}])):
        run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path / name, *flags, task="sib200"))
        log = run.trainer.train_step([next(iter(run.groups()))[0], *rest])
        found.append((log["loss"], [p.detach().clone() for p in run.model.parameters()]))
    (loss, alone), (logged, empty) = found
    assert loss == logged
    for mine, wanted in zip(empty, alone, strict=True):
        assert torch.equal(mine, wanted)


def test_a_copy_replaces_and_is_whole(tmp_path) -> None:
    source, target = tmp_path / "checkpoint3.pt", tmp_path / "checkpoint_last.pt"
    source.write_bytes(b"new")
    target.write_bytes(b"older")
    copy(source, target)
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]
    source.unlink()  # as --keep-last-epochs does
    assert target.read_bytes() == b"new"


def test_what_a_kill_in_a_copy_leaves_is_never_written_into(sib_folder, encoder_dir, tmp_path) -> None:
    """A copy that was killed leaves a second name of another checkpoint; fairseq writes its own files elsewhere."""
    source, target = tmp_path / "checkpoint_best.pt", tmp_path / "checkpoint_last.pt"
    source.write_bytes(b"best")
    target.mkdir()  # cannot be replaced: the copy ends where a kill would end it
    with pytest.raises(OSError):  # noqa: PT011
        copy(source, target)
    (left,) = set(tmp_path.iterdir()) - {source, target}
    assert left.samefile(source) or left.read_bytes() == b"best"
    target.rmdir()
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, task="sib200"))
    run.train(1)
    run.save()
    assert source.read_bytes() == b"best"
    copy(source, target)
    assert target.read_bytes() == b"best"
    assert not left.exists()


def test_one_message_for_a_mistake(capsys) -> None:
    try:
        try:
            raise UserError("--radius -1: must be 0 or larger")
        except UserError as error:
            raise Exception("Cannot load model parameters from checkpoint") from error
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "error: --radius -1: must be 0 or larger\n"


def test_a_fault_of_ours_keeps_its_trace(capsys) -> None:
    try:
        {}["nothing"]
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "KeyError: 'nothing'" in said


def launch(*flags: str):
    return configuration("DATA", "--task", "sib200", "--arch", "xlmr_nano", "--cpu", *flags)


@pytest.mark.parametrize("address", [(), ("--distributed-init-method", "tcp://localhost:29511")])
def test_a_launch_that_would_train_nothing(address) -> None:
    with pytest.raises(UserError, match="--distributed-world-size 2 on CPU.*would train nothing.*torchrun"):
        host.check_launch(launch("--distributed-world-size", "2", *address))


def test_bf16_is_not_a_tpu() -> None:
    cfg = launch("--bf16")
    assert cfg.common.tpu
    host.check_launch(cfg)
    assert cfg.common.bf16
    assert not cfg.common.tpu


def test_a_checkpoint_that_is_opened_from_python_is_not_trained(standard_run) -> None:
    """fairseq 0.12.2 does not tell the task that it is for a checkpoint."""
    from fairseq import checkpoint_utils

    _, _, task = checkpoint_utils.load_model_ensemble_and_task([str(standard_run / "checkpoint_best.pt")])
    assert task.settings.scoring
    assert task.record.labels == list(task.benchmark.labels)


def test_preparing_twice_is_preparing_once() -> None:
    from fairseq import checkpoint_utils

    hook, load = sys.excepthook, checkpoint_utils.load_checkpoint_to_cpu
    host.prepare()
    assert sys.excepthook is hook
    assert checkpoint_utils.load_checkpoint_to_cpu is load
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"


def mistaken(_rank: int) -> None:
    raise UserError("--radius -1: must be a finite number,\n0 or larger")


def test_a_mistake_in_a_process_that_torch_has_spawned() -> None:
    """As fairseq-train does with several GPUs: the parent is told the trace, as a text."""
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        torch.multiprocessing.spawn(mistaken, nprocs=1)
    assert str(host.user_error(caught.value)) == "--radius -1: must be a finite number,\n0 or larger"
