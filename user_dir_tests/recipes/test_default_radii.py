"""Default radii are what the README says of them: those of the examples' grids, all points of which are recorded."""

from __future__ import annotations

import json
import re

import pytest
from driving import REPOSITORY

from fairseq_robust_xlt import recipes, scoring

#: The two tasks of each method; the default is the smaller of the radii that the rule chose there.
TASKS = {
    **dict.fromkeys(("rs-rp", "adv", "fgm", "r3f"), ("sib200", "xnli")),
    **dict.fromkeys(("freelb", "r4f", "smart", "alum"), ("sib200", "quickstart")),
}


def grid(example: str) -> dict:
    return json.loads((REPOSITORY / "examples" / example / "grid.json").read_text(encoding="utf-8"))


def test_every_method_with_a_ball_has_them() -> None:
    methods = {name for name in recipes.names() if recipes.resolve(name).radius}
    assert methods == TASKS.keys()


@pytest.mark.parametrize("method", TASKS)
def test_the_smaller_of_two_that_were_chosen(method: str) -> None:
    chosen = [grid(example)["methods"][method]["chosen"] for example in TASKS[method]]
    assert recipes.resolve(method).radius == min(chosen) > 0


def test_the_table_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([\d.]+) \|(.*)\|(.*)\|(.*)\|$", readme, re.MULTILINE)
    assert {name for name, *_ in rows} == TASKS.keys()
    for name, default, *columns in rows:
        assert float(default) == recipes.resolve(name).radius
        for example, value in zip(("sib200", "xnli", "quickstart"), columns, strict=True):
            chosen = grid(example)["methods"].get(name, {}).get("chosen")
            assert (float(value) if value.strip() else None) == chosen, (name, example)


@pytest.mark.parametrize("method", ["rs-rp", "adv", "r3f"])
def test_of_a_multiple_choice(method: str) -> None:
    assert recipes.resolve(method, choice=True).radius == grid("xcopa")["methods"][method]["chosen"]


@pytest.mark.parametrize("example", ["quickstart", "sib200", "xnli", "xcopa"])
def test_the_rule(example: str) -> None:
    found = grid(example)
    standard = found["standards"]["english_dev"]["standard"]
    for one in found["methods"].values():
        points = {point["radius"]: point["english_dev"] for point in one["points"]}
        assert points[0.0] == standard
        means = {radius: sum(values) / len(values) for radius, values in points.items()}
        assert (one["chosen"], one["threshold"]) == scoring.largest_radius(means, found["dev_examples"])
