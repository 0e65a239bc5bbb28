"""The controlled worlds: the choice, the comparison and their statistics."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from driving import REPOSITORY
from scipy import stats
from worlds_scripts import FOLDER, scripts

__all__ = ["scripts"]  # a fixture


class TestStatistics:
    def test_the_interval_is_over_worlds(self, scripts):
        """Seeds that are all alike tell nothing: the interval is that of the five worlds' means."""
        means = np.random.default_rng(1).normal(0.02, 0.02, size=5)
        estimate, low, high = scripts["analyse"].clustered(np.repeat(means[:, None], 3, axis=1))
        expected = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=2)
        assert estimate == pytest.approx(means.mean(), abs=1e-4)
        assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.002)

    def test_seeds_widen_it(self, scripts):
        means = np.zeros((5, 3)) + [-0.03, 0.0, 0.03]
        estimate, low, high = scripts["analyse"].clustered(means)
        # Only seeds vary, and each of the worlds draws its own: variance of a mean of 15 draws with variance 0.0006.
        assert estimate == 0
        assert (high - low) / 2 == pytest.approx(1.96 * (0.0006 / 15) ** 0.5, rel=0.1)

    def test_p_values_are_paired_over_worlds_and_holm_corrected(self, scripts):
        rng = np.random.default_rng(3)
        world = rng.normal(0, 0.1, size=(5, 1, 1))  # worlds differ far more than methods do
        runs = {
            name: {"test": 0.5 + world + gain + rng.normal(0, 0.005, size=(5, 3, 6))}
            for name, gain in {"standard": 0.0, "good": 0.03, "weak": 0.004, "none": 0.0}.items()
        }
        found = scripts["analyse"].compare(runs, ["standard"])["standard"]
        means = {name: run["test"][..., 1:].mean(axis=(1, 2)) for name, run in runs.items()}
        p = {name: stats.ttest_rel(means[name], means["standard"]).pvalue for name in found}
        ranked = sorted(p, key=p.get)
        corrected = np.maximum.accumulate([(3 - i) * p[name] for i, name in enumerate(ranked)]).clip(max=1)
        for name, value in zip(ranked, corrected, strict=True):
            assert found[name]["p"] == pytest.approx(p[name], abs=1e-5)
            assert found[name]["p_holm"] == pytest.approx(value, abs=2e-5)
        assert found["good"]["p_holm"] < 0.01

    def test_a_planted_relation_with_distance_is_found(self, scripts):
        rng = np.random.default_rng(4)
        distance = rng.uniform(0.5, 1.5, size=(5, 5))
        standard = 0.9 - 0.3 * distance[:, None] + rng.normal(0, 0.05, size=(5, 3, 5))
        method = standard + 0.1 * distance[:, None] + rng.normal(0, 0.002, size=(5, 3, 5))
        found = scripts["analyse"].relation(method, standard, distance)
        estimate, low, high = found["slope_distance"]
        assert estimate == pytest.approx(0.1, abs=0.02)
        assert low < 0.1 < high
        assert found["rank_distance"][0] > 0.9

    def test_chance_in_the_standard_is_no_relation_with_headroom(self, scripts):
        """Noise of the standard's own seeds must not show as gain where the standard is low."""
        rng = np.random.default_rng(5)
        standard, method = (0.6 + rng.normal(0, 0.05, size=(40, 3, 5)) for _ in range(2))
        distance = rng.uniform(0.5, 1.5, size=(40, 5))
        found = scripts["analyse"].relation(method, standard, distance)
        assert abs(found["slope_headroom"][0]) < 0.1
        naive = stats.spearmanr((method - standard).mean(axis=1).ravel(), 1 - standard.mean(axis=1).ravel())
        assert naive.statistic > 0.5


def write_scores(folder: Path, dev: float, targets: list[float]) -> None:
    """A scores folder of 500 examples a subset and language, as far as the scripts read it."""

    def language(accuracy: float) -> dict:
        return {"n": 500, "correct": round(500 * accuracy), "accuracy": accuracy, "interval": [0, 1]}

    parts = {"valid": {"l0": dev}, "test": {"l0": dev} | {f"l{i + 1}": value for i, value in enumerate(targets)}}
    subsets = {
        name: {
            "signature": {},
            "languages": {key: language(value) for key, value in part.items()},
            "mean": None,
            "mean_without_source": None,
        }
        for name, part in parts.items()
    }
    scores = {"format": 1, "checkpoint_sha256": "", "benchmark": {}, "labels": [], "subsets": subsets}
    (folder / "scores").mkdir(parents=True)
    (folder / "scores/scores.json").write_text(json.dumps(scores), encoding="utf-8")


def test_choice_and_comparison_of_planted_effects(scripts, tmp_path):
    """fgm helps by 5 points, adv too but only at radii that cost source dev, dropout is the tuned standard."""
    folder = tmp_path / "repository/examples/comparison/worlds"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.json", "__pycache__"))
    plan, rng = scripts["series"].PLAN, np.random.default_rng(0)

    def script(name: str) -> str:
        done = subprocess.run(
            [sys.executable, str(folder / name), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TASKS": "topic"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(phase: str, cells) -> None:
        for world in plan["worlds"][phase]:
            base = 0.5 + 0.02 * world
            (tmp_path / str(world) / "topic").mkdir(parents=True)
            (tmp_path / str(world) / "topic/dev-l0.tsv").write_text("topic0\ta\n" * 500, encoding="utf-8")
            distance = {f"l{i}": {"word": 0, "topic": 0, "cosine": 0, "length": 1 + i / 10} for i in range(1, 6)}
            (tmp_path / str(world) / "distance.json").write_text(json.dumps(distance), encoding="utf-8")
            for cell in cells:
                dev = 0.85 if cell.method == "dropout" else 0.3 if cell.method == "adv" else 0.84
                gain = {"fgm": 0.05, "adv": 0.2}.get(cell.method, 0.0)
                for seed in plan["seeds"][phase]:
                    targets = (base + gain + rng.normal(0, 0.003, size=5)).tolist()
                    write_scores(tmp_path / str(world) / f"topic.{cell.name}.{seed}", dev, targets)

    cells = scripts["series"].grid("topic")
    run("tune", cells)
    script("choose.py")
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))["tasks"]["topic"]
    assert {name: given["radius"] for name, given in chosen["methods"].items()} == {
        "rs-rp": 2.0,
        "adv": 0,
        "fgm": 0.5,
        "r3f": 2.0,
    }
    assert chosen["tuned_standard"] == "dropout"
    assert chosen["dev_examples"] == 1000

    run("confirm", [cell for cell in cells if cell.name in ("rs-rp.2", "fgm.0.5", "r3f.2") or not cell.radius])
    script("analyse.py")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = results["tasks"]["topic"]
    assert found["not_run"] == ["adv"]
    for reference in ("standard", "dropout", "longer"):
        estimate, low, high = found["against"][reference]["fgm"]["difference"]
        assert estimate == pytest.approx(0.05, abs=0.004)
        assert 0.04 < low < estimate < high < 0.06
        assert found["against"][reference]["fgm"]["p_holm"] < 0.01
    assert found["against"]["standard"]["rs-rp"]["p_holm"] > 0.05
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert scripts["analyse"].tables(results) in readme
    (row,) = [line for line in readme.splitlines() if line.startswith("| rs-rp 2 |")]
    assert " null |" in row
    assert len([line for line in readme.splitlines() if line.startswith("| topic: ")]) == 4
    assert "Radius 0 was chosen, which is the standard method: adv." in readme
    before, after = (text.partition("## Results")[0] for text in ((FOLDER / "README.md").read_text("utf-8"), readme))
    assert before == after
