"""The examples' scripts as they are written, on small made-up files and a small encoder, or on the published files."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess

import pytest
from conftest import LANGUAGES
from driving import REPOSITORY
from example_scripts import EXAMPLES, NAMES, checkout, finished, folder_of, published, run

__all__ = ["checkout", "published"]  # fixtures


def test_a_script_runs_to_its_end_and_once_for_the_same_data(checkout, published, encoder_dir, tmp_path):
    data = shutil.copytree(published / "pawsx", tmp_path / "pawsx")
    variables = {"DATA": data, "ENCODER": encoder_dir, "METHODS": "standard", "SUBSET": "test"}
    variables["FLAGS"] = "--max-update 3"
    trained = "[1/1] standard-1: English dev "
    assert trained in finished(run(checkout, "pawsx", **variables))
    (found,) = json.loads((checkout / "runs/pawsx-test/report.json").read_text(encoding="utf-8"))["methods"].values()
    assert set(found["accuracy"]) == {"en", "de", "ko"}
    assert trained not in finished(run(checkout, "pawsx", **variables))
    # The same number of rows in the same place, and another text.
    (file,) = data.rglob("*train*")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:-1], lines[-1].replace("\t", "\tand ", 1)]), encoding="utf-8")
    assert trained in finished(run(checkout, "pawsx", **variables))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("sib200", set(LANGUAGES)),
        ("xnli", set(LANGUAGES)),
        ("pawsx", {"en", "de", "ko"}),
        ("xcopa", {"sw", "th"}),
    ],
)
def test_each_method_is_trained_scored_and_compared(checkout, published, encoder_dir, name, languages):
    variables = {"DATA": folder_of(name, published), "ENCODER": encoder_dir}
    if name != "sib200":
        variables["METHODS"] = "standard adv"  # all of them once is enough
    methods = variables.get("METHODS", "standard dropout-0.3 rs-rp rs-da adv").split()
    output = finished(run(checkout, name, **variables))
    report = json.loads((checkout / f"runs/{name}/report.json").read_text(encoding="utf-8"))["methods"]
    assert list(report) == methods
    assert all(set(found["accuracy"]) == languages for found in report.values())
    assert f"[{len(methods)}/{len(methods)}]" in output
    command = (checkout / f"runs/{name}/adv-1/done").read_text(encoding="utf-8")
    assert f"--method adv --radius {declared(name)['adv']:g}" in command
    assert ("grid.json was made with SMOKE=1, e5-small, this is SMOKE=1, " in output) is (name != "pawsx")
    assert not list((checkout / f"runs/{name}").glob("*/*.pt"))

    again = finished(run(checkout, name, **variables))
    assert "English dev" not in again  # nothing is trained twice
    assert "mean - standard" in again


@pytest.mark.slow
def test_a_choice_is_compared_on_the_source_language_alone(checkout, published, encoder_dir):
    """CommonsenseQA is in English; what is compared there is paired, as everywhere."""
    variables = {"DATA": published / "csqa", "ENCODER": encoder_dir, "ENGLISH": "1", "RECORD": "english"}
    output = finished(run(checkout, "xcopa", METHODS="standard fgm+shared", FLAGS="--max-update 3", **variables))
    assert re.search(r"^ +en +- standard +p", output, re.MULTILINE)
    found = json.loads((checkout / "examples/xcopa/english.json").read_text(encoding="utf-8"))
    assert list(found["examples"]) == ["en"]
    assert " SMOKE=1 ENGLISH=1 FLAGS=" in found["command"]
    readme = (checkout / "examples/xcopa/README.md").read_text(encoding="utf-8")
    _, _, table = readme.partition("<!-- english: ")
    assert "; differences with 95 % intervals; p: " in table
    assert re.search(r"^\|  *\| cost +\| en +\| - standard +\| p +\|$", table, re.MULTILINE)
    assert (checkout / "runs/xcopa-english/fgm+shared-1/done").is_file()


@pytest.mark.slow
def test_the_quickstart_ends_with_labels_for_new_messages(checkout, encoder_dir):
    variables = {"ENCODER": encoder_dir, "FLAGS": "--max-update 3"}
    output = finished(run(checkout, "quickstart", METHODS="standard adv", **variables))
    _, _, after = output.partition("Three new messages in languages without training labels")
    assert len(re.findall(r"^\w+\twater=", after, re.MULTILINE)) == 3
    assert "Label your own" in after
    # Without the run whose checkpoint is kept there is nothing to label with.
    output = finished(run(checkout, "quickstart", METHODS="standard", RUNS="runs/other", **variables))
    assert "mean" in output
    assert "Three new messages" not in output


@pytest.mark.slow
def test_the_grid_chooses_on_source_language_dev(checkout, published, encoder_dir):
    variables = {"DATA": published / "sib200", "ENCODER": encoder_dir, "METHODS": "rs-rp lr-x2 epochs-x2.33"}
    output = finished(run(checkout, "sib200", "grid", **variables))
    assert "<- chosen" in output
    assert "tuned standard: " in output
    grid = json.loads((checkout / "examples/sib200/grid.json").read_text(encoding="utf-8"))
    assert grid["dev_examples"] == 45
    points = {point["radius"]: point["english_dev"] for point in grid["methods"]["rs-rp"]["points"]}
    assert list(points) == [0, 0.25, 0.5, 1]
    for radius, run_name in ((0, "standard-0-1"), (0.5, "rs-rp-0.5-1")):
        log = (checkout / f"runs/sib200-grid/{run_name}/train.log").read_text(encoding="utf-8")
        assert f'"valid_accuracy": "{100 * points[radius][0]:g}' in log
        assert "valid: 45 examples in en," in log
        assert " sw" not in "".join(line for line in log.splitlines() if " examples in " in line)
    standards = grid["standards"]["english_dev"]
    assert list(standards) == ["epochs-x2.33", "lr-x2", "standard"]
    assert standards[grid["standards"]["tuned"]] == max(standards.values())
    done = {name: (checkout / f"runs/sib200-grid/{name}-0-1/done").read_text("utf-8").split() for name in standards}
    for flag, name, times in (("--lr", "lr-x2", 2), ("--max-epoch", "epochs-x2.33", 2.5)):
        values = {which: [b for a, b in itertools.pairwise(done[which]) if a == flag] for which in ("standard", name)}
        assert float(values[name][-1]) == times * float(values["standard"][-1])

    # A later grid with the same standard keeps what is there.
    finished(run(checkout, "sib200", "grid", **variables | {"METHODS": "dropout-0.3"}))
    later = json.loads((checkout / "examples/sib200/grid.json").read_text(encoding="utf-8"))
    assert later["methods"] == grid["methods"]
    assert later["methods"]["rs-rp"]["command"] == grid["command"] != later["command"]
    assert later["standards"]["english_dev"].items() > standards.items()

    variables |= {"METHODS": "standard rs-rp mixup", "RECORD": "1", "FLAGS": "--max-update 3"}
    finished(run(checkout, "sib200", **variables))
    folder = checkout / "examples/sib200"
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    start = f"DATA=$DATA/sib200 ENCODER={encoder_dir.name} SMOKE=1 FLAGS='--max-update 3' SEEDS='1' METHODS="
    assert found["command"].startswith(f"{start}'standard rs-rp mixup' bash ")
    assert found["methods"]["rs-rp"]["radius"] == grid["methods"]["rs-rp"]["chosen"]
    assert [one["tuned"] for one in found["methods"].values()] == [True, True, False]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| rs-rp {found['methods']['rs-rp']['radius']:g} " in readme
    assert "| mixup * " in readme
    assert len(re.findall("<!-- results: .* -->", readme)) == 1

    finished(
        run(checkout, "sib200", **variables | {"METHODS": "standard mixup rs-rp@0.125+dropout-0.3", "RECORD": "beside"})
    )
    beside = json.loads((folder / "beside.json").read_text(encoding="utf-8"))
    given = beside["methods"].pop("rs-rp@0.125+dropout-0.3")
    assert (given["radius"], given["tuned"]) == (0.125, False)
    assert beside["methods"] == {name: found["methods"][name] for name in ("standard", "mixup")}
    assert "| rs-rp+dropout-0.3 0.125 * " in (folder / "README.md").read_text(encoding="utf-8")
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(readme)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("name", "languages"), [("sib200", 28), ("xnli", 15), ("xcopa", 11)])
def test_the_published_files(checkout, data_root, encoder_dir, name, languages):
    variables = {"DATA": folder_of(name, data_root), "ENCODER": encoder_dir, "METHODS": "standard rs-da"}
    finished(run(checkout, name, RUNS=f"runs/real-{name}", FLAGS="--max-update 5", **variables))
    report = json.loads((checkout / f"runs/real-{name}/report.json").read_text(encoding="utf-8"))["methods"]
    assert len(report["rs-da"]["accuracy"]) == languages


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "DATA: is the folder of the published files"),
        ({"DATA": "a b"}, "error: a b: a path with blanks does not work here"),
        ({"DATA": "nothing"}, "error: RS-DA: no file nothing/../synonyms/counterfitted_neighbors.json"),
        (
            {"DATA": "nothing", "METHODS": "xtune-stage2+dropout-0.3"},
            "error: xtune-stage2: no file ''; give the checkpoint",
        ),
        ({"DATA": "nothing", "METHODS": "standard"}, "error: no such data folder: nothing"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(checkout, variables, expected):
    done = run(checkout, "xnli", **variables)
    assert done.returncode == 1
    assert expected in done.stderr
    assert not (checkout / "runs/xnli/standard-1").exists()


def test_a_comparison_has_its_synonyms_before_its_grid(checkout):
    done = run(checkout, "method_comparison", "xnli", DATA="nothing")
    assert done.returncode == 1
    assert "error: RS-DA: give its synonym table with SYNONYMS=FILE" in done.stderr


def test_a_grid_has_the_methods_that_declare_one(checkout):
    done = run(checkout, "xnli", "grid", DATA="nothing", METHODS="standard smart")
    assert done.returncode == 1
    assert "error: METHODS: examples/xnli/run.sh declares no grid for smart" in done.stderr


def declared(name: str) -> dict[str, float]:
    """The radii of a run for which no grid has chosen others."""
    script = (EXAMPLES / name / "run.sh").read_text(encoding="utf-8")
    (found,) = re.findall(r"^declare -A radius=\((.*)\)", script, re.MULTILINE)
    return {method: float(radius) for method, radius in re.findall(r"\[([\w-]+)\]=([\d.]+)", found)}


@pytest.mark.parametrize("name", NAMES)
def test_a_radius_that_no_grid_chose_is_said(name):
    chosen = EXAMPLES / name / "grid.json"
    found = json.loads(chosen.read_text(encoding="utf-8"))["methods"] if chosen.exists() else {}
    assert {"rs-rp", "adv"} <= declared(name).keys() | found.keys()
    if not found:
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert "The grid has not been run" in readme


def test_shell_scripts_parse():
    for script in [*EXAMPLES.rglob("*.sh"), REPOSITORY / "user_dir_tests/run.sh", REPOSITORY / ".ci/run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
