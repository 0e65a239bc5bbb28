"""Turn plan.yaml into command lines for many.py.

Usage: series.py pretrain|tune|confirm ROOT WORLD
       series.py worlds ROOT tune|confirm          the numbers of a phase's worlds

ROOT/WORLD is the world's folder; its runs are in ROOT/WORLD/TASK.METHOD.SETTING.SEED. `confirm` reads the settings that
choose.py has chosen from chosen.json beside this file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
PLAN: dict[str, Any] = yaml.safe_load((HERE / "plan.yaml").read_text(encoding="utf-8"))
#: Those of the plan, or fewer by the environment variable TASKS.
TASKS = os.environ.get("TASKS", " ".join(PLAN["tasks"])).split()
#: Commands name the repository's files from its root, where run.sh starts them.
TABLES = HERE.relative_to(HERE.parents[2])
QUIET = "--cpu --num-workers 0 --log-format json --log-interval 100"


class Cell(NamedTuple):
    """One method at one setting. `radius` is 0 where it has none; `updates` and `lr` multiply the task's."""

    method: str
    radius: float
    flags: str
    updates: float = 1.0
    lr: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.method}.{self.radius:g}"


def grid(task: str) -> list[Cell]:
    """Every point of every method's grid for a task."""
    cells = [
        Cell(name, 0.0, f"--method standard {given.get('flags', '')}", given.get("updates", 1.0), given.get("lr", 1.0))
        for name, given in PLAN["standards"].items()
    ]
    for name, given in PLAN["methods"].items():
        flags = f"--method {given.get('recipe', name)} {given.get('flags', '')}"
        cells += [Cell(name, radius, f"{flags} --radius {radius:g}") for radius in given.get("radii", {}).get(task, [])]
        if "radii" not in given:
            cells.append(Cell(name, 0.0, flags))
    return cells


def confirmed(task: str) -> list[Cell]:
    """The standards, and each method at the setting chosen for the task; none at radius 0, which is the standard."""
    chosen = json.loads((HERE / "chosen.json").read_text(encoding="utf-8"))["tasks"][task]["methods"]
    return [cell for cell in grid(task) if cell.method not in chosen or cell.radius == chosen[cell.method]["radius"]]


def pretraining(world: Path) -> str:
    pieces = world / "pieces"
    return (
        f"{world}/pretrain fairseq-preprocess --only-source --srcdict {world}/encoder/dict.txt "
        f"--trainpref {pieces}/train --destdir {pieces}/bin --workers 1 "
        f"&& fairseq-train {pieces}/bin {PLAN['pretrain'].strip()} "
        f"--disable-validation --no-epoch-checkpoints --no-save-optimizer-state --save-dir {world}/pretrain {QUIET}"
    )


def run(world: Path, task: str, cell: Cell, seed: int) -> str:
    """Fine-tune on the source language, then score its dev set and the test sets of all languages."""
    given, folder = PLAN["tasks"][task], world / f"{task}.{cell.name}.{seed}"
    updates = round(given["updates"] * cell.updates)
    data = f"{world}/{task} --user-dir fairseq_robust_xlt --task cross_lingual --benchmark {TABLES}/{task}.yaml"
    return (
        f"{folder} fairseq-train {data} --encoder {world}/encoder --finetune-from-model {world}/encoder/model.pt "
        f"{PLAN['finetune'].strip()} --batch-size {given['batch']} --lr {float(given['lr']) * cell.lr:g} "
        f"--max-update {updates} --total-num-update {updates} --seed {seed} {cell.flags.format(world=world).strip()} "
        f"--disable-validation --no-epoch-checkpoints --no-save-optimizer-state --save-interval 1000 "
        f"--save-dir {folder} {QUIET} "
        f"&& fairseq-validate {data} --path {folder}/checkpoint_last.pt --valid-subset valid,test "
        f"--batch-size 250 --scores {folder}/scores {QUIET}"
    )


def lines(phase: str, root: Path, world: int) -> Iterator[str]:
    folder = root / str(world)
    if phase == "pretrain":
        yield pretraining(folder)
        return
    for task in TASKS:
        for cell in grid(task) if phase == "tune" else confirmed(task):
            for seed in PLAN["seeds"][phase]:
                yield run(folder, task, cell, seed)


def main(phase: str, root: str, world: str) -> None:
    if phase == "worlds":
        print(*PLAN["worlds"][world], sep="\n")
    else:
        print(*lines(phase, Path(root), int(world)), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
