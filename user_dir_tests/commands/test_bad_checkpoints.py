"""Checkpoints that are damaged, not ours, or would run code; and a disk that is full when scores are saved."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from driving import (
    load_checkpoint,
    mistake,
    one_message,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import inference


class Payload:
    """Pickled, it runs a command when it is loaded."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.fixture
def run(tmp_path, standard_run) -> Path:
    """A copy of a finished run that a test may spoil."""
    return shutil.copytree(standard_run, tmp_path / "run")


def every_way_in(checkpoint: Path, data: Path, encoder: Path, tmp_path: Path) -> dict[str, str]:
    """The message with which each command that reads a checkpoint refuses this one."""
    train = train_arguments(data, encoder, tmp_path / "new", "--finetune-from-model", str(checkpoint))
    again = train_arguments(data, encoder, tmp_path / "again", "--max-epoch", "3")
    (tmp_path / "again").mkdir()
    shutil.copyfile(checkpoint, tmp_path / "again/checkpoint_last.pt")
    scores = ("--scores", str(tmp_path / "scores"))
    messages = {
        "validate": mistake(validate_in_process, *score_arguments(data, checkpoint, *scores)),
        "predict": mistake(inference.open, str(checkpoint)),
        "finetune": mistake(train_in_process, *train),
        "resume": mistake(train_in_process, *again),
    }
    assert not (tmp_path / "scores").exists()
    assert not list((tmp_path / "new").glob("*"))
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["checkpoint_last.pt"]
    return messages


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
def test_a_truncated_checkpoint_is_refused(run, tmp_path, xnli_folder, encoder_dir, share):
    checkpoint = run / "checkpoint_best.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(share * len(whole))])
    for way, message in every_way_in(checkpoint, xnli_folder, encoder_dir, tmp_path).items():
        assert "not a whole checkpoint" in message, way
        assert ".pt" in message, way


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(run, tmp_path, xnli_folder, encoder_dir):
    checkpoint, witness = run / "checkpoint_best.pt", tmp_path / "it-ran"
    state = load_checkpoint(checkpoint)
    torch.save({**state, "payload": Payload(witness)}, checkpoint)
    for way, message in every_way_in(checkpoint, xnli_folder, encoder_dir, tmp_path).items():
        assert "refused" in message, way
        assert "system" in message, way
    assert not witness.exists()
    done = run_command("robust-xlt", "predict", "--path", checkpoint)
    assert "nothing in it was run" in one_message(done)
    assert not witness.exists()
    # The payload is a real one: without the protection it runs.
    torch_alone = f"import torch; torch.load({str(checkpoint)!r}, weights_only=False)"
    unprotected = {key: value for key, value in os.environ.items() if key != "TORCH_FORCE_WEIGHTS_ONLY_LOAD"}
    subprocess.run([sys.executable, "-c", torch_alone], check=True, timeout=120, env=unprotected)
    assert witness.exists()


def test_a_missing_checkpoint(tmp_path, xnli_folder):
    checkpoint = tmp_path / "none.pt"
    assert f"{checkpoint}: there is no such checkpoint" in mistake(inference.open, str(checkpoint))
    arguments = score_arguments(xnli_folder, checkpoint)
    assert str(checkpoint) in mistake(validate_in_process, *arguments)


def test_an_encoder_is_not_a_checkpoint_to_score(encoder_dir, xnli_folder, tmp_path):
    """fairseq would build the encoder's own task and stop with a stack trace."""
    encoder = encoder_dir / "model.pt"
    scores = ("--scores", str(tmp_path / "scores"))
    for message in (
        mistake(inference.open, str(encoder)),
        mistake(validate_in_process, *score_arguments(xnli_folder, encoder, *scores)),
    ):
        assert f"{encoder}: was not trained by a task of fairseq_robust_xlt" in message
        assert f"--finetune-from-model {encoder}" in message
    assert not (tmp_path / "scores").exists()


def test_files_beside_the_checkpoint_that_are_not_its_own(run, xnli_folder):
    lines = (run / "dict.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "dict.txt").write_text("".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    message = mistake(validate_in_process, *score_arguments(xnli_folder, run / "checkpoint_best.pt"))
    assert "not the one that the checkpoint was trained with" in message


def limited(size: int):
    """Lets no file grow above `size` bytes, as a disk that is full does; the write fails in the kernel."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_cannot_grow_while_scores_are_saved(standard_run, xnli_folder, tmp_path):
    scores = tmp_path / "scores"
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--scores", str(scores))
    validate_in_process(*arguments, "--valid-subset", "dev-sw")
    before = {path.name: path.read_bytes() for path in scores.iterdir()}
    assert max(map(len, before.values())) < 4096
    done = subprocess.run(
        [Path(sys.executable).parent / "fairseq-validate", *arguments],
        preexec_fn=limited(4096),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert f"cannot write {scores / 'predictions.tsv'}" in one_message(done)
    assert {path.name: path.read_bytes() for path in scores.iterdir()} == before


def test_a_full_disk_while_scores_are_saved(standard_run, xnli_folder, tmp_path):
    """A real file system of 16 kB in a mount name space of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=16k none {disk}"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("may not mount a file system here; the test above limits the size of files instead")
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--scores", f"{disk}/scores")
    program = Path(sys.executable).parent / "fairseq-validate"
    # 12 kB are taken before, so that the predictions of 135 rows do not fit; what is there afterwards is printed.
    script = f'{mount} && head -c 12288 /dev/zero > {disk}/other && "$@"; status=$?; find {disk} -type f; exit $status'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", program, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = one_message(done)
    assert "No space left on device" in message
    assert f"{disk}/scores/predictions.tsv" in message
    assert [line for line in done.stdout.splitlines() if line.startswith(str(disk))] == [f"{disk}/other"]
