"""Processes: launches that fairseq gets wrong on the CPU, `--bf16`, and data workers and threads that do not end."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import inspect
import os
import queue
import threading
from typing import Any

from fairseq_robust_xlt.errors import UserError

#: Seconds that a process waits at its exit for each thread that still loads data.
PATIENCE = 30.0

TORCHRUN = "torchrun --nproc_per_node N --no-python fairseq-train ... --cpu"


def launch_or_say_how() -> None:
    from fairseq.distributed import utils as distributed_utils

    call_main = distributed_utils.call_main

    @functools.wraps(call_main)
    def checked_call_main(cfg, main, **kwargs):
        import torch

        check_launch(cfg)
        theirs = torch.distributed.is_available() and torch.distributed.is_initialized()
        result = call_main(cfg, main, **kwargs)
        if not theirs:
            end_process_group()
        return result

    distributed_utils.call_main = checked_call_main


def end_process_group() -> None:
    """Join the threads of the process group that fairseq works with and leaves running: one that still holds a tensor
    as the interpreter ends aborts the process (exit status 134) after everything is done. Not after a failure: they
    may wait for a process that is gone, and what failed should be seen at once."""
    import torch
    from fairseq.distributed import utils as distributed_utils

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        vars(distributed_utils.get_global_group).pop("_global_group", None)  # its threads end with the last reference


def check_launch(cfg) -> None:
    """Mend what fairseq's launcher gets wrong, in place; raise `UserError` for a launch that would train nothing."""
    import torch

    common, launch = cfg.common, cfg.distributed_training
    if common.bf16 and common.tpu and importlib.util.find_spec("torch_xla") is None:
        # fairseq reads --bf16 as "on a TPU", and copies that to where processes and optimiser are made.
        for part in (common, launch, cfg.optimizer):
            if getattr(part, "tpu", False):
                part.tpu = False
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


def ddp_on_cpu() -> None:
    """torch's DistributedDataParallel refuses device ids for parameters on the CPU, and fairseq always gives them."""
    from fairseq.models import distributed_fairseq_model as wrapper

    stock = wrapper.DistributedDataParallel

    class DistributedDataParallel(stock):  # type: ignore[misc, valid-type]
        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            if all(p.device.type == "cpu" for p in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **kwargs)

    wrapper.DistributedDataParallel = DistributedDataParallel


def gather_on_any_device() -> None:
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


def leave_out_empty_batches() -> None:
    """With --update-freq above 1 fairseq counts nothing of an update whose last batch is missing in a process, though
    it has trained on those before it: at the end of an epoch the gradient is too large then."""
    from fairseq.trainer import Trainer

    stock = Trainer.train_step

    @functools.wraps(stock)
    def train_step(self, samples, *args, **kwargs):
        # Full sharding talks in every batch, so that all processes need as many; elsewhere it is once an update.
        there = samples if self.is_fsdp else [sample for sample in samples if sample]
        return stock(self, there or samples, *args, **kwargs)

    Trainer.train_step = train_step


def end_workers_with_their_epoch() -> None:
    """fairseq 0.12.2 keeps the data workers of every epoch, also where the task makes new ones for each.

    Later versions ask the task's `persistent_workers`.
    """
    import torch
    from fairseq.data.iterators import EpochBatchIterator

    if "persistent_workers" in inspect.signature(EpochBatchIterator).parameters:
        return
    stock = EpochBatchIterator._get_iterator_for_epoch

    def iterator_for_epoch(self, *args, **kwargs):
        if self.reuse_dataloader:
            return stock(self, *args, **kwargs)
        data: Any = torch.utils.data
        loader = data.DataLoader
        data.DataLoader = lambda *args, **kw: loader(*args, **{**kw, "persistent_workers": False})
        try:
            return stock(self, *args, **kwargs)
        finally:
            data.DataLoader = loader

    EpochBatchIterator._get_iterator_for_epoch = iterator_for_epoch


def end_loaders_at_exit() -> None:
    """A thread of fairseq that still loads data as the interpreter ends aborts the process (exit status 134) after a
    training that has done everything: `--max-update` in the middle of an epoch, or a busy machine."""
    atexit.register(_end_loaders)


def _end_loaders() -> None:
    from fairseq.data.iterators import BackgroundConsumer

    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread._max_len = 0  # it stops behind the item that it has at hand, once there is room for it
            with contextlib.suppress(queue.Empty):
                while True:
                    thread._queue.get_nowait()
            thread.join(PATIENCE)
