"""What the examples share: the rule, the radii, cut folders, scripts that parse."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess

import pytest
from conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
NAMES = ("quickstart",)


def test_a_cut_folder_has_the_first_lines_of_each_file_in_its_layout(tmp_path):
    files = {"train-en.tsv": 9, "dev-sw.tsv": 9, "x-final/de/dev_2k.tsv": 2, "en/train.jsonl": 9}
    for name, lines in files.items():
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} {i}\n" for i in range(lines)), encoding="utf-8")
    command = ["bash", EXAMPLES / "common/cut.sh", tmp_path / "from", tmp_path / "to", "5", "3"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == f"{tmp_path / 'to'}\n"
    for name, lines in (("train-en.tsv", 5), ("dev-sw.tsv", 3), ("x-final/de/dev_2k.tsv", 2), ("en/train.jsonl", 5)):
        text = (tmp_path / "to" / name).read_text(encoding="utf-8")
        assert text == "".join(f"{name} {i}\n" for i in range(lines))


def test_the_rule_takes_the_largest_radius_within_one_standard_error():
    spec = importlib.util.spec_from_file_location("choose", EXAMPLES / "common/choose.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    points = {0.0: [0.80, 0.80], 0.1: [0.79, 0.81], 0.3: [0.78, 0.76], 1.0: [0.60, 0.70]}
    # The best is 0.80 of 160 examples: one standard error is sqrt(0.16 / 160) = 0.0316.
    chosen, threshold = module.choose(points, 160)
    assert chosen == 0.3
    assert threshold == pytest.approx(0.80 - 0.0316, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_radii_of_a_run_are_those_that_its_grid_chose(name):
    script = (EXAMPLES / name / "run.sh").read_text(encoding="utf-8")
    (declared,) = re.findall(r"^declare -A radius=\((.*)\)", script, re.MULTILINE)
    radii = dict(re.findall(r"\[([\w-]+)\]=([\d.]+)", declared))
    grid = EXAMPLES / name / "grid.json"
    if not grid.exists():
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert "The grid has not been run" in readme
        return
    for method, result in json.loads(grid.read_text(encoding="utf-8"))["methods"].items():
        assert float(radii[method]) == result["chosen"]


def test_shell_scripts_parse():
    for script in [*EXAMPLES.rglob("*.sh"), REPOSITORY / "user_dir_tests/run.sh", REPOSITORY / ".ci/run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
