"""Robust training for zero-shot cross-lingual transfer, as a fairseq plug-in (`--user-dir fairseq_robust_xlt`)."""

from __future__ import annotations

import logging
import sys

__version__ = "0.1.0"


def register() -> None:
    """Prepare the host and register tasks, criteria and models with fairseq. Raises `UserError` without a fairseq.

    fairseq imports this package for `--user-dir`, and then it has happened already. A program of one's own calls this
    before it uses fairseq; the package's own rooms call it where they need the host.
    """
    root = logging.getLogger()
    level, handlers, asked = root.level, list(root.handlers), "fairseq" in sys.modules
    if not asked:
        logging.disable(logging.INFO)  # importing fairseq turns on debug logging and talks of what it has not
    try:
        from fairseq_robust_xlt import host

        host.prepare()
        from fairseq_robust_xlt import criterions, models, tasks  # noqa: F401
    finally:
        if not asked:
            logging.disable(logging.NOTSET)
            root.setLevel(level)
            root.handlers[:] = handlers


if "fairseq" in sys.modules:
    register()
