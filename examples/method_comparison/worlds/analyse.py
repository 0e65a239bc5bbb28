"""Compare the methods in the confirmation worlds; writes results.json and the tables of README.md.

Usage: analyse.py ROOT

Worlds are the unit: seeds of a world share its encoder and its test sets, and an interval over seeds alone would say
how sure one is of these encoders, not of the method. Intervals resample worlds, then seeds within each drawn world;
the chance in a world's test examples is part of the spread between worlds. With five worlds such intervals are too
short, so the p-values are those of a paired t-test on the worlds' means, Holm-corrected over the methods of a task.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from choose import accuracies
from scipy import stats
from series import HERE, PLAN, TASKS, confirmed

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.files import atomic_write

RESAMPLES = 10_000
RELATION = {
    "rank_distance": "distance, rank",
    "rank_headroom": "headroom, rank",
    "slope_distance": "distance, slope",
    "slope_headroom": "headroom, slope",
}
Interval = list[float]


def clustered(differences: np.ndarray, resamples: int = RESAMPLES) -> Interval:
    """The mean of differences [worlds, seeds] with a 95 % interval: worlds resampled, then seeds within each."""
    worlds, seeds = differences.shape
    rng = np.random.default_rng(0)
    drawn = rng.integers(worlds, size=(resamples, worlds, 1))
    values = differences[drawn, rng.integers(seeds, size=(resamples, worlds, seeds))].mean(axis=(1, 2))
    return _rounded(differences.mean(), *np.quantile(values, [0.025, 0.975]))


def over_worlds(statistic: Callable[[np.ndarray], np.ndarray], worlds: int, resamples: int = 500) -> list[Interval]:
    """Statistics of a list of worlds, each with a 95 % interval: worlds resampled."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(worlds, size=worlds)) for _ in range(resamples)]
    low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
    return [_rounded(*three) for three in zip(statistic(np.arange(worlds)), low, high, strict=True)]


def relation(method: np.ndarray, standard: np.ndarray, distance: np.ndarray) -> dict[str, Interval]:
    """How a method's gain goes with distance and headroom over worlds and languages.

    `method` and `standard` are accuracies [worlds, seeds, languages], `distance` [worlds, languages]. Headroom is what
    the standard lacks to 1. It is taken from one seed and the gain from the others, for each seed in turn: a standard
    that is low by chance would otherwise raise both. Returns rank correlations, and the slopes of the regression on
    both (gain for one mean norm of distance, and for a headroom of 1).
    """

    def statistic(worlds: np.ndarray) -> np.ndarray:
        found = []
        for seed in range(standard.shape[1]):
            others = np.delete(method - standard, seed, axis=1).mean(axis=1)[worlds].ravel()
            headroom, far = 1 - standard[worlds, seed].ravel(), distance[worlds].ravel()
            design = np.stack([np.ones_like(far), far, headroom], axis=1)
            slopes = np.linalg.lstsq(design, others, rcond=None)[0][1:]
            found.append([_rank_correlation(others, far), _rank_correlation(others, headroom), *slopes])
        return np.mean(found, axis=0)

    return dict(zip(RELATION, over_worlds(statistic, len(standard)), strict=True))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _rounded(*values: float) -> Interval:
    return [round(float(value), 4) for value in values]


def compare(runs: dict[str, dict[str, np.ndarray]], references: list[str]) -> dict[str, Any]:
    """Every method against each reference: the mean over the target languages (`test` [worlds, seeds, languages])."""
    means = {name: found["test"][..., 1:].mean(axis=-1) for name, found in runs.items()}
    result: dict[str, Any] = {}
    for reference in references:
        others = [name for name in runs if name != reference]
        differences = {name: means[name] - means[reference] for name in others}
        p = [float(stats.ttest_1samp(differences[name].mean(axis=1), 0).pvalue) for name in others]
        holm = scoring.holm(p)
        result[reference] = {
            name: {
                "difference": clustered(differences[name]),
                "by_world": _rounded(*differences[name].mean(axis=1)),
                "p": round(p[i], 5),
                "p_holm": round(holm[i], 5),
            }
            for i, name in enumerate(others)
        }
    return result


def analyse(root: Path, task: str, chosen: dict[str, Any]) -> dict[str, Any]:
    cells = {cell.method: cell for cell in confirmed(task)}
    runs = {name: accuracies(root, task, cell, "confirm") for name, cell in cells.items()}
    distance = np.array([[one["length"] for one in languages.values()] for languages in distances(root).values()])
    standard = runs["standard"]["test"][..., 1:]
    references = list(dict.fromkeys(["standard", chosen["tuned_standard"], "dropout", "longer"]))
    return {
        "tuned_standard": chosen["tuned_standard"],
        "radius": {name: cell.radius for name, cell in cells.items() if name in chosen["methods"]},
        "not_run": [name for name, given in chosen["methods"].items() if not given["radius"]],
        "source_dev": {name: round(float(found["dev"].mean()), 4) for name, found in runs.items()},
        "accuracy": {name: _rounded(*found["test"].mean(axis=(0, 1))) for name, found in runs.items()},
        "against": compare(runs, references),
        "gain_relation": {
            name: relation(found["test"][..., 1:], standard, distance)
            for name, found in runs.items()
            if name != "standard"
        },
    }


def distances(root: Path) -> dict[int, dict[str, dict[str, float]]]:
    """world -> language -> measures, of the confirmation worlds."""
    return {
        world: json.loads((root / str(world) / "distance.json").read_text(encoding="utf-8"))
        for world in PLAN["worlds"]["confirm"]
    }


def tables(results: dict[str, Any]) -> str:
    """The tables of README.md."""
    languages = sorted(next(iter(results["distance"].values())))
    lines = ["| | " + " | ".join(languages) + " |", "|---" * (len(languages) + 1) + "|"]
    for key in ("word", "topic", "cosine", "length"):
        means = [np.mean([world[language][key] for world in results["distance"].values()]) for language in languages]
        lines.append(f"| {key} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    for task, found in results["tasks"].items():
        tuned = found["tuned_standard"]
        lines += ["", f"**{task}** (tuned standard: {tuned})", ""]
        head = ["", "l0 dev", "l0", *languages, "mean", "- standard", "p", f"- {tuned} (tuned)", "p", "- longer", "p"]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for name, accuracy in found["accuracy"].items():
            radius = found["radius"].get(name)
            values = [found["source_dev"][name], *accuracy, float(np.mean(accuracy[1:]))]
            row = [name if radius is None else f"{name} {radius:g}", *(f"{100 * value:.1f}" for value in values)]
            for reference in ("standard", tuned, "longer"):
                row += _difference(found["against"][reference].get(name))
            lines.append("| " + " | ".join(row) + " |")
        if found["not_run"]:
            lines += ["", f"Radius 0 was chosen, which is the standard method: {', '.join(found['not_run'])}."]
    return "\n".join([*lines, *relation_table(results["tasks"])])


def relation_table(tasks: dict[str, Any]) -> list[str]:
    """How each method's gain goes with distance and headroom; bold where the interval leaves out 0."""
    head = ["gain against", *RELATION.values()]
    lines = ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for task, found in tasks.items():
        for name, values in found["gain_relation"].items():
            if name not in PLAN["standards"]:
                row = [f"{task}: {name}", *(_relation(values[key]) for key in RELATION)]
                lines.append("| " + " | ".join(row) + " |")
    return lines


def _relation(values: Interval) -> str:
    text = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*values)
    return f"**{text}**" if values[1] * values[2] > 0 else text


def _difference(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["", ""]
    estimate, low, high = (f"{100 * value:+.1f}" for value in found["difference"])
    null = " null" if found["p_holm"] > 0.05 else ""
    return [f"{estimate} [{low}, {high}]{null}", f"{found['p_holm']:.3f}"]


def main(root: str) -> None:
    chosen = json.loads((HERE / "chosen.json").read_text(encoding="utf-8"))["tasks"]
    results = {
        "command": "examples/method_comparison/worlds/run.sh",
        "plan": PLAN,
        "distance": distances(Path(root)),
        "tasks": {task: analyse(Path(root), task, chosen[task]) for task in TASKS},
    }
    results = json.loads(json.dumps(results))  # as it will be read again: the keys of an object are texts
    with atomic_write(HERE / "results.json") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    write_tables(results, HERE / "README.md")


def write_tables(results: dict[str, Any], readme: Path) -> None:
    begin, end = "<!-- results: written by analyse.py -->\n", "<!-- end -->"
    before, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    with atomic_write(readme) as file:
        file.write(before + begin + tables(results) + "\n" + end + rest.partition(end)[2])


if __name__ == "__main__":
    main(*sys.argv[1:])
