"""`robust-xlt predict --path CHECKPOINT [FILE]`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader

from fairseq_robust_xlt import inference
from fairseq_robust_xlt.errors import UserError

_BLOCK = 1 << 17  # bytes; about a thousand lines of text


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
    standard = args.file == "-"
    name = "standard input" if standard else args.file
    try:
        source = open(sys.stdin.fileno() if standard else args.file, "rb", closefd=not standard)  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    with source as file:
        classifier = inference.open(args.path, cpu=args.cpu)
        first = 1
        for lines in blocks(file):
            for result in classifier.predict(inputs(lines, first, name, classifier.texts), args.batch_size):
                shares = " ".join(f"{label}={p:.4f}" for label, p in result.probabilities.items())
                print(f"{result.label}\t{shares}")
            sys.stdout.flush()
            first += len(lines)
    return 0


def blocks(file: BufferedReader) -> Iterator[list[bytes]]:
    """The lines, as many at a time as are there: those of a pipe are answered while it is still open."""
    rest = b""
    while block := file.read1(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def inputs(lines: Iterable[bytes], first: int, name: str, texts: int) -> Iterator[tuple[str, ...]]:
    """The texts of each line. Raises `UserError` with file:line for a line that is not what is expected.

    first: the number of the first of these lines in the file
    """
    for number, line in enumerate(lines, start=first):
        try:
            fields = tuple(line.decode("utf-8").removesuffix("\r").split("\t"))
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: invalid UTF-8 (byte 0x{line[error.start]:02x})") from error
        if len(fields) != texts:
            expected = "one text and no tab" if texts == 1 else f"{texts} texts with a tab between them"
            raise UserError(f"{name}:{number}: expected {expected}, found {len(fields)} fields")
        if not all(field.strip() for field in fields):
            raise UserError(f"{name}:{number}: the text is empty")
        yield fields
