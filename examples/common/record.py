"""Write the results of compared runs where readers look for them: NAME.json, and the table of README.md between the
marks of that name. Nothing there is edited by hand.

Usage: record.py FOLDER NAME GRID COMMAND SUBSET SHOWN METHOD=SCORES[,SCORES...] ...
(SHOWN: languages of the table; "": all)

GRID, a grid.json or "", says which radii were chosen and which standard is the tuned one: each method is
compared with the first and, if that is another, with the tuned standard.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from choose import is_standard, source_dev
from tabulate import tabulate

from fairseq_robust_xlt import reports, scoring
from fairseq_robust_xlt.files import atomic_write

BEGIN, END = "<!-- {}: written by examples/common/record.py -->\n", "<!-- end -->"


def results(grid_file: str, command: str, subset: str, runs: dict[str, list[str]]) -> dict[str, Any]:
    grid = json.loads(Path(grid_file).read_text("utf-8")) if grid_file and Path(grid_file).exists() else {}
    first = next(iter(runs))
    tuned = grid.get("standards", {}).get("tuned", first)
    against = {}
    for baseline in dict.fromkeys([first, tuned if tuned in runs else first]):
        found = reports.compare(runs, subset, baseline).asdict()
        against[baseline] = {
            name: {key: one[key] for key in ("difference", "p", "p_holm")}
            for name, one in found["methods"].items()
            if name != baseline
        }
    methods = {}
    # RS-DA has nothing to tune but its table of synonyms.
    chosen = {"rs-da": None} | {name: one["chosen"] for name, one in grid.get("methods", {}).items()}
    for name, one in found["methods"].items():
        english_dev = [source_dev(Path(scores).parent)[1] for scores in runs[name]]
        signature = scoring.read(runs[name][0])["subsets"][subset]["signature"]
        settings = signature["method"]
        radius = settings["radius"] if settings["perturbation"] in ("random", "ascent", "virtual") else None
        methods[name] = {
            **{key: one[key] for key in one if key in ("seeds", "accuracy", "mean_of_others", "macro_f1_of_others")},
            "english_dev": english_dev,
            "cost": signature["cost"],
            "tuned": is_standard(name) or (name in chosen and chosen[name] == radius),
            "radius": radius,
            "versions": signature["versions"],
        }
    return {
        "command": command,
        **{key: found[key] for key in ("subset", "source", "examples")},
        "tuned_standard": tuned,
        "methods": methods,
        "against": against,
        **thirds(subset, runs, first),
    }


def thirds(subset: str, runs: dict[str, list[str]], first: str) -> dict[str, Any]:
    """The difference to the baseline `first` in the third of the languages in which the other standards are weakest,
    and in the third in which they are best: by the baseline itself, the former would be low by chance and gain by it.
    So would those that rank, which therefore have no such difference.
    """
    if not (others := [name for name in runs if is_standard(name) and name != first]):
        return {}
    standards = reports.compare({name: runs[name] for name in others}, subset)
    means = {
        language: sum(standards.accuracy[name][language] for name in others) / len(others)
        for language in standards.others
    }
    ranked = sorted(means, key=lambda language: (means[language], language))
    size = len(ranked) // 3
    if not size:
        return {}
    found = {}
    for name, languages in (("weakest", ranked[:size]), ("best", ranked[-size:])):
        differences = reports.compare(runs, subset, first, languages).difference
        found[name] = {
            "languages": languages,
            # Those that rank are low, or high, there by chance.
            "difference": {name: list(one[:3]) for name, one in differences.items() if name not in others},
        }
    return {"ranked_by": others, "thirds": found}


def table(found: dict[str, Any], shown: list[str]) -> str:
    source = found["source"]
    languages = [language for language in shown if language in found["examples"]]
    languages = languages or list(found["examples"])
    columns = [*([source] if source else []), *(language for language in languages if language != source)]
    others = len(found["examples"]) - bool(source)
    # Where another benchmark is scored, English dev is that of the training's.
    head = ["", "cost", *([] if source else ["English dev"]), *columns, *([f"mean of {others}"] if others else [])]
    for baseline in found["against"]:
        head += [f"- {baseline}", "p"]
    head += [f"{third} third" for third in found.get("thirds", ())]
    rows = []
    for name, one in found["methods"].items():
        label = name if one["radius"] is None else f"{re.sub('@[^+]*', '', name)} {one['radius']:g}"
        row = [label if one["tuned"] else f"{label} *", f"{one['cost']}/3"]
        values = [*(one["accuracy"][language] for language in columns), *([one["mean_of_others"]] if others else [])]
        if not source:
            values.insert(0, sum(one["english_dev"]) / len(one["english_dev"]))
        row += [f"{100 * value:.1f}" for value in values]
        for against in found["against"].values():
            if name in against:
                null = " null" if against[name]["p_holm"] > 0.05 else ""
                row += [interval(against[name]["difference"]) + null, f"{against[name]['p_holm']:.3f}"]
            else:
                row += ["", ""]
        for third in found.get("thirds", {}).values():
            row.append(interval(third["difference"][name]) if name in third["difference"] else "")
        rows.append(row)
    seeds = "/".join(str(n) for n in sorted({one["seeds"] for one in found["methods"].values()}))
    seeds += " seed (intervals are those of the test examples alone)" if seeds == "1" else " seeds"
    examples = "/".join(str(n) for n in sorted(set(found["examples"].values())))
    differences = f"differences {'of the mean ' if others else ''}with 95 % intervals"
    lines = [
        f"Accuracy in percent on {found['subset']} ({examples} rows a language), mean over {seeds}; {differences}; p: "
        "Holm-corrected over the methods; *null*: p above 0.05; intervals are not corrected.",
        "",
        tabulate(rows, headers=head, tablefmt="github", disable_numparse=True).replace(" null", " *null*"),
        "",
        f"`{found['command']}`",
    ]
    if "thirds" in found:
        weakest, best = (" ".join(third["languages"]) for third in found["thirds"].values())
        lines[0] += (
            f" Thirds: differences to {next(iter(found['against']))} in the languages in which the other standards are "
            f"weakest ({weakest}) and best ({best})."
        )
    if not all(one["tuned"] for one in found["methods"].values()):
        lines.insert(
            3,
            "\n\\* not chosen by a grid: the recipe's defaults, a radius that was given, or a method beside "
            "another setting at the radius that was chosen without it.",
        )
    return "\n".join(lines)


def interval(difference: list[float]) -> str:
    estimate, low, high = (f"{100 * value:+.1f}" for value in difference)
    return f"{estimate} [{low}, {high}]"


def main(folder: str, name: str, grid: str, command: str, subset: str, shown: str, *runs: str) -> None:
    methods = {method: folders.split(",") for method, _, folders in (run.partition("=") for run in runs)}
    found = results(grid, command, subset, methods)
    with atomic_write(Path(folder) / f"{name}.json") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
    write_block(Path(folder) / "README.md", name, table(found, shown.split()))


def write_block(readme: Path, name: str, text: str) -> None:
    """Put `text` between the marks of `name`; at the end of the file if there are none."""
    begin = BEGIN.format(name)
    before, there, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(END)
    if there and not ended:
        sys.exit(f"error: {readme}: {begin.strip()} has no {END.strip()}; nothing was changed there")
    with atomic_write(readme) as file:
        file.write(before + begin + text + "\n" + END + after)


if __name__ == "__main__":
    main(*sys.argv[1:])
