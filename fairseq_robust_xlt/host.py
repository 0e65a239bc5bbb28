"""Everything that differs between versions of fairseq, torch and omegaconf, in one room.

`prepare()` makes the fairseq that is installed safe and honest for the plug-in: checkpoints load with torch's
`weights_only` protection and an allow-list, copies of checkpoints are whole or absent, launches that would train
nothing work or say how to launch, `--bf16` means bf16, and a user's mistake is one message without a stack trace.
"""

from __future__ import annotations

import argparse
import collections
import functools
import importlib.util
import logging
import os
import pickle
import re
import shutil
import sys
import typing
from pathlib import Path

from fairseq_robust_xlt.errors import UserError

logger = logging.getLogger(__name__)

INSTALL = "pip install 'fairseq-robust-xlt[fairseq]'"
_prepared = False


def installed() -> bool:
    """Whether there is a fairseq to work with (it may still fail to import: `robust-xlt doctor` says why)."""
    return importlib.util.find_spec("fairseq") is not None


def require() -> None:
    """Raise `UserError` with the command that installs a host, where there is none."""
    if not installed():
        raise UserError(f"fairseq is not installed in {sys.prefix}; install a host with: {INSTALL}")


def prepare() -> None:
    """Prepare the installed fairseq once. Raises `UserError` where there is none."""
    global _prepared
    require()
    if _prepared:
        return
    _allow_checkpoint_classes()
    _report_load_errors()
    _honour_explicit_task()
    _copy_checkpoints_whole()
    _launch_or_say_how()
    _ddp_on_cpu()
    _gather_on_any_device()
    _one_message_per_mistake()
    _prepared = True


# ---- loading -------------------------------------------------------------------------------------------------------


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
        (getattr(core.multiarray, name), f"{module}.{name}")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar", "_reconstruct")
    ]
    renamed += [
        (getattr(meters, name), f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")
    ]
    return [*settings, *containers, *numbers, *renamed]


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


def _allow_checkpoint_classes() -> None:
    import torch

    if protected() is not None:
        return
    # torch reads this at every load, also for loads that ask for weights_only=False.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    # Before 2.6 a (class, name) pair is accepted and then breaks every load.
    classes = checkpoint_classes()
    if torch_version() < (2, 6):
        classes = [c for c in classes if not isinstance(c, tuple)]
    torch.serialization.add_safe_globals(classes)


def load_error(path: object, error: Exception) -> UserError:
    """What went wrong when `path` was loaded with torch, as one message."""
    text = str(error)
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return UserError(f"{path}: there is no such checkpoint file")
    wanted = re.search(r"(?:GLOBAL |class '?|function )([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return UserError(
            f"{path}: refused, because loading it would run or build {wanted[1]!r}, which no fairseq checkpoint needs; "
            "nothing in it was run"
        )
    what = f"{type(error).__name__}: {text}".partition("\n")[0]
    return UserError(f"{path}: not a whole checkpoint (truncated, or another kind of file): {what}")


def _report_load_errors() -> None:
    from fairseq import checkpoint_utils

    load = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(load)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return load(path, *args, **kwargs)
        except Exception as error:  # bytes that are no checkpoint end in an exception of almost any kind
            raise load_error(path, error) from error

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _honour_explicit_task() -> None:
    """fairseq takes the task from the checkpoint and drops an explicit `--task`: read it as the benchmark meant."""
    from fairseq import checkpoint_utils
    from fairseq.tasks import TASK_REGISTRY

    load = checkpoint_utils.load_model_ensemble_and_task

    @functools.wraps(load)
    def load_model_ensemble_and_task(filenames, arg_overrides=None, *args, **kwargs):
        asked = (arg_overrides or {}).get("task")
        preset = getattr(TASK_REGISTRY.get(asked), "preset", None) if isinstance(asked, str) else None
        if preset and not arg_overrides.get("benchmark"):
            arg_overrides = {**arg_overrides, "benchmark": preset}
        models, cfg, task = load(filenames, arg_overrides, *args, **kwargs)
        saved = cfg.task._name if cfg is not None and cfg.task is not None else None
        if isinstance(asked, str) and asked != saved and not (preset and hasattr(type(task), "preset")):
            raise UserError(
                f"--task {asked}: {filenames[0]} was trained with the task {saved}, and fairseq would score it as "
                f"{saved} without a word; leave --task out, or train with --task {asked}"
            )
        return models, cfg, task

    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task


# ---- saving --------------------------------------------------------------------------------------------------------


def _copy_checkpoints_whole() -> None:
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


# ---- launching -----------------------------------------------------------------------------------------------------

TORCHRUN = "torchrun --nproc_per_node N --no-python fairseq-train ... --cpu"


def _launch_or_say_how() -> None:
    from fairseq.distributed import utils as distributed_utils

    call_main = distributed_utils.call_main

    @functools.wraps(call_main)
    def checked_call_main(cfg, main, **kwargs):
        check_launch(cfg)
        return call_main(cfg, main, **kwargs)

    distributed_utils.call_main = checked_call_main


def check_launch(cfg) -> None:
    """Mend what fairseq's launcher gets wrong, in place; raise `UserError` for a launch that would train nothing."""
    import torch

    common, launch = cfg.common, cfg.distributed_training
    if common.bf16 and common.tpu and importlib.util.find_spec("torch_xla") is None:
        common.tpu = False  # fairseq reads --bf16 as "on a TPU"
    if torch.cuda.device_count() > 0 and not common.cpu:
        return
    if launch.distributed_init_method is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # torchrun on CPU: fairseq would divide by the number of GPUs, or start runs that know nothing of each other.
        launch.distributed_init_method = "env://"
        launch.distributed_world_size = int(os.environ["WORLD_SIZE"])
        launch.distributed_rank = int(os.environ["RANK"])
        launch.distributed_backend = "gloo"
        launch.distributed_no_spawn = True
        launch.device_id = 0
    elif launch.distributed_world_size > 1 and not launch.distributed_no_spawn:
        raise UserError(
            f"--distributed-world-size {launch.distributed_world_size} on CPU: fairseq starts one process for each "
            f"GPU, so this would train nothing; start the processes with: {TORCHRUN}"
        )


def _ddp_on_cpu() -> None:
    """torch's DistributedDataParallel refuses device ids for parameters on the CPU, and fairseq always gives them."""
    from fairseq.models import distributed_fairseq_model as wrapper

    stock = wrapper.DistributedDataParallel

    class DistributedDataParallel(stock):  # type: ignore[misc, valid-type]
        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            if all(p.device.type == "cpu" for p in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **kwargs)

    wrapper.DistributedDataParallel = DistributedDataParallel


def _gather_on_any_device() -> None:
    """fairseq-validate in several processes gathers its logs through a CUDA buffer, and refuses more than 16 kB."""
    import torch
    from fairseq import utils
    from fairseq.distributed import utils as distributed_utils

    def all_gather_list(data, group=None, max_size=None):
        group = distributed_utils.get_global_group() if group is None else group
        parts = [None] * distributed_utils.get_world_size(group)
        torch.distributed.all_gather_object(parts, utils.move_to_cpu(data), group=group)
        return parts

    distributed_utils.all_gather_list = all_gather_list


# ---- errors --------------------------------------------------------------------------------------------------------


def user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` behind `error`: fairseq wraps some exceptions into its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _one_message_per_mistake() -> None:
    stock = sys.excepthook

    def excepthook(kind, error, trace):
        mistake = user_error(error)
        if mistake is None:
            stock(kind, error, trace)
        else:
            sys.stdout.flush()
            print(f"error: {mistake}", file=sys.stderr)

    sys.excepthook = excepthook
    _one_message_under_hydra()


def _one_message_under_hydra() -> None:
    """Hydra keeps what a job raised, and prints a trace of it when the job's return value is asked for (from 1.1)."""
    from hydra.core.utils import JobReturn

    stock = JobReturn.return_value
    if not isinstance(stock, property):
        return

    def return_value(self):
        mistake = user_error(self._return_value) if isinstance(self._return_value, Exception) else None
        if mistake is None:
            return stock.fget(self)
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(1)

    JobReturn.return_value = property(return_value, stock.fset)
