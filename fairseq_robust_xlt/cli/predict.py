"""`robust-xlt predict --path CHECKPOINT [FILE]`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import Any

from fairseq_robust_xlt import inference
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.inference import Input, wording

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
        "file",
        nargs="?",
        default="-",
        help='texts, one a line (a tab between those of a pair; a choice as JSON: {"stem": "...", "options": ["...", '
        '"..."]}, with a "template" where the table has some); default: stdin',
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
            for result in classifier.predict(inputs(lines, first, name, classifier.benchmark), args.batch_size):
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


def inputs(lines: Iterable[bytes], first: int, name: str, benchmark: Benchmark) -> Iterator[Input]:
    """The input that each line holds. Raises `UserError` with file:line for a line that is not what is expected.

    first: the number of the first of these lines in the file
    """
    for number, line in enumerate(lines, start=first):
        where = f"{name}:{number}"
        try:
            text = line.decode("utf-8").removesuffix("\r").removeprefix("\ufeff" if number == 1 else "")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: invalid UTF-8 (byte 0x{line[error.start]:02x})") from error
        if benchmark.kind == "choice":
            yield choice(text, where, benchmark)
        else:
            yield texts(text, where, 2 if benchmark.kind == "pair" else 1)


def texts(line: str, where: str, expected: int) -> tuple[str, ...]:
    """A text, or the two of a pair."""
    fields = tuple(line.split("\t"))
    if len(fields) != expected:
        wanted = "one text and no tab" if expected == 1 else f"{expected} texts with a tab between them"
        raise UserError(f"{where}: expected {wanted}, found {len(fields)} fields")
    if not all(field.strip() for field in fields):
        raise UserError(f"{where}: the text is empty")
    return fields


def choice(line: str, where: str, benchmark: Benchmark) -> dict[str, Any]:
    """The stem and its template, if there are any, and the options of a choice; other fields do not matter."""
    expected = f'{where}: expected {{"stem": "a text", "options": ["two", "or more texts"]}}'
    try:
        given = json.loads(line)
        json.dumps(given, ensure_ascii=False).encode()  # half of a character is no text
    except (ValueError, RecursionError) as error:
        raise UserError(f"{expected}; not valid JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("options"), list) or len(given["options"]) < 2:
        raise UserError(f"{expected}, found {line[:80]!r}")
    stem = given.get("stem")
    if not all(isinstance(text, str) and text.strip() for text in given["options"]):
        raise UserError(f"{expected}; one of the options is empty or no text: {line[:80]!r}")
    if not (stem is None or isinstance(stem, str)):
        raise UserError(f"{expected}; the stem is no text: {line[:80]!r}")
    wording.stem(given, benchmark, where)  # for its errors, which here have a line
    return given
