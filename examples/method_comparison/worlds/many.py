"""Run many fairseq commands in one process, each by fairseq's own entry point: a start costs more than a small run.

Usage: many.py [--keep] FILE

A line of FILE is

    FOLDER fairseq-train|fairseq-validate|fairseq-preprocess ARGUMENTS [&& the next command of the same run ...]

and leaves FOLDER/log and, at its end, FOLDER/done with the line. A line that FOLDER/done holds already is skipped, so
the same file goes on where it was stopped. A run that fails is reported and the next one starts; the exit status is
then 1. With --keep a run's checkpoints stay, otherwise they are deleted at its end.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import sys
import time
import traceback
from pathlib import Path

import fairseq_robust_xlt
from fairseq_robust_xlt import host
from fairseq_robust_xlt.files import atomic_write

fairseq_robust_xlt.register()

from fairseq import checkpoint_utils, options  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.distributed import utils as distributed_utils  # noqa: E402
from fairseq.logging import metrics  # noqa: E402
from fairseq.utils import reset_logging  # noqa: E402
from fairseq_cli import preprocess, train, validate  # noqa: E402


def fairseq_train(arguments: list[str]) -> None:
    args = options.parse_args_and_arch(options.get_training_parser(), arguments)
    # fairseq keeps the best score in a function's attribute: a second run would go on from the first one's.
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    metrics.reset()
    distributed_utils.call_main(convert_namespace_to_omegaconf(args), train.main)


def fairseq_validate(arguments: list[str]) -> None:
    args, explicit = (
        options.parse_args_and_arch(options.get_validation_parser(), arguments, suppress_defaults=only_explicit)
        for only_explicit in (False, True)
    )
    metrics.reset()
    distributed_utils.call_main(convert_namespace_to_omegaconf(args), validate.main, override_args=explicit)


def fairseq_preprocess(arguments: list[str]) -> None:
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))


COMMANDS = {
    "fairseq-train": fairseq_train,
    "fairseq-validate": fairseq_validate,
    "fairseq-preprocess": fairseq_preprocess,
}


def run(line: str, keep: bool = False) -> bool:
    """Run one line unless it is done; returns whether it succeeded."""
    name, commands = line.split(maxsplit=1)
    folder = Path(name)
    done = folder / "done"
    if done.is_file() and done.read_text(encoding="utf-8") == line:
        return True
    if folder.exists():
        if not (folder / "log").is_file():
            print(f"error: {folder}: exists and is no run's folder; not touched", file=sys.stderr)
            return False
        shutil.rmtree(folder)  # of a run that was stopped, or was another one
    folder.mkdir(parents=True)
    started = time.monotonic()
    with open(folder / "log", "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        reset_logging()  # to the standard output as it is now
        try:
            for command in commands.split(" && "):
                program, *arguments = shlex.split(command)
                COMMANDS[program](arguments)
        except (Exception, SystemExit) as error:  # fairseq's parsers exit at a bad flag
            traceback.print_exc(file=log)
            print(f"error: {folder}: {host.user_error(error) or repr(error)}; all of it is in its log", file=sys.stderr)
            return False
        finally:
            logging.getLogger().handlers.clear()
    if not keep:
        for file in (*folder.glob("*.pt"), folder / "dict.txt", folder / "sentencepiece.bpe.model"):
            file.unlink(missing_ok=True)
    with atomic_write(done) as file:
        file.write(line)
    print(f"{folder} ({time.monotonic() - started:.0f} s)", flush=True)
    return True


def main(*arguments: str) -> int:
    *keep, source = arguments
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    results = [run(line, keep == ["--keep"]) for line in lines if line.strip()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
