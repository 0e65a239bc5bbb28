"""`robust-xlt benchmark new|check`"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.benchmarks.schema import SCHEMA
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write
from fairseq_robust_xlt.text.drafting import draft
from fairseq_robust_xlt.text.summary import summary


def add_parser(verbs) -> None:
    parser = verbs.add_parser("benchmark", help="draft a table for your own data, or check files against a table")
    actions = parser.add_subparsers(dest="action", required=True, metavar="new|check")
    new = actions.add_parser(
        "new",
        help="look at TSV, CSV and JSON-lines files and draft their benchmark table",
        description="Writes a table with a comment on every guess, then reads every file with it.",
    )
    new.add_argument("folder", help="the files, named like train-en.tsv, dev-en.csv, sw/test.jsonl")
    new.add_argument("--out", metavar="FILE.yaml", help="the table to write (default: NAME.yaml)")
    new.add_argument("--name", help="the benchmark's name (default: the folder's)")
    new.add_argument("--source", metavar="LANGUAGE", help="the language of the training data (default: from the files)")
    new.add_argument("--label", metavar="COLUMN", help="the label's column: a name, a number from 0, or a JSON path")
    new.add_argument("--text", metavar="COLUMN[,COLUMN]", help="the texts' columns: one, or the two of a pair")
    new.set_defaults(run=run_new)
    check = actions.add_parser(
        "check",
        help="read every file of a folder as a table says, and count",
        description="Says the first fault of every file; exit status 1 if there is any, or for a table of your own if "
        "one of its patterns finds no file or no training or dev file of the source language is there.",
    )
    check.add_argument("table", help="a table, or the name of a benchmark that comes with the package")
    check.add_argument("folder")
    check.set_defaults(run=run_check)


def run_new(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    name = args.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-_.") or "own"
    rule = SCHEMA["properties"]["name"]
    if not re.match(rule["pattern"], name):
        raise UserError(f"--name {name}: expected {rule['description']}")
    out = Path(args.out or f"{name}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: the name of a table ends in .yaml or .yml")
    if out.exists():
        raise UserError(f"--out {out}: is there already, and is not overwritten; give another name")
    text, remarks = draft(folder, name, args.source, args.label, args.text.split(",") if args.text else ())
    with atomic_write(out) as file:
        file.write(text)
    for remark in remarks:
        print(remark)
    try:
        show(str(out), folder)
    except UserError as error:
        raise UserError(f"{error} ({out} is written; mend the file, or the table where it guessed wrong)") from error
    print(f"wrote {out}: check the lines with comments, then train with --task cross_lingual --benchmark {out}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    show(args.table, Path(args.folder), own=args.table not in benchmarks.known())
    return 0


def show(table: str, folder: Path, own: bool = False) -> None:
    """Print what a table says and what the folder's files hold; `own` is that of `summary`."""
    benchmark = benchmarks.load(table, flag="")
    print(f"{benchmark.name}: kind {benchmark.kind}, source {benchmark.source}")
    print(f"labels: {', '.join(benchmark.labels)}")
    for line in summary(benchmark, folder, own):
        print(line)
