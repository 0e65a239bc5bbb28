"""Checkpoints: loaded without running code, used as asked, and whole or absent on disk."""

from __future__ import annotations

import argparse
import collections
import functools
import logging
import os
import pickle
import re
import shutil
import typing
from pathlib import Path

from fairseq_robust_xlt.errors import UserError

logger = logging.getLogger(__name__)

#: fairseq's meters, which checkpoints from before 0.10 hold under the module `fairseq.meters`.
METERS = ("AverageMeter", "TimeMeter", "StopwatchMeter")


def checkpoint_classes() -> list[typing.Any]:
    """What fairseq checkpoints hold beyond tensors and plain containers.

    `argparse.Namespace` is in every checkpoint of `fairseq-train` and in the published XLM-R files, meters and NumPy
    scalars in some older ones, and omegaconf's nodes in what rank 0 broadcasts when a distributed run resumes.
    """
    import numpy as np
    from fairseq import meters
    from fairseq.distributed.utils import _TensorPlaceholder
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.nodes import AnyNode

    settings = [argparse.Namespace, DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, typing.Any]
    containers = [collections.defaultdict, dict, list, int, _TensorPlaceholder]
    numbers = [np.dtype, np.ndarray, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64))]
    # NumPy 1 and 2 write other module names for the same two functions, and so did early fairseq for its meters.
    core = getattr(np, "_core", None) or np.core
    renamed = [
        allowed_as(getattr(core.multiarray, name), f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ]
    renamed += [allowed_as(getattr(meters, name), f"fairseq.meters.{name}") for name in METERS]
    return [*settings, *containers, *numbers, *renamed]


def allowed_as(original: typing.Any, path: str) -> typing.Any:
    """The entry of torch's allow-list by which checkpoints get `original`, a class or function, for the name `path`.

    That is a pair from torch 2.6 on. Before, torch takes a pair and then fails at every load: there it is a class or
    function that does as `original` and has that name.
    """
    if torch_version() >= (2, 6):
        return original, path
    module, _, name = path.rpartition(".")
    if isinstance(original, type):
        return type(name, (original,), {"__module__": module})

    def alias(*arguments):
        return original(*arguments)

    alias.__module__, alias.__name__ = module, name
    return alias


def protected() -> str | None:
    """None if every torch.load is protected; otherwise the reason why it is not."""
    import torch

    if torch_version() < (2, 4):
        return f"torch {torch.__version__} cannot load with an allow-list: open only checkpoints that you trust"
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() in ("1", "y", "yes", "true"):
        return "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, so a checkpoint can run code when it is loaded; unset it"
    return None


def torch_version() -> tuple[int, int]:
    import torch

    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def allow_checkpoint_classes() -> None:
    import torch

    if protected() is not None:
        return
    # torch reads this at every load, also for loads that ask for weights_only=False.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals(checkpoint_classes())


def load_error(path: object, error: Exception) -> UserError:
    """What went wrong when `path` was loaded with torch, as one message."""
    text = str(error)
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return UserError(f"{path}: there is no such checkpoint file")
    if isinstance(error, OSError):
        return UserError(f"cannot read {path}: {error.strerror or error}")
    wanted = re.search(r"(?:GLOBAL |class '?|function )([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return UserError(
            f"{path}: refused, because loading it would run or build {wanted[1]!r}, which no fairseq checkpoint needs; "
            "nothing in it was run"
        )
    # torch's own text on a pickle advises to switch the protection off.
    said = "" if isinstance(error, pickle.UnpicklingError) else f": {text}"
    what = f"{type(error).__name__}{said}".partition("\n")[0]
    return UserError(f"{path}: not a whole checkpoint (truncated, or another kind of file): {what}")


def report_load_errors() -> None:
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return load(path, *args, **kwargs)
        except Exception as error:  # bytes that are no checkpoint end in an exception of almost any kind
            raise load_error(path, error) from error

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def load_own(path: str, overrides: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """A checkpoint's content; `UserError` if it was not trained by a task of this package, such as an encoder itself.

    fairseq would build the task that the checkpoint names first, and stop wherever that task misses something.
    """
    from fairseq import checkpoint_utils

    state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
    if "run_record" not in (state.get("task_state") or {}):
        raise UserError(
            f"{path}: was not trained by a task of fairseq_robust_xlt (it has no run record); train on it first, with "
            f"--finetune-from-model {path}"
        )
    return state


def honour_explicit_task() -> None:
    """fairseq takes the task from the checkpoint and drops an explicit `--task`: read it as the benchmark meant."""
    from fairseq import checkpoint_utils
    from fairseq.tasks import TASK_REGISTRY

    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load)
    def load_model_ensemble_and_task(filenames, arg_overrides=None, *args, **kwargs):
        asked = (arg_overrides or {}).get("task")
        preset = getattr(TASK_REGISTRY.get(asked), "preset", None) if isinstance(asked, str) else None
        benchmark = (arg_overrides or {}).get("benchmark") or preset
        if benchmark:
            arg_overrides = {**arg_overrides, "benchmark": benchmark}
        if hasattr(TASK_REGISTRY.get(asked), "preset") and not kwargs.get("suffix"):
            kwargs["state"] = load_own(filenames[0], arg_overrides)
        models, cfg, task = load(filenames, arg_overrides, *args, **kwargs)
        saved = cfg.task._name if cfg is not None and cfg.task is not None else None
        ours = all(hasattr(kind, "preset") for kind in (TASK_REGISTRY.get(asked), type(task)))
        if isinstance(asked, str) and asked != saved and not (ours and benchmark):
            raise UserError(
                f"--task {asked}: {filenames[0]} was trained with the task {saved}, and fairseq would score it as "
                f"{saved} without a word; leave --task out, or train with --task {asked}"
            )
        return models, cfg, task

    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task


def tell_tasks_of_checkpoints() -> None:
    """fairseq 0.12.2 makes the task of a checkpoint as if to train it: say `from_checkpoint`, as later versions do."""
    from fairseq import checkpoint_utils, tasks

    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load)
    def load_model_ensemble_and_task(*args, **kwargs):
        setup = tasks.setup_task
        tasks.setup_task = functools.partial(setup, from_checkpoint=True)
        try:
            return load(*args, **kwargs)
        finally:
            tasks.setup_task = setup

    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task


def keep_task_state() -> None:
    """fairseq 0.12.2 does not know a task's `get_checkpoint_dict` and `set_checkpoint_dict`: call them as others do."""
    from fairseq import checkpoint_utils
    from fairseq.trainer import Trainer

    if "get_checkpoint_dict" in checkpoint_utils.save_checkpoint.__code__.co_names:
        return
    save, load = Trainer.save_checkpoint, Trainer.load_checkpoint

    @functools.wraps(save)
    def save_checkpoint(self, filename, extra_state):
        state = self.task.get_checkpoint_dict() if hasattr(self.task, "get_checkpoint_dict") else {}
        return save(self, filename, {**extra_state, **state})

    @functools.wraps(load)
    def load_checkpoint(self, filename, reset_optimizer=False, *args, **kwargs):
        extra_state = load(self, filename, reset_optimizer, *args, **kwargs)
        state = (extra_state or {}).get(type(self.task).__name__)
        # A run that starts anew from the checkpoint, with an optimiser of its own, has no earlier state either.
        if state and not reset_optimizer and hasattr(self.task, "set_checkpoint_dict"):
            self.task.set_checkpoint_dict(state)
        return extra_state

    Trainer.save_checkpoint, Trainer.load_checkpoint = save_checkpoint, load_checkpoint


def copy_checkpoints_whole() -> None:
    """`checkpoint_last.pt` and `checkpoint_best.pt` are copies: a kill in the middle must not leave half of one.

    Where the file system has hard links, the copy is one: fairseq replaces checkpoint files and never writes into
    one, so a second full copy would only cost time and disk.
    """
    from fairseq.file_io import PathManager

    copy = PathManager.copy

    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(src_path) or PathManager.path_requires_pathmanager(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        # Not `.tmp`: fairseq writes into a file of that name, which a kill could leave linked to another checkpoint.
        temporary = f"{dst_path}.copy"
        Path(temporary).unlink(missing_ok=True)
        try:
            os.link(src_path, temporary)
        except OSError:
            shutil.copyfile(src_path, temporary)
        os.replace(temporary, dst_path)
        return True

    PathManager.copy = staticmethod(copy_whole)
