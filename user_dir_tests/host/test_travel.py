"""Checkpoints travel: what was trained on this host is scored, and trained on, on others.

`user_dir_tests/hosts.sh` runs these tests on every host, with the interpreters of the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from driving import load_checkpoint, score_arguments, train_arguments

from fairseq_robust_xlt.benchmarks import load
from fairseq_robust_xlt.scoring.predictions import read

VARIABLE = "ROBUST_XLT_OTHER_HOSTS"
HERE = Path(sys.executable)
OTHERS = [Path(python) for python in os.environ.get(VARIABLE, "").split(os.pathsep) if python]
others = pytest.mark.parametrize(
    "other",
    OTHERS or [pytest.param(None, marks=pytest.mark.skip(reason=f"{VARIABLE} names no other host: see hosts.sh"))],
    ids=lambda python: python.parent.parent.name if python else "none",
)


def fairseq(python: Path, command: str, *arguments: str) -> None:
    """A fairseq command on the host of this interpreter, with the package that is tested here."""
    done = subprocess.run(
        [python, "-m", f"fairseq_cli.{command}", *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def predictions(python: Path, data: Path, checkpoint: Path, folder: Path):
    fairseq(python, "validate", *score_arguments(data, checkpoint, "--scores", str(folder)))
    return read(folder / "predictions.tsv", load("xnli").labels)


@others
def test_the_other_host_is_another(other: Path) -> None:
    version = (
        "from importlib import metadata as m; print([d.version for d in m.distributions() if 'fairseq' in d.name])"
    )
    said = {subprocess.check_output([python, "-c", version]) for python in (HERE, other)}
    assert len(said) == 2


@others
def test_equal_predictions(other: Path, standard_run: Path, xnli_folder: Path, tmp_path: Path) -> None:
    checkpoint = standard_run / "checkpoint_best.pt"
    here, there = (
        predictions(python, xnli_folder, checkpoint, tmp_path / name)
        for python, name in ((HERE, "here"), (other, "there"))
    )
    assert len(here) == 3 * 45
    assert len({p.predicted for p in here}) > 1
    for one, two in zip(here, there, strict=True):
        assert replace(one, probabilities=()) == replace(two, probabilities=())
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-4)


@others
def test_a_run_goes_on_elsewhere(other: Path, xnli_folder: Path, encoder_dir: Path, tmp_path: Path) -> None:
    """One epoch here and one there end where two epochs here do."""
    ends = []
    for second in (HERE, other):
        folder = tmp_path / second.parent.parent.name
        arguments = train_arguments(
            xnli_folder,
            encoder_dir,
            folder,
            "--dropout",
            "0",
            "--attention-dropout",
            "0",
            "--activation-dropout",
            "0",
            "--optimizer",
            "sgd",
            "--lr",
            "0.1",
        )
        fairseq(HERE, "train", *arguments)
        fairseq(second, "train", *arguments, "--max-epoch", "2")
        ends.append(load_checkpoint(folder / "checkpoint_last.pt"))
    assert [end["optimizer_history"][-1]["num_updates"] for end in ends] == [26, 26]
    here, there = (end["model"] for end in ends)
    assert list(here) == list(there)
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
