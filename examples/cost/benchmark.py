"""Measured against counted cost of every method, the methods taking turns in one process.

    OMP_NUM_THREADS=2 python examples/cost/benchmark.py --json cost.json

For each method and shape: seconds of forward and backward pass without the optimiser, and of the whole update with
fairseq's Adam and clipping; word table frozen; each beside the standard method's of the same round. The ratio is the
median over rounds, so that what else the machine does falls on all methods alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time

import torch

import fairseq_robust_xlt
from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.encoders import SHAPES, footprint
from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.files import atomic_write

#: A method takes at most this many times its own count.
LIMIT = 1.05
WORDS = 10_000  # looking up embeddings costs the same whatever the table's size, and the table is frozen


class Method:
    """One method on one model, taken update by update."""

    def __init__(self, name: str, models: dict, args: argparse.Namespace):
        from fairseq.optim.adam import Adam

        from fairseq_robust_xlt.criterions import alone

        recipe, layers = recipes.resolve(name), SHAPES[args.arch].layers
        model = model_for(recipe.spectral_norm, models, args)
        self.name, self.model, self.device, self.bf16 = name, model, args.device, args.bf16
        # A small encoder may not have the layer whose attention EAR compares.
        flags = {"attention_layer": min(recipe.attention_layer, layers)} if recipe.attention_pull else {}
        teacher = model_for(False, {}, args) if recipe.teacher_weight else None
        self.criterion = alone.criterion(name, teacher, **flags)
        self.batch = alone.batch(args.batch_size, args.length, WORDS, device=args.device)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = Adam(self.parameters, lr=0.0)  # the same weights for every method and round
        self.thirds = recipes.thirds(self.criterion.recipe)
        #: Operations beside the standard's: the count with attention, whose gradients are not halves.
        one = footprint.flops(SHAPES[args.arch], args.batch_size, args.length)
        self.operations = footprint.flops_of_update(one, recipes.count(self.criterion.recipe)) / sum(one)
        self.passes: list[float] = []
        self.update: list[float] = []

    def step(self) -> None:
        """Forward and backward, then the optimiser; the two times are kept."""
        self.criterion.seed_and_update = (1, len(self.passes))
        start = self.now()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            loss, size, _ = self.criterion(self.model, self.batch)
        loss.backward()
        middle = self.now()
        torch._foreach_div_([p.grad for p in self.parameters], size)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.model.zero_grad()
        self.passes.append(middle - start)
        self.update.append(self.now() - start)

    def now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def model_for(normed: bool, models: dict, args: argparse.Namespace):
    """The model that all methods share whose head has a spectral norm or not; made when the first one asks."""
    from fairseq_robust_xlt.criterions import alone

    if normed not in models:
        made = alone.model(args.arch, WORDS, freeze_embeddings=True, spectral_norm_classification_head=normed)
        made.keep_embedding_norm()
        models[normed] = made.to(args.device)
    return models[normed]


def measure(methods: list[str], args: argparse.Namespace) -> list[dict]:
    """Rounds of one update of each method, in an order that moves on every round."""
    models: dict = {}
    taking_turns = [Method(name, models, args) for name in methods]
    for number in range(args.warm_up + args.rounds):
        shift = number % len(taking_turns)
        for method in taking_turns[shift:] + taking_turns[:shift]:
            method.step()
    standard = taking_turns[0]
    rows = []
    for method in taking_turns:
        for what in ("passes", "update"):
            own, base = (getattr(m, what)[args.warm_up :] for m in (method, standard))
            ratios = sorted(a / b for a, b in zip(own, base, strict=True))
            counted = method.thirds / 3
            rows.append(
                {
                    "arch": args.arch,
                    "device": args.device,
                    "method": method.name,
                    "what": what,
                    "counted": counted,
                    "operations": method.operations,
                    "measured": statistics.median(ratios),
                    "quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
                    "of_count": statistics.median(ratios) / counted,
                    "seconds": statistics.median(own),
                }
            )
    return rows


def show(rows: list[dict]) -> None:
    first = rows[0]
    print(f"\n{first['arch']} on {first['device']}: times the standard method's, median and quartiles of rounds")
    head = f"{'method':<14}{'counted':>8}{'operations':>11}"
    print(head + "".join(f"{what:>20}{'of count':>10}" for what in ("forward+backward", "whole update")))
    for passes, update in zip(rows[::2], rows[1::2], strict=True):
        cells = ""
        for row in (passes, update):
            low, high = row["quartiles"]
            over = "!" if row is passes and row["of_count"] > LIMIT else " "
            times = f"{row['measured']:.2f} [{low:.2f}, {high:.2f}]"
            cells += f"{times:>20}{row['of_count']:>9.2f}{over}"
        print(f"{passes['method']:<14}{passes['counted']:>8.2f}{passes['operations']:>11.2f}{cells}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="xlmr_mini,xlmr_base", help="shapes, with commas between")
    parser.add_argument("--method", help="methods or recipe files, with commas between (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    fairseq_robust_xlt.register()
    methods = args.method.split(",") if args.method else recipes.names()
    methods = ["standard", *(name for name in methods if name != "standard")]
    rows: list[dict] = []
    for arch in args.arch.split(","):
        if arch not in SHAPES:
            raise unknown("architecture", arch, SHAPES, "--arch")
        found = measure(methods, argparse.Namespace(**{**vars(args), "arch": arch}))
        show(found)
        rows += found
    if args.json:
        machine = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
        about = {
            "command": [os.path.basename(part) if part == args.json else part for part in sys.argv],
            "environment": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
            "machine": machine,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "limit": LIMIT,
        }
        with atomic_write(args.json) as file:
            json.dump(about | {"rows": rows}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
