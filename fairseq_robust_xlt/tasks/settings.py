"""What a task has to know beyond its own flags, read from fairseq's whole configuration."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.encoders.vocabulary import DICTIONARY, SENTENCEPIECE
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.inference.record import TABLE

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"


@dataclass
class Settings:
    """Where things are and what kind of run this is.

    data, encoder, synonyms, scores: absolute paths; benchmark: a name or an absolute path
    scoring:       a checkpoint is used (fairseq-validate, `inference.open`), not trained
    checkpoint:    the file that is scored
    save_dir:      folder of a training run's checkpoints
    weights:       the checkpoint that a training run starts from
    continues:     a checkpoint of this very run is loaded, so its head must be there: scoring and resuming
    first:         this is the first process of the run
    saves:         the run writes checkpoints
    spectral_norm: the method wants one on the classification head
    selects:       the subset whose scores select checkpoints (None: none)
    """

    data: str
    encoder: str
    benchmark: str
    synonyms: str | None = None
    scores: str | None = None
    scoring: bool = False
    checkpoint: str | None = None
    save_dir: str = ""
    weights: str | None = None
    continues: bool = False
    first: bool = True
    saves: bool = False
    spectral_norm: bool = False
    selects: str | None = None

    @classmethod
    def of(cls, cfg: Any, preset: str | None, from_checkpoint: bool) -> Settings:
        """Read a task's configuration; relative paths become absolute, in what the checkpoint stores as well.

        Raises `UserError` for what is missing, and for flags that would do nothing or harm.
        """
        whole = cfg._get_parent()
        checkpoint = whole.common_eval.path if whole is not None else None
        scoring = from_checkpoint or checkpoint is not None
        _store_absolute(cfg, whole)
        benchmark = cfg.benchmark or preset
        if not benchmark:
            raise UserError("--benchmark: the task cross_lingual needs a benchmark: a name, or a YAML table")
        if cfg.reuse_dataloader or cfg.persistent_workers:
            flag = "--reuse-dataloader" if cfg.reuse_dataloader else "--persistent-workers"
            raise UserError(f"{flag}: not supported; data workers that stay would repeat the noise of epoch 1")
        if scoring:
            encoder, benchmark = _beside(checkpoint, cfg.encoder, benchmark)
        else:
            encoder = cfg.encoder
        if not encoder:
            raise UserError(
                f"--encoder: give the encoder directory, which holds {DICTIONARY} and {SENTENCEPIECE} "
                "(make one with: robust-xlt encoder make e5-small DIR)"
            )
        settings = cls(cfg.data, encoder, benchmark, cfg.synonyms, cfg.scores, scoring, checkpoint, continues=scoring)
        if not scoring:
            settings._training(whole)
        return settings

    def _training(self, whole: Any) -> None:
        if self.scores:
            raise UserError(f"--scores {self.scores}: belongs to fairseq-validate; training writes no scores")
        if not Path(self.data).is_dir():
            raise UserError(f"no such data folder: {self.data}")
        if whole is None:
            return
        files, data, launch = whole.checkpoint, whole.dataset, whole.distributed_training
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if processes > 1 and launch.distributed_world_size == 1:
            raise UserError(
                f"{processes} processes were launched, but each was told to train alone: give distributed_world_size "
                f"{processes}, distributed_rank $RANK, distributed_init_method env://, distributed_no_spawn and, on "
                "CPU, distributed_backend gloo"
            )
        if launch.ddp_backend == "fully_sharded":
            raise UserError(
                "--ddp-backend fully_sharded: not with these models: fairscale loads no encoder that is published for "
                "fairseq, and has no CPU mode; use --ddp-backend legacy_ddp --zero-sharding os, which divides the "
                "optimizer's state over the processes"
            )
        self.selects = None if data.disable_validation else data.valid_subset.split(",")[0]
        self.save_dir = os.path.abspath(files.save_dir)
        restores_last = files.restore_file == LAST
        self.weights = files.finetune_from_model or (None if restores_last else files.restore_file)
        if self.weights:
            self.weights = os.path.abspath(self.weights)
            if not Path(self.weights).is_file():
                flag = "--finetune-from-model" if files.finetune_from_model else "--restore-file"
                raise UserError(f"{flag} {self.weights}: there is no such file")
        # --restore-file with --reset-optimizer is a fresh start from another model; anything else goes on.
        self.continues = (Path(self.save_dir) / LAST).exists() if restores_last else not files.reset_optimizer
        self.first = launch.distributed_rank == 0
        method = whole.criterion.get("method") if whole.criterion is not None else None
        if method:
            recipe = recipes.resolve(method, {key: whole.criterion.get(key) for key in recipes.FLAGS})
            self.spectral_norm = recipe.spectral_norm
            if launch.ddp_backend == "slowmo":
                recipe.check_wrapper(f"--ddp-backend {launch.ddp_backend}")
        self.saves = not files.no_save
        every, saved = data.validate_interval_updates, files.save_interval_updates
        if every and (not saved or every % saved):
            logger.warning(
                "--validate-interval-updates %d validates without saving, so the best of these validations may be in "
                "no checkpoint; --save-interval-updates %d validates and saves",
                every,
                every,
            )


def _store_absolute(cfg: Any, whole: Any) -> None:
    """What a task writes to its own configuration is a copy: the one that checkpoints store is in the whole."""
    for key in ("data", "encoder", "synonyms", "scores", "benchmark"):
        value = cfg[key]
        if not value or (key == "benchmark" and not _is_path(value)):
            continue
        cfg[key] = os.path.abspath(value)
        if whole is not None and whole.get("task") is not None:
            whole.task[key] = cfg[key]


def _is_path(benchmark: str) -> bool:
    return benchmark.endswith((".yaml", ".yml")) or os.sep in benchmark


def _beside(checkpoint: str | None, encoder: str | None, benchmark: str) -> tuple[str | None, str]:
    """The encoder files and the benchmark table that a run has put beside its checkpoints, where they are."""
    folder = Path(checkpoint).absolute().parent if checkpoint else None
    if folder is not None and (folder / DICTIONARY).is_file() and (folder / SENTENCEPIECE).is_file():
        encoder = str(folder)
    if folder is not None and _is_path(benchmark) and not Path(benchmark).is_file() and (folder / TABLE).is_file():
        benchmark = str(folder / TABLE)
    return encoder, benchmark
