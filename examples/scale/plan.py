"""Memory and time of fine-tuning XLM-R on XNLI on many GPUs, CALCULATED; `--check` measures one small size beside it.

python examples/scale/plan.py [--arch xlmr_xl,xlmr_xxl] [--method adv] [--per-process 8] [--json FILE]
python examples/scale/plan.py --check
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import NamedTuple

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.encoders import SHAPES, footprint
from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.files import atomic_write

GIB = 2**30


class Gpu(NamedTuple):
    """Dense bf16 and fp16 operations, bytes of memory and bytes to the GPUs of its node that it moves, a second."""

    operations: float
    memory: float
    node: float


#: NVIDIA's data sheets of the SXM modules with 80 GB; the link to the node in one direction.
GPUS = {"A100": Gpu(312e12, 2.0e12, 300e9), "H100": Gpu(989e12, 3.35e12, 450e9)}
CAPACITY, NODE = 80e9, 8
PROCESSES = (8, 16, 32, 64)
#: XNLI's English training file (MultiNLI), three epochs; 35 tokens a pair in the mean, which is what XLM-R's
#: SentencePiece model gives on 42,357 English pairs of MultiNLI and SNLI.
PAIRS, EPOCHS, MEAN_LENGTH, MAX_LENGTH = 392_702, 3, 35, 128
#: In the order in which they are to be tried: the first that fits.
WAYS = {
    "DDP, bf16": ("bf16", "none"),
    "optimiser sharded, bf16": ("bf16", "os"),
    "optimiser sharded, memory-efficient fp16": ("memory-efficient-fp16", "os"),
}
#: Not usable with these models yet (see README.md).
FULLY = {
    "fully sharded, fp16 [not usable yet]": ("fp16", "zero3"),
    "fully sharded, memory-efficient fp16 [not usable yet]": ("memory-efficient-fp16", "zero3"),
}


def plan(arch: str, args: argparse.Namespace) -> dict:
    """All calculated figures of one architecture, as plain data: bytes, operations, hours."""
    shape, passes = SHAPES[arch], recipes.count(recipes.resolve(args.method))
    kept = footprint.activations(
        shape, args.per_process, MAX_LENGTH, "bf16", passes=passes.parameters, recompute=args.recompute
    )
    one = footprint.flops(shape, PAIRS * EPOCHS, MEAN_LENGTH)
    operations = footprint.flops_of_update(one, passes, args.recompute)
    memory: dict[str, dict[int, int]] = {name: {} for name in (*WAYS, *FULLY)}
    runs: dict[int, dict] = {}
    for processes in PROCESSES:
        batch = args.per_process * processes
        updates = -(-PAIRS // batch) * EPOCHS
        runs[processes] = {"batch": batch, "tokens": batch * MEAN_LENGTH, "updates": updates, "way": None}
        for name, (precision, sharding) in (WAYS | FULLY).items():
            state = footprint.state(
                shape, precision, not args.train_embeddings, processes, sharding, legacy_ddp=sharding == "os"
            )
            memory[name][processes] = state.kept + max(state.step, kept)
            if name in WAYS and runs[processes]["way"] is None and memory[name][processes] < CAPACITY:
                runs[processes]["way"] = name
                runs[processes]["hours"] = hours(operations, updates, state, processes, sharding, args)
    parameters = footprint.parameters(shape)
    return {
        "arch": arch,
        "parameters": parameters._asdict() | {"all": sum(parameters)},
        "activation_bytes": kept,
        "memory_bytes": memory,
        "operations": operations,
        "runs": runs,
    }


def hours(
    operations: int, updates: int, state: footprint.State, processes: int, sharding: str, args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Hours of computing, of Adam and of communication on each kind of GPU, none of them hidden behind another.

    Adam reads and writes all that is kept once, at the speed of the memory. Gradients go round a ring twice, and with
    a sharded optimiser the new weights once.
    """
    sent = 2 * state.gradients * (processes - 1) / processes + (state.gradients if sharding == "os" else 0)
    found = {}
    for name, gpu in GPUS.items():
        link = gpu.node if processes <= NODE else args.network * 1e9
        found[name] = {
            "computing": operations / (gpu.operations * args.mfu * processes) / 3600,
            "Adam": updates * 2 * state.kept / gpu.memory / 3600,
            "communication": updates * sent / link / 3600,
        }
    return found


def show(found: dict, args: argparse.Namespace) -> None:
    """Print one architecture's plan."""
    sizes = found["parameters"]
    print(
        f"\n{found['arch']}: {sizes['all'] / 1e6:,.0f} M parameters, {sizes['words'] / 1e6:,.0f} M of them in the "
        f"{'' if args.train_embeddings else 'frozen '}word table; activations {found['activation_bytes'] / GIB:.2f} GiB"
    )
    print(row("GiB a process, on ... processes", [str(n) for n in PROCESSES]))
    for name, sizes in found["memory_bytes"].items():
        print(row(name, [f"{sizes[n] / GIB:.1f}{'!' if sizes[n] >= CAPACITY else ' '}" for n in PROCESSES]))
    runs = [found["runs"][n] for n in PROCESSES]
    host = 4 * NODE * found["parameters"]["all"] / GIB  # every process builds its model there, in fp32
    print(row(f"GiB of the memory of a node of {NODE} GPUs, at the start", [f"{host:.0f}"] * len(PROCESSES)))
    print(row("XNLI, 3 epochs: inputs an update", [run["batch"] for run in runs]))
    print(row("tokens an update", [run["tokens"] for run in runs]))
    print(row("updates", [run["updates"] for run in runs]))
    print(
        row(
            "in the first of these ways that fits",
            [1 + list(WAYS).index(run["way"]) if run["way"] else "none" for run in runs],
        )
    )
    for gpu in GPUS:
        for part in ("computing", "Adam", "communication"):
            print(
                row(
                    f"hours on {gpu}, {part}", [f"{run['hours'][gpu][part]:.2f}" if run["way"] else "-" for run in runs]
                )
            )


def row(name: str, cells: list) -> str:
    return f"  {name:<56}" + "".join(f"{cell:>9}" for cell in cells)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="xlmr_base,xlmr_large,xlmr_xl,xlmr_xxl")
    parser.add_argument("--method", default="standard", help="a robust-training method or a recipe file")
    parser.add_argument("--per-process", type=int, default=4, help="inputs a process and update")
    parser.add_argument("--mfu", type=float, default=0.35, help="share of a GPU's peak that is reached: an assumption")
    parser.add_argument("--network", type=float, default=25, help="GB/s a GPU sends to another node: an assumption")
    parser.add_argument("--train-embeddings", action="store_true", help="train the word table too")
    parser.add_argument("--keep-activations", action="store_true", help="no activation checkpointing")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--check", action="store_true", help="measure xlmr_mini on this machine's CPU instead")
    args = parser.parse_args()
    args.recompute = not args.keep_activations
    for arch in args.arch.split(","):
        if arch not in SHAPES:
            raise unknown("architecture", arch, SHAPES, "--arch")
    if args.per_process < 1 or args.network <= 0 or not 0 < args.mfu <= 1:
        raise UserError("--per-process must be 1 or larger, --network above 0, --mfu above 0 and at most 1")
    return args


def main() -> None:
    args = arguments()
    if args.check:
        import check

        figures: object = check.check(args.method)
    else:
        print(
            f"CALCULATED, nothing here was run: --method {args.method}, {args.per_process} inputs of at most "
            f"{MAX_LENGTH} tokens a process and update, {'recomputed' if args.recompute else 'kept'} activations, "
            f"{PAIRS:,} pairs of {MEAN_LENGTH} tokens in the mean. Assumed: {args.mfu:.0%} of a GPU's peak, "
            f"{args.network:g} GB/s a GPU between nodes of {NODE}. '!': more than 80 GB."
        )
        figures = [plan(arch, args) for arch in args.arch.split(",")]
        for found in figures:
            show(found, args)
    if args.json:
        with atomic_write(args.json) as file:
            json.dump({"command": sys.argv, "calculated": not args.check, "figures": figures}, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
