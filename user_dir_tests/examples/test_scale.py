"""The scale example: its scripts parse and run small, and its README shows what its plan calculates."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from driving import PACKAGE, REPOSITORY, configuration

from fairseq_robust_xlt import host, recipes
from fairseq_robust_xlt.encoders import SHAPES

FOLDER = REPOSITORY / "examples/scale"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SMALL = ("--cpu", "--arch", "xlmr_nano", "--max-update", "2", "--user-dir", str(PACKAGE))


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **more}


def arguments(script: Path, nodes: int = 1) -> list[str]:
    """What fairseq-train gets, with the script's variables filled in by bash."""
    text = script.read_text(encoding="utf-8")
    (command,) = re.findall(r"^.*?fairseq-train (.*\"\$@\")$", text.replace("\\\n", " "), re.MULTILINE)
    done = subprocess.run(
        ["bash", "-uc", f"printf '%s\\n' {command}"],
        env=environment(DATA="DATA", ENCODER="ENCODER", NODES=str(nodes), GPUS="8"),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_and_fairseq_read_it(script) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    cfg = configuration(*arguments(script), "--user-dir", str(PACKAGE))
    assert cfg.model.arch == script.name.split("_")[0].join(["xlmr_", ""])
    assert cfg.model.arch in SHAPES
    assert recipes.resolve(cfg.criterion.method).method == "adv"
    assert (cfg.task.data, cfg.task.encoder, cfg.task.max_length) == ("DATA/xnli", "ENCODER", 128)
    launch = cfg.distributed_training
    if script.suffix == ".sbatch":
        # fairseq takes the machine's name from Slurm, but would put its own in place of it without a port.
        assert launch.distributed_port > 0
        assert launch.zero_sharding == "os"
        assert "--ntasks-per-node=1" in script.read_text(encoding="utf-8")
    # Adam's steps are as many as the inputs of three epochs make.
    processes = {"large": 8, "xl": 8, "xxl": 16}[script.name.split("_")[0]]
    updates = -(-392_702 // (cfg.dataset.batch_size * processes)) * 3
    assert cfg.lr_scheduler.total_num_update == updates


def test_two_machines_make_half_as_many_updates() -> None:
    one, two = (arguments(FOLDER / "xl_torchrun.sh", nodes) for nodes in (1, 2))
    given = [int(made[made.index("--total-num-update") + 1]) for made in (one, two)]
    assert given[0] == 2 * given[1]


def test_bf16_is_not_taken_for_a_tpu() -> None:
    """Neither by what wraps the model for several processes nor by the optimiser."""
    cfg = configuration(*arguments(FOLDER / "xl_torchrun.sh"), *SMALL)
    parts = (cfg.common, cfg.distributed_training, cfg.optimizer)
    assert all(part.tpu for part in parts)  # the fault is there
    host.check_launch(cfg)
    assert not any(part.tpu for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["large_one_node.sh", "xl_torchrun.sh"])
def test_it_runs_small(script, xnli_folder, encoder_dir, tmp_path) -> None:
    """On the CPU: one process for the first, two for the second."""
    (tmp_path / "xnli").symlink_to(xnli_folder)
    own = ("--distributed-world-size", "1") if script.startswith("large") else ()
    done = subprocess.run(
        ["bash", str(FOLDER / script), *SMALL, *own],
        cwd=tmp_path,
        env=environment(DATA=str(tmp_path), ENCODER=str(encoder_dir), GPUS="2", HEAD="localhost:0", SAVE_DIR="run"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "run/checkpoint_last.pt").is_file()
    assert ("distributed init (rank 1)" in done.stdout + done.stderr) == script.startswith("xl")


def plan(*given: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "plan.py"), *given], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_shows_what_the_plan_calculates() -> None:
    (command, shown) = re.findall(
        r"^    python examples/scale/plan\.py (--arch .*)\n\n((?:    .*\n|\n)+)", README, re.M
    )[0]
    lines = [line[4:].rstrip() for line in shown.rstrip().splitlines()]
    assert lines == [line.rstrip() for line in plan(*shlex.split(command)).rstrip().splitlines()]
    assert lines[0].startswith("CALCULATED, nothing here was run")


def test_bad_input() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "plan.py"), "--arch", "xlmr_huge"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --arch: unknown architecture 'xlmr_huge'")


@pytest.mark.slow
def test_the_check_agrees() -> None:
    """The one size that runs here: parameters to the last one, memory within what libraries and small things add."""
    rows = {
        line[:58].strip(): float(line.split()[-1]) for line in plan("--check").splitlines() if re.search(r"\d$", line)
    }
    assert rows["parameters"] == 1
    assert 0.95 < rows["MiB at the peak of an update"] < 1.25
