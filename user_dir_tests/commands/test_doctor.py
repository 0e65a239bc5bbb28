"""`robust-xlt doctor` where the plug-in works, and where there is no fairseq at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from driving import PACKAGE, run_command

INSTALL = "pip install 'fairseq-robust-xlt[fairseq]'"


def test_doctor_says_what_is_here():
    done = run_command("robust-xlt", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch " + torch.__version__.split("+")[0] in done.stdout  # the package's version may lack "+cu124"
    assert "the plug-in works here" in done.stdout
    assert "tested combination: yes" in done.stdout
    for word in ("attention:", "layer norm:", "Adam:", "--user-dir "):
        assert word in done.stdout
    assert "Traceback" not in done.stderr


def test_the_user_dir_that_doctor_prints_works_from_any_folder(tmp_path):
    done = run_command("robust-xlt", "doctor")
    user_dir = next(line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("--user-dir "))
    # Far enough to know the task: the complaint is that of the task, not of an unknown flag or folder.
    started = run_command(
        "fairseq-train",
        *("data", "--user-dir", user_dir, "--task", "xnli", "--arch", "xlmr_nano", "--cpu"),
        *("--criterion", "robust_classification", "--batch-size", "8"),
        cwd=tmp_path,
    )
    assert "error: --encoder: give the encoder directory" in started.stderr


@pytest.fixture(scope="module")
def no_fairseq(tmp_path_factory) -> Path:
    """The Python of a virtual environment with every package of this one but fairseq."""
    folder = tmp_path_factory.mktemp("no_fairseq")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "venv/lib" / version / "site-packages"
    for installed in map(Path, {Path(torch.__file__).parent.parent, PACKAGE.parent}):
        entries = [PACKAGE] if installed == PACKAGE.parent else sorted(installed.iterdir())
        for entry in entries:
            # .pth files would lead back to the environment of the tests.
            if not entry.name.startswith(("fairseq", "__")) and entry.suffix != ".pth" or entry == PACKAGE:
                (packages / entry.name).symlink_to(entry)
    return folder / "venv/bin/python"


def run_without(python: Path, *arguments: str):
    keep = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, timeout=120, cwd=python.parent, env=keep
    )


def test_the_environment_has_no_fairseq_and_all_else(no_fairseq):
    code = (
        "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('fairseq', 'torch', 'fairseq_robust_xlt')])"
    )
    assert run_without(no_fairseq, "-c", code).stdout.strip() == "[False, True, True]"


def test_doctor_without_fairseq_says_how_to_install_one(no_fairseq):
    done = run_without(no_fairseq, "-m", "fairseq_robust_xlt.cli.main", "doctor")
    assert done.returncode == 1
    assert "no fairseq is installed" in done.stdout
    assert INSTALL in done.stdout
    assert "the plug-in works here" not in done.stdout
    assert "Traceback" not in done.stderr


def test_the_first_use_without_fairseq_says_how_to_install_one(no_fairseq):
    done = run_without(no_fairseq, "-m", "fairseq_robust_xlt.cli.main", "predict", "--path", "checkpoint.pt")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert INSTALL in errors[0]
    assert "Traceback" not in done.stderr


def test_rooms_that_need_no_host_work_without_fairseq(no_fairseq, encoder_dir):
    done = run_without(no_fairseq, "-m", "fairseq_robust_xlt.cli.main", "encoder", "check", str(encoder_dir))
    assert done.returncode == 0, done.stderr
    assert "xlmr_nano" in done.stdout
