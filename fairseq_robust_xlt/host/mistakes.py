"""A user's mistake is one message, wherever fairseq or Hydra carry it."""

from __future__ import annotations

import os
import sys

from fairseq_robust_xlt.errors import UserError

_NO_BATCH_SIZE = "Must specify batch size"


def user_error(error: BaseException | None) -> UserError | None:
    """The `UserError` behind `error`: fairseq wraps some exceptions into its own, and asserts what it needs."""
    spawned = f"{UserError.__module__}.{UserError.__qualname__}: "
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        if isinstance(error, AssertionError) and _NO_BATCH_SIZE in str(error):
            return UserError(
                "no batch size is given: say --batch-size N (examples) or --max-tokens N (tokens, padding included); "
                "in a Hydra configuration dataset.batch_size or dataset.max_tokens"
            )
        if type(error).__name__ == "ProcessRaisedException" and spawned in str(error):
            # From a process that torch has spawned for a GPU comes the text of a trace alone.
            return UserError(str(error).rpartition(spawned)[2].strip())
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def one_message_per_mistake() -> None:
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
    """Hydra keeps what a job raised, and prints a trace of it when the job's return value is asked for."""
    from hydra.core.utils import JobReturn

    stock = JobReturn.return_value
    if not isinstance(stock, property):
        os.environ["HYDRA_FULL_ERROR"] = "1"  # before 1.1: leave what a job raises to Python, so to the hook above
        return

    def return_value(self):
        mistake = user_error(self._return_value) if isinstance(self._return_value, Exception) else None
        if mistake is None:
            return stock.fget(self)
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(1)

    JobReturn.return_value = property(return_value, stock.fset)
