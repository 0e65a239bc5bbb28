"""Run by test_distributed.py in one or two processes: every method for a few updates with fairseq's real trainer.

Arguments: a folder for the results and runs, the data, the encoder directory, the synonyms, a teacher, methods with
commas between (all: every one), more flags.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from conftest import Training, configuration, train_arguments

from fairseq_robust_xlt import recipes

UPDATES = 3
ALWAYS = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0", "--optimizer", "sgd", "--lr", "0.3")


def main(out: Path, data: Path, encoder: Path, synonyms: str, teacher: str, methods: str, *more: str) -> None:
    from fairseq.distributed import utils as distributed_utils

    from fairseq_robust_xlt import host

    rank, found = os.environ.get("RANK", "0"), {}
    for method in recipes.names() if methods == "all" else methods.split(","):
        name = method.split(":")[0]
        flags = ["--method", method, "--batch-size", "8", *ALWAYS, *more]
        flags += ["--synonyms", synonyms] if recipes.resolve(method).noise else []
        flags += ["--teacher", teacher] if name == "xtune-stage2" else []
        flags += ["--attention-layer", "2"] if name == "ear" else []
        flags += ["--bregman-weight", "1"] if name == "smart" else []
        arguments = train_arguments(data, encoder, out / f"{method}{rank}", *flags, task="sib200")
        cfg = configuration(*arguments)
        host.check_launch(cfg)
        if cfg.distributed_training.distributed_world_size > 1 and not torch.distributed.is_initialized():
            cfg.distributed_training.distributed_rank = distributed_utils.distributed_init(cfg)
        run = Training(*arguments)
        run.train(UPDATES)
        found[method] = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    torch.save(found, out / f"rank{rank}.pt")


if __name__ == "__main__":
    out, data, encoder, *more = sys.argv[1:]
    main(Path(out), Path(data), Path(encoder), *more)
