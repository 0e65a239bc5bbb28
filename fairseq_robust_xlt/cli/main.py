"""`robust-xlt VERB ...`"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings

from fairseq_robust_xlt import __version__
from fairseq_robust_xlt.errors import UserError

VERBS = ("benchmark", "check", "cost", "doctor", "encoder", "predict", "report")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 1 after a user's mistake (one message on stderr), 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="robust-xlt", description="Robust zero-shot cross-lingual transfer.")
    parser.add_argument("--version", action="version", version=f"fairseq_robust_xlt {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    given = (sys.argv[1:] if arguments is None else arguments)[:1]
    # Only the verb that is asked for is imported: torch, which not every verb needs, takes seconds.
    for verb in given if set(given) & set(VERBS) else VERBS:
        importlib.import_module(f"fairseq_robust_xlt.cli.{verb}").add_parser(verbs)
    args = parser.parse_args(arguments)
    # fairseq's Hydra warns of itself at every start.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"(hydra|torch\.utils\.data|fairseq_robust_xlt\.host\.loading)"
    )
    try:
        return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has enough; keep Python from complaining when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
