"""Choose radii by the rule: the largest whose English-dev accuracy (mean over seeds) lies within one standard error of
the best of the grid; and the standard whose accuracy there is best, the tuned one.
Usage: choose.py FOLDER COMMAND SETTING GRID.json RUN... (FOLDER has the runs METHOD-RADIUS-SEED of the grid; COMMAND,
which ran it, is written into GRID.json, and SETTING, the size and the encoder that its radii are for)

Other methods that GRID.json has already are kept if their grid had this setting and the same standard: as many
examples, and as accurate with each seed.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.files import atomic_write


def is_standard(method: str) -> bool:
    """Whether this is the standard method: as it is, or with other settings (dropout-0.3, lr-x2, epochs-x2.33)."""
    return method.split("-")[0] in ("standard", "dropout", "lr", "epochs")


def source_dev(run: Path) -> tuple[int, float]:
    """The examples of the source language's dev set, and the accuracy there (a fraction) at the end of the training."""
    log = (run / "train.log").read_text(encoding="utf-8")
    (n,) = map(int, re.findall(r"\| valid: (\d+) examples in en,", log))
    (accuracy,) = re.findall(r'"valid_accuracy": "([\d.]+)"', log)
    return n, round(float(accuracy) / 100, 6)


def earlier(out: str, setting: str, n: int, standard: list[float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The standards and the methods of GRID.json that can stand beside those of a new grid with this standard."""
    if not Path(out).exists():
        return {}, {}
    found = json.loads(Path(out).read_text(encoding="utf-8"))
    standards, methods = found.get("standards", {}).get("english_dev", {}), found["methods"]
    if (found.get("setting"), found["dev_examples"], standards.get("standard")) != (setting, n, standard):
        print(f"{out}: its standard is not that of this grid; replaced, with {', '.join(methods) or 'no method'}")
        return {}, {}
    return standards, {name: {"command": found["command"], **one} for name, one in methods.items()}


def main(folder: str, command: str, setting: str, out: str, *runs: str) -> None:
    grid: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs):
        method, radius, _ = run.rsplit("-", 2)
        n, accuracy = source_dev(Path(folder) / run)
        grid[method][float(radius)].append(accuracy)
    standards, result = earlier(out, setting, n, grid["standard"][0.0])
    for method, points in grid.items():
        if is_standard(method):
            continue
        points.update(grid["standard"])  # a robust method at radius 0 is the standard one
        means = {radius: sum(values) / len(values) for radius, values in points.items()}
        chosen, threshold = scoring.largest_radius(means, n)
        result[method] = {
            "command": command,
            "points": [{"radius": r, "english_dev": points[r]} for r in sorted(points)],
            "threshold": threshold,
            "chosen": chosen,
        }
        print(method)
        for radius in sorted(points):
            accuracies = " ".join(f"{100 * value:.1f}" for value in points[radius])
            print(f"  radius {radius:g}: {accuracies}{'  <- chosen' if radius == chosen else ''}")
    standards |= {method: points[0.0] for method, points in grid.items() if is_standard(method)}
    tuned = max(standards, key=lambda method: sum(standards[method]) / len(standards[method]))
    print(f"tuned standard: {tuned} of {', '.join(standards)}")
    found = {"standards": {"english_dev": standards, "tuned": tuned}, "methods": result}
    with atomic_write(out) as file:
        json.dump({"command": command, "setting": setting, "dev_examples": n, **found}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
