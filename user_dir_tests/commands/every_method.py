"""Run by test_distributed.py in one or two processes: every method for a few updates with fairseq's real trainer.

Arguments: a folder for the results and runs, the data, the encoder directory, the synonyms, a teacher, methods with
commas between (all: every one), more flags.
With --overflow the first process has an example in every batch that overflows wherever it is moved.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from driving import Training, configuration, train_arguments

from fairseq_robust_xlt import recipes

UPDATES = 3
ALWAYS = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0", "--optimizer", "sgd", "--lr", "0.3")


def main(out: Path, data: Path, encoder: Path, synonyms: str, teacher: str, methods: str, *more: str) -> None:
    from fairseq.distributed import utils as distributed_utils

    from fairseq_robust_xlt import host

    overflow, more = "--overflow" in more, tuple(flag for flag in more if flag != "--overflow")
    rank, found = os.environ.get("RANK", "0"), {}
    for method in recipes.names() if methods == "all" else methods.split(","):
        name = method.split(":")[0]
        flags = ["--method", method, "--batch-size", "8", *ALWAYS, *more]
        flags += ["--synonyms", synonyms] if recipes.resolve(method).noise else []
        flags += ["--teacher", teacher] if name == "xtune-stage2" else []
        flags += ["--attention-layer", "2"] if name == "ear" else []
        flags += ["--bregman-weight", "1"] if name == "smart" else []
        flags += ["--perturb-steps", "2"] if method in ("adv", "smart") else []  # one after the other
        arguments = train_arguments(data, encoder, out / f"{method}{rank}", *flags, task="sib200")
        cfg = configuration(*arguments)
        host.check_launch(cfg)
        if cfg.distributed_training.distributed_world_size > 1 and not torch.distributed.is_initialized():
            cfg.distributed_training.distributed_rank = distributed_utils.distributed_init(cfg)
        run = Training(*arguments)
        if overflow and rank == "0":
            overflow_where_moved(run.model.encoder.sentence_encoder)
        logs = run.train(UPDATES)
        assert not overflow or [log["non_finite"] for log in logs] == [1] * UPDATES, logs
        found[method] = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    torch.save(found, out / f"rank{rank}.pt")
    host.end_process_group()


def overflow_where_moved(encoder) -> None:
    """As fp16 would, for the first example of a batch: numbers that are too large wherever it is perturbed."""
    clean: list[torch.Tensor] = []

    def words(table, inputs) -> None:
        clean[:] = [torch.nn.functional.embedding(inputs[0], table.weight) + encoder.embed_positions(inputs[0])]

    def behind(_norm, inputs):
        (x,) = inputs
        if torch.equal(x[0].detach(), clean[0][0].detach()):
            return None
        return (torch.cat([x[:1] * torch.inf, x[1:]]),)

    encoder.embed_tokens.register_forward_pre_hook(words)
    encoder.layernorm_embedding.register_forward_pre_hook(behind)


if __name__ == "__main__":
    out, data, encoder, *more = sys.argv[1:]
    main(Path(out), Path(data), Path(encoder), *more)
