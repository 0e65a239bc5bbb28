"""Everything that differs between versions of fairseq, torch and omegaconf, in one room.

`prepare()` makes the fairseq that is installed safe and honest for the plug-in: checkpoints load with torch's
`weights_only` protection and an allow-list, copies of checkpoints are whole or absent, launches that would train
nothing work or say how to launch, `--bf16` means bf16, and a user's mistake is one message without a stack trace.
"""

from __future__ import annotations

import importlib.util
import sys

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.host.launching import (
    check_launch,
    ddp_on_cpu,
    end_loaders_at_exit,
    end_process_group,
    end_workers_with_their_epoch,
    gather_on_any_device,
    launch_or_say_how,
    leave_out_empty_batches,
)
from fairseq_robust_xlt.host.layers import is_layer_copy, without_layer_copies
from fairseq_robust_xlt.host.loading import (
    METERS,
    allow_checkpoint_classes,
    allowed_as,
    checkpoint_classes,
    copy_checkpoints_whole,
    honour_explicit_task,
    keep_task_state,
    load_error,
    load_own,
    protected,
    report_load_errors,
    tell_tasks_of_checkpoints,
)
from fairseq_robust_xlt.host.mistakes import one_message_per_mistake, user_error

__all__ = [
    "INSTALL",
    "METERS",
    "PACKAGES",
    "allowed_as",
    "check_launch",
    "checkpoint_classes",
    "end_process_group",
    "installed",
    "is_layer_copy",
    "load_error",
    "load_own",
    "prepare",
    "protected",
    "require",
    "user_error",
    "without_layer_copies",
]

#: The packages that hold the module `fairseq`.
PACKAGES = ("fairseq-fixed", "fairseq", "ve-fairseq")
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
    allow_checkpoint_classes()
    report_load_errors()
    tell_tasks_of_checkpoints()
    honour_explicit_task()
    keep_task_state()
    copy_checkpoints_whole()
    launch_or_say_how()
    ddp_on_cpu()
    gather_on_any_device()
    leave_out_empty_batches()
    end_workers_with_their_epoch()
    end_loaders_at_exit()
    one_message_per_mistake()
    _prepared = True
