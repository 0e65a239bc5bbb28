"""Choose each method's setting on the source language's dev set in the tuning worlds; writes chosen.json.

Usage: choose.py ROOT

A radius: `scoring.largest_radius` of the mean dev accuracy over worlds and seeds, on all worlds' dev examples together.
The tuned standard: the one with the best dev accuracy. What the same cells score in the other languages stands beside
it: it had no part in the choice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from series import HERE, PLAN, TASKS, Cell, grid

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.files import atomic_write


def accuracies(root: Path, task: str, cell: Cell, phase: str) -> dict[str, np.ndarray]:
    """Accuracies as fractions: `dev` [worlds, seeds] in the source, `test` [worlds, seeds, languages], source first."""
    dev, test = [], []
    for world in PLAN["worlds"][phase]:
        for seed in PLAN["seeds"][phase]:
            subsets = scoring.read(root / str(world) / f"{task}.{cell.name}.{seed}" / "scores")["subsets"]
            dev.append([one["accuracy"] for one in subsets["valid"]["languages"].values()])
            languages = subsets["test"]["languages"]
            test.append([languages[language]["accuracy"] for language in sorted(languages)])
    shape = (len(PLAN["worlds"][phase]), len(PLAN["seeds"][phase]))
    return {"dev": np.reshape(dev, shape), "test": np.reshape(test, (*shape, -1))}


def choose(root: Path, task: str) -> dict[str, Any]:
    cells = {cell: accuracies(root, task, cell, "tune") for cell in grid(task)}
    rows = [
        {
            "method": cell.method,
            "radius": cell.radius,
            "source_dev": round(float(found["dev"].mean()), 4),
            "source_dev_by_world": found["dev"].mean(axis=1).round(4).tolist(),
            "targets": round(float(found["test"][..., 1:].mean()), 4),
        }
        for cell, found in cells.items()
    ]
    # The dev sets of a task have the same size in every world.
    examples = len(PLAN["worlds"]["tune"]) * _dev_examples(root, task)
    dev = {(row["method"], row["radius"]): row["source_dev"] for row in rows}
    methods = {}
    for method, given in PLAN["methods"].items():
        if task in given.get("radii", {}):
            points = {0.0: dev["standard", 0.0]} | {r: dev[method, r] for r in given["radii"][task]}
            radius, threshold = scoring.largest_radius(points, examples)
            methods[method] = {"radius": radius, "threshold": round(threshold, 4)}
    tuned = max(PLAN["standards"], key=lambda name: dev[name, 0.0])
    return {"dev_examples": examples, "tuned_standard": tuned, "methods": methods, "grid": rows}


def _dev_examples(root: Path, task: str) -> int:
    world = root / str(PLAN["worlds"]["tune"][0])
    return len((world / task / "dev-l0.tsv").read_text(encoding="utf-8").splitlines())


def main(root: str) -> None:
    tasks = {task: choose(Path(root), task) for task in TASKS}
    with atomic_write(HERE / "chosen.json") as file:
        json.dump({"command": "examples/method_comparison/worlds/run.sh", "tasks": tasks}, file, indent=1)
        file.write("\n")
    for task, result in tasks.items():
        print(task, "tuned standard:", result["tuned_standard"], result["methods"])


if __name__ == "__main__":
    main(*sys.argv[1:])
