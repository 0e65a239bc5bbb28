"""How far trained classifiers can be moved: their accuracy on source-language dev under perturbations of many radii.

Usage: tolerance.py [--examples N] [--record FOLDER] CHECKPOINT=DATA ...

CHECKPOINT is of a task of this package, DATA the folder of its benchmark's published files. Measured on the first N
examples (default 300) of source-language dev, without dropout, in fp32, at the word embeddings: `random`, the noise of
RS-RP; `ascent`, one gradient step to the surface of the ball, the perturbation of FGM; `shared`, the same with one
perturbation for all options of a question. A radius at which an ascent leaves nothing of the accuracy is one that
training would have to work against from its first update on.
--record writes tolerance.json and README.md's table of FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from record import write_block
from tabulate import tabulate

import fairseq_robust_xlt
from fairseq_robust_xlt import host
from fairseq_robust_xlt.files import atomic_write

fairseq_robust_xlt.register()

from fairseq import checkpoint_utils  # noqa: E402

from fairseq_robust_xlt.criterions import alone  # noqa: E402

RADII = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
BATCH = 16


def measure(checkpoint: str, data: str, examples: int) -> dict[str, Any]:
    """The classes, and for each kind of perturbation radius -> accuracy; radius 0 is the clean input."""
    overrides = {"path": checkpoint, "data": data}
    state = host.load_own(checkpoint, overrides)
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([checkpoint], overrides, state=state)
    model.eval()
    task.load_dataset("valid")
    dataset = task.datasets["valid"]
    order = sorted(range(min(examples, len(dataset))), key=dataset.size)
    batches = [
        dataset.collater([dataset[index] for index in order[start : start + BATCH]])
        for start in range(0, len(order), BATCH)
    ]
    kinds = {"random": ("rs-rp", {}), "ascent": ("adv", {"perturb_start": 0.0})}
    if dataset.options:
        kinds["shared"] = ("adv", {"perturb_start": 0.0, "perturb_options": "shared"})
    found: dict[str, Any] = {"examples": len(order), "chance": 1 / len(task.benchmark.labels), "accuracy": {}}
    for kind, (method, flags) in kinds.items():
        found["accuracy"][kind] = {}
        for radius in (0.0, *RADII):
            criterion = alone.criterion(method, radius=radius, **flags)
            right = sum(int(criterion(model, batch)[2]["perturbed_ncorrect"]) for batch in batches)
            found["accuracy"][kind][f"{radius:g}"] = right / len(order)
    return {"benchmark": task.benchmark.name, **found}


def table(found: list[dict[str, Any]]) -> str:
    rows = [
        [one["benchmark"], kind, f"{100 * one['chance']:.0f}", *(f"{100 * value:.1f}" for value in accuracy.values())]
        for one in found
        for kind, accuracy in one["accuracy"].items()
    ]
    head = ["", "perturbation", "chance", *(f"{radius:g}" for radius in (0.0, *RADII))]
    return tabulate(rows, headers=head, tablefmt="github", disable_numparse=True)


def command(arguments: list[str]) -> str:
    """The command, with folders of data by their names alone."""
    words = [
        f"{run}=$DATA/{Path(data).name}" if data else run for run, _, data in (w.partition("=") for w in arguments)
    ]
    return f"python examples/common/tolerance.py {' '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="CHECKPOINT=DATA")
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--record", metavar="FOLDER")
    args = parser.parse_args()
    if args.examples < 1:
        parser.error(f"--examples {args.examples}: must be 1 or larger")
    for run in args.runs:
        if not all(run.partition("=")):
            parser.error(f"{run}: expected CHECKPOINT=DATA")
    found = [measure(*run.split("=", 1), examples=args.examples) for run in args.runs]
    print(table(found))
    if args.record:
        with atomic_write(Path(args.record) / "tolerance.json") as file:
            json.dump({"command": command(sys.argv[1:]), "runs": found}, file, indent=1)
            file.write("\n")
        write_block(Path(args.record) / "README.md", "tolerance", table(found))


if __name__ == "__main__":
    main()
