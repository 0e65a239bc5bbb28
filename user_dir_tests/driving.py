"""Ways to run fairseq: as commands, in this process, update by update."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "fairseq_robust_xlt"


def train_arguments(data: Path, encoder: Path, save_dir: Path, *more: str, task: str = "xnli") -> list[str]:
    """The arguments of a small fairseq-train run on the CPU; `more` come last and win."""
    return [
        str(data),
        *("--user-dir", str(PACKAGE), "--task", task, "--encoder", str(encoder)),
        *("--arch", "xlmr_nano", "--finetune-from-model", str(encoder / "model.pt")),
        *("--criterion", "robust_classification", "--optimizer", "adam", "--lr", "1e-3", "--batch-size", "16"),
        *("--max-epoch", "1", "--save-dir", str(save_dir), "--no-epoch-checkpoints", "--cpu"),
        *("--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"),
        *("--log-format", "json", "--log-interval", "1", "--num-workers", "0"),
        *more,
    ]


def run_command(name: str, *arguments: str, cwd: Path | None = None, timeout: float = 300, **environment: str):
    """Run one of fairseq's or our commands as a user would; returns the completed process (text output)."""
    program = Path(sys.executable).parent / name
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def json_lines(output: str, tag: str) -> list[dict]:
    """The log lines of --log-format json with this tag (train_inner, train, valid, ...)."""
    marker = f"| INFO | {tag} | "
    return [json.loads(line.split(marker, 1)[1]) for line in output.splitlines() if marker in line]


def configuration(*arguments: str):
    """fairseq's whole configuration from the arguments of fairseq-train."""
    import fairseq_robust_xlt

    fairseq_robust_xlt.register()
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    args = options.parse_args_and_arch(options.get_training_parser(), input_args=list(map(str, arguments)))
    return convert_namespace_to_omegaconf(args)


def train_in_process(*arguments: str) -> None:
    """The real fairseq trainer in this process, launched as fairseq-train does."""
    cfg = configuration(*arguments)
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils as distributed_utils
    from fairseq_cli import train

    # fairseq keeps the best score in a function's attribute: a second run would go on from the first one's.
    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best
    distributed_utils.call_main(cfg, train.main)


def validate_in_process(*arguments: str) -> None:
    """The real fairseq-validate in this process."""
    import fairseq_robust_xlt

    fairseq_robust_xlt.register()
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.distributed import utils as distributed_utils
    from fairseq_cli import validate

    given = list(map(str, arguments))
    args, explicit = (
        options.parse_args_and_arch(options.get_validation_parser(), given, suppress_defaults=only_explicit)
        for only_explicit in (False, True)
    )
    distributed_utils.call_main(convert_namespace_to_omegaconf(args), validate.main, override_args=explicit)


def score_arguments(data: Path, checkpoint: Path, *more: str, task: str = "xnli") -> list[str]:
    """The arguments of fairseq-validate on the CPU; `more` come last and win."""
    return [
        str(data),
        *("--user-dir", str(PACKAGE), "--task", task, "--path", str(checkpoint), "--cpu"),
        *("--valid-subset", "test", "--batch-size", "64", "--num-workers", "0", "--log-format", "json"),
        *more,
    ]


def mistake(call: Callable, *arguments) -> str:
    """The message of the `UserError` that `call(*arguments)` ends with: what a command prints after `error:`."""
    import fairseq_robust_xlt

    fairseq_robust_xlt.register()
    from fairseq_robust_xlt import host

    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        call(*arguments)
    error = host.user_error(caught.value)
    assert error is not None, f"not a user's mistake: {caught.value!r}"
    return str(error)


def one_message(done: subprocess.CompletedProcess) -> str:
    """The message of a command that failed as it should: exit status 1, one `error:` line, no stack trace."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1, done.stderr[-2000:]
    assert len(lines) == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr + done.stdout
    return lines[0].removeprefix("error: ")


class Training:
    """fairseq's real trainer in this process, taken update by update: what `fairseq_cli.train.main` sets up."""

    def __init__(self, *arguments: str):
        import numpy as np

        cfg = configuration(*arguments)
        from fairseq import checkpoint_utils, tasks, utils
        from fairseq.logging import metrics
        from fairseq.trainer import Trainer

        from fairseq_robust_xlt import host

        host.check_launch(cfg)
        metrics.reset()
        np.random.seed(cfg.common.seed)
        utils.set_torch_seed(cfg.common.seed)
        self.cfg = cfg
        self.task = tasks.setup_task(cfg.task)
        self.model = self.task.build_model(cfg.model)
        self.criterion = self.task.build_criterion(cfg.criterion)
        self.trainer = Trainer(cfg, self.task, self.model, self.criterion, None)
        _, self.iterator = checkpoint_utils.load_checkpoint(cfg.checkpoint, self.trainer)

    def save(self) -> Path:
        """Save as at the end of an epoch without validation; returns the path of checkpoint_last.pt."""
        from fairseq import checkpoint_utils

        checkpoint_utils.save_checkpoint(self.cfg.checkpoint, self.trainer, self.iterator, None)
        return Path(self.cfg.checkpoint.save_dir) / "checkpoint_last.pt"

    def groups(self):
        """The groups of batches of the next epoch, one group an update."""
        from fairseq.data import iterators

        epoch = self.iterator.next_epoch_itr(shuffle=True)
        self.trainer.begin_epoch(self.iterator.epoch)
        return iterators.GroupedIterator(epoch, self.cfg.optimization.update_freq[0])

    def train(self, updates: int) -> list[dict]:
        """Make this many updates; returns what each has logged."""
        from fairseq.logging import metrics

        logs = []
        while len(logs) < updates:
            for samples in self.groups():
                with metrics.aggregate("train_inner"):
                    log = self.trainer.train_step(samples)
                if log is not None:
                    logs.append(dict(log))
                if len(logs) == updates:
                    break
        return logs


@contextlib.contextmanager
def logged() -> Iterator[list[logging.LogRecord]]:
    """Every log record of level INFO or above of the block (for fixtures, which have no caplog)."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield records
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def load_checkpoint(path: Path) -> dict:
    """A checkpoint as fairseq reads it."""
    import fairseq_robust_xlt

    fairseq_robust_xlt.register()
    from fairseq import checkpoint_utils

    return checkpoint_utils.load_checkpoint_to_cpu(str(path))
