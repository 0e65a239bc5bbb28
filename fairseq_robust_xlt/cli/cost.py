"""`robust-xlt cost`: what an update of each method costs, calculated."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.encoders import SHAPES, footprint
from fairseq_robust_xlt.errors import UserError, unknown

GIB = 2**30


def add_parser(verbs) -> None:
    parser = verbs.add_parser(
        "cost",
        help="what an update of each method costs: passes, operations, memory (calculated)",
        description="Passes of one update in thirds of a standard one (a forward pass, a gradient by activations and "
        "a gradient by parameters are a third each), floating-point operations, and memory of one process that "
        "trains with fairseq's Adam on one device. All of it is calculated; nothing is run.",
    )
    parser.add_argument("--arch", default="xlmr_base", help=f"one of {', '.join(SHAPES)} (default: xlmr_base)")
    parser.add_argument("--length", type=int, default=128, help="tokens of an input (default: 128)")
    parser.add_argument("--batch-size", type=int, default=32, help="inputs of a batch (default: 32)")
    parser.add_argument("--method", help="methods or recipe files, with commas between (default: all)")
    parser.add_argument("--precision", default="fp32", help=f"one of {', '.join(footprint.PRECISIONS)} (default: fp32)")
    parser.add_argument("--freeze-embeddings", action="store_true", help="as in training")
    parser.add_argument("--checkpoint-activations", action="store_true", help="as in training")
    parser.add_argument("--cpu", action="store_true", help="memory on the CPU, whose kernels keep more than a GPU's")
    settings = parser.add_argument_group("settings of the methods, as in training (each method has to know them)")
    for key, kind in recipes.FLAGS.items():
        settings.add_argument(f"--{key.replace('_', '-')}", type=kind, metavar=kind.__name__.upper())
    parser.set_defaults(run=run)


class Row(NamedTuple):
    """One method: thirds of a standard update, operations and bytes of an update."""

    method: str
    thirds: int
    flops: int
    bytes: int


def run(args: argparse.Namespace) -> int:
    if args.arch not in SHAPES:
        raise unknown("architecture", args.arch, SHAPES, "--arch")
    if args.precision not in footprint.PRECISIONS:
        raise unknown("precision", args.precision, footprint.PRECISIONS, "--precision")
    if not 1 <= args.length <= 512:
        raise UserError(f"--length {args.length}: must be 1 to 512, the positions of the encoder")
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be 1 or larger")
    methods = args.method.split(",") if args.method else recipes.names()
    standard, rows = row("standard", args, overrides=False), [row(method, args) for method in methods]
    print(
        f"calculated, not measured: --arch {args.arch}, {args.batch_size} inputs of {args.length} tokens, "
        f"{args.precision}, on {'the CPU' if args.cpu else 'a GPU'}"
    )
    times = "of standard"
    print(f"{'method':<12} {'passes':>6} {times:>11} {'TFLOPs':>8} {times:>11} {'GiB':>7} {times:>11}")
    for found in rows:
        print(
            f"{found.method:<12} {found.thirds:>4}/3 {found.thirds / standard.thirds:>11.2f} "
            f"{found.flops / 1e12:>8.3f} {found.flops / standard.flops:>11.2f} "
            f"{found.bytes / GIB:>7.2f} {found.bytes / standard.bytes:>11.2f}"
        )
    return 0


def row(method: str, args: argparse.Namespace, overrides: bool = True) -> Row:
    """What an update of `method` costs, with the settings in `args` or its recipe's own.

    As many passes are held at once as have a gradient by parameters.
    """
    recipe = recipes.resolve(method, {key: getattr(args, key) for key in recipes.FLAGS} if overrides else None)
    passes, shape = recipes.count(recipe), SHAPES[args.arch]
    one = footprint.flops(shape, args.batch_size, args.length)
    others = footprint.other_models(shape, recipe.teacher_weight > 0, recipe.bregman_weight > 0, args.freeze_embeddings)
    state = footprint.state(shape, args.precision, args.freeze_embeddings)
    kept = footprint.activations(
        shape,
        args.batch_size,
        args.length,
        args.precision,
        gpu=not args.cpu,
        passes=passes.parameters,
        recompute=args.checkpoint_activations,
    )
    return Row(
        method,
        recipes.thirds(recipe),
        footprint.flops_of_update(one, passes, args.checkpoint_activations),
        state.kept + others + max(state.step, kept),
    )
