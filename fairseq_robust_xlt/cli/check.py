"""`robust-xlt check DATA --task T`"""

from __future__ import annotations

import argparse
from pathlib import Path

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.cli.benchmark import show
from fairseq_robust_xlt.errors import UserError


def add_parser(verbs) -> None:
    parser = verbs.add_parser(
        "check",
        help="read every published file of a task, and say what is wrong or suspicious",
        description="Counts rows and labels of every file, and notes rows that repeat, that training files have too, "
        "that were not translated, or that are not aligned with the source language's. Exit status 1 for a file that "
        "cannot be read as the benchmark's table says.",
    )
    parser.add_argument("data", help="the folder of the published files, as for fairseq-train")
    parser.add_argument("--task", metavar="NAME", help="a task: " + ", ".join(benchmarks.known()))
    parser.add_argument("--benchmark", metavar="FILE.yaml", help="a table of your own (task cross_lingual)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    own = args.benchmark is not None and args.benchmark not in benchmarks.known()
    if args.task is None and args.benchmark is None:
        raise UserError(f"--task: say which: {', '.join(benchmarks.known())}; or give --benchmark FILE.yaml")
    if args.task not in (None, "cross_lingual", *benchmarks.known()):
        raise UserError(f"--task {args.task}: there are {', '.join(benchmarks.known())}, cross_lingual")
    if args.task == "cross_lingual" and args.benchmark is None:
        raise UserError("--task cross_lingual: --benchmark FILE.yaml is missing")
    show(args.benchmark or args.task, Path(args.data), own)
    return 0
