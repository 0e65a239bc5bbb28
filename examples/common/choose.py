"""Choose radii by the rule: the largest whose English-dev accuracy (mean over seeds) lies within one standard error of
the best of the grid. Usage: choose.py RUNS COMMAND GRID.json (COMMAND, which ran the grid, is written into it)

The standard error is that of the best point's accuracy on the dev examples, sqrt(p (1 - p) / n): the seeds of a point
share these examples, so it does not shrink with the seeds.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from fairseq_robust_xlt.files import atomic_write


def choose(points: dict[float, list[float]], n: int) -> tuple[float, float]:
    """The chosen radius and the accuracy it had to reach; points: radius -> accuracy of each seed."""
    means = {radius: sum(values) / len(values) for radius, values in points.items()}
    best = max(means.values())
    threshold = best - (best * (1 - best) / n) ** 0.5
    return max(radius for radius, mean in means.items() if mean >= threshold), threshold


def main(runs: str, command: str, out: str) -> None:
    grid: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    n = 0
    for path in sorted(Path(runs).glob("*/train.log")):
        method, radius, _ = path.parent.name.rsplit("-", 2)
        log = path.read_text(encoding="utf-8")
        (n,) = map(int, re.findall(r"\| valid: (\d+) examples in en,", log))
        (accuracy,) = re.findall(r'"valid_accuracy": "([\d.]+)"', log)  # English dev, at the end of the training
        grid[method][float(radius)].append(round(float(accuracy) / 100, 6))
    result = {}
    standard = grid.pop("standard")
    for method, points in grid.items():
        points.update(standard)  # a robust method at radius 0 is the standard one
        chosen, threshold = choose(points, n)
        result[method] = {
            "points": [{"radius": r, "english_dev": points[r]} for r in sorted(points)],
            "threshold": threshold,
            "chosen": chosen,
        }
        print(method)
        for radius in sorted(points):
            accuracies = " ".join(f"{100 * value:.1f}" for value in points[radius])
            print(f"  radius {radius:g}: {accuracies}{'  <- chosen' if radius == chosen else ''}")
    with atomic_write(out) as file:
        json.dump({"command": command, "dev_examples": n, "methods": result}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
