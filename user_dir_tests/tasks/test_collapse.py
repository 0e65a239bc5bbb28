"""A training that ends at one class says so at its end, and no other does."""

from __future__ import annotations

import pytest
from driving import json_lines, run_command, train_arguments

SAID = "this training ended at a single class"


@pytest.mark.parametrize("save", [(), ("--no-save",)], ids=["saved", "not saved"])
def test_an_absurd_radius(sib_folder, encoder_dir, tmp_path, save) -> None:
    flags = ("--method", "adv", "--radius", "1000", "--lr", "0.01", "--max-epoch", "3", *save)
    done = run_command("fairseq-train", *train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200"))
    assert done.returncode == 0, done.stderr[-2000:]
    output = done.stdout + done.stderr
    assert float(json_lines(output, "valid")[-1]["valid_most_predicted"]) >= 99
    lines = output.splitlines()
    (at,) = [number for number, line in enumerate(lines) if SAID in line]
    assert "Lower --radius" in lines[at]
    assert "% of the predictions" in lines[at].replace(" %", "%")
    assert any("done training" in line for line in lines[:at])  # at its end


def test_a_training_that_learns(sib_folder, encoder_dir, tmp_path) -> None:
    done = run_command(
        "fairseq-train", *train_arguments(sib_folder, encoder_dir, tmp_path, "--max-epoch", "3", task="sib200")
    )
    assert done.returncode == 0, done.stderr[-2000:]
    output = done.stdout + done.stderr
    assert float(json_lines(output, "valid")[-1]["valid_most_predicted"]) < 99
    assert SAID not in output
