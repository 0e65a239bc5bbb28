"""The measure of how far a trained classifier can be moved."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from driving import REPOSITORY

from fairseq_robust_xlt import benchmarks, inference, text

SCRIPT = REPOSITORY / "examples/common/tolerance.py"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run.pt"], "run.pt: expected CHECKPOINT=DATA"),
        (["a=b", "--examples", "0"], "--examples 0: must be 1 or larger"),
    ],
)
def test_mistakes(arguments, says):
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_radius_0_is_the_plain_classifier_and_an_ascent_does_more_than_noise(standard_run, xnli_folder, tmp_path):
    checkpoint = standard_run / "checkpoint_last.pt"
    (tmp_path / "README.md").write_text("Before.\n", encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--record", str(tmp_path)),
            f"{checkpoint}={xnli_folder}",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    recorded = json.loads((tmp_path / "tolerance.json").read_text(encoding="utf-8"))
    (found,) = recorded["runs"]
    assert f"{checkpoint}=$DATA/{xnli_folder.name}" in recorded["command"]
    table = benchmarks.load("xnli")
    examples = text.read(table, xnli_folder, "dev", "en")
    predicted = inference.open(str(checkpoint), cpu=True).predict([example.sequences[0] for example in examples])
    right = sum(table.labels[e.label] == p.label for e, p in zip(examples, predicted, strict=True))
    random, ascent = found["accuracy"]["random"], found["accuracy"]["ascent"]
    assert found["examples"] == len(examples)
    assert random["0"] == ascent["0"] == right / len(examples)
    assert ascent["1"] < random["1"]
    assert list(ascent.values()) == sorted(ascent.values(), reverse=True)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("Before.\n<!-- tolerance:")
    assert done.stdout.strip() in readme
