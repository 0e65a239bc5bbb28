"""Robust training for zero-shot cross-lingual transfer, as a fairseq plug-in (`--user-dir fairseq_robust_xlt`)."""

from __future__ import annotations

import logging
import sys

__version__ = "0.1.0"

#: Why fairseq could not be prepared, for `robust-xlt doctor`; None if it could, or if there is no fairseq.
host_failure: Exception | None = None


def register() -> None:
    """Prepare the host and register tasks, criteria and models with fairseq. Raises `UserError` without a fairseq."""
    from fairseq_robust_xlt import host

    host.prepare()
    from fairseq_robust_xlt import criterions, models, tasks  # noqa: F401


def _register_if_there_is_a_host() -> None:
    global host_failure
    from fairseq_robust_xlt import host

    if not host.installed():
        return  # the rooms that need no host work all the same
    fairseq_asked = "fairseq" in sys.modules
    if not fairseq_asked:
        logging.disable(logging.INFO)  # importing fairseq turns on debug logging and talks of what it has not
    try:
        register()
    except Exception as error:
        # Under --user-dir a failure must stop the run; elsewhere `robust-xlt doctor` has to be able to tell of it.
        if fairseq_asked:
            raise
        host_failure = error
    finally:
        logging.disable(logging.NOTSET)


_register_if_there_is_a_host()
