"""`robust-xlt report NAME=SCORES[,SCORES...] ...`"""

from __future__ import annotations

import argparse
import json

from fairseq_robust_xlt import reports
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write


def add_parser(verbs) -> None:
    parser = verbs.add_parser(
        "report",
        help="compare scored runs: accuracy per language, differences with intervals",
        description="Each RUNS is a name, '=', and the scores folders of its seeds with commas between; the first is "
        "the baseline.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS")
    parser.add_argument("--subset", default="test", help="which scored subset (default: test)")
    parser.add_argument(
        "--languages", metavar="LANG,...", help="the mean is over these (default: all without training labels)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers there as well")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    runs = {}
    for given in args.runs:
        name, _, folders = given.partition("=")
        if not name or not all(folders.split(",")):
            raise UserError(f"RUNS {given!r}: expected NAME=FOLDER[,FOLDER...]")
        if name in runs:
            raise UserError(f"RUNS {given!r}: the name {name!r} is given twice")
        runs[name] = folders.split(",")
    languages = args.languages.split(",") if args.languages else None
    comparison = reports.compare(runs, args.subset, languages=languages)
    text = comparison.text()
    if args.json:
        with atomic_write(args.json) as file:
            json.dump(comparison.asdict(), file, indent=1)
            file.write("\n")
    print(text)
    return 0
