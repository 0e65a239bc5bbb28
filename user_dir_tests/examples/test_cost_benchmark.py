"""The benchmark of the methods runs, for every recipe of the package, and writes what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from driving import REPOSITORY

from fairseq_robust_xlt import recipes


def test_it_measures_every_method(tmp_path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(REPOSITORY / "examples/cost/benchmark.py"), "--arch", "xlmr_nano", "--rounds", "1"),
            *("--warm-up", "0", "--batch-size", "2", "--length", "8", "--json", str(tmp_path / "cost.json")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    assert "--json" in found["command"]
    counted = {row["method"]: row["counted"] for row in found["rows"]}
    assert counted == {name: recipes.thirds(recipes.resolve(name)) / 3 for name in recipes.names()}
    assert list(counted)[0] == "standard"
    assert {row["what"] for row in found["rows"]} == {"passes", "update"}
    for name in counted:
        assert f"\n{name} " in done.stdout
