"""`robust-xlt predict --path CHECKPOINT [FILE]`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import BinaryIO

from fairseq_robust_xlt import inference
from fairseq_robust_xlt.errors import UserError


def add_parser(verbs) -> None:
    parser = verbs.add_parser(
        "predict",
        help="label new texts in any language",
        description="Prints a line for each input line: the label, a tab, and every label's probability.",
    )
    parser.add_argument("--path", required=True, metavar="CHECKPOINT", help="a checkpoint of a task of this package")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument(
        "file", nargs="?", default="-", help="texts, one a line (a tab between those of a pair); default: stdin"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be 1 or larger")
    name = "standard input" if args.file == "-" else args.file
    try:
        source = nullcontext(sys.stdin.buffer) if args.file == "-" else open(args.file, "rb")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    with source as file:
        classifier = inference.open(args.path, cpu=args.cpu)
        for result in classifier.stream(inputs(file, name, classifier.texts), args.batch_size):
            shares = " ".join(f"{label}={p:.4f}" for label, p in result.probabilities.items())
            print(f"{result.label}\t{shares}", flush=True)
    return 0


def inputs(file: BinaryIO, name: str, texts: int) -> Iterator[tuple[str, ...]]:
    """The texts of each line. Raises `UserError` with file:line for a line that is not what is expected."""
    for number, line in enumerate(file, start=1):
        try:
            fields = tuple(line.decode("utf-8").rstrip("\r\n").split("\t"))
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: invalid UTF-8 (byte 0x{line[error.start]:02x})") from error
        if len(fields) != texts:
            expected = "one text and no tab" if texts == 1 else f"{texts} texts with a tab between them"
            raise UserError(f"{name}:{number}: expected {expected}, found {len(fields)} fields")
        if not all(field.strip() for field in fields):
            raise UserError(f"{name}:{number}: the text is empty")
        yield fields
