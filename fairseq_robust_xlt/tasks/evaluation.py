"""Zero-shot scoring inside fairseq-validate: predictions are collected batch by batch and scored subset by subset."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.files import sha256
from fairseq_robust_xlt.inference import record
from fairseq_robust_xlt.scoring import Prediction
from fairseq_robust_xlt.scoring import predictions as table
from fairseq_robust_xlt.tasks.settings import Settings

if TYPE_CHECKING:
    from fairseq_robust_xlt.tasks.cross_lingual import CrossLingualTask

logger = logging.getLogger(__name__)


class Evaluation:
    """Collects the predictions of one subset, then prints a line per language and writes the scores folder."""

    def __init__(self, task: CrossLingualTask, settings: Settings):
        self.task, self.settings = task, settings
        self.predictions: list[Prediction] = []
        self.checkpoint_sha256: str | None = None

    def step(self, sample: dict[str, Any], model, criterion):
        """One batch; an empty one fills up the last round of several processes."""
        if not sample:
            return 0.0, 0, {"loss": 0.0, "ntokens": 0, "nsentences": 0, "sample_size": 0, "ncorrect": 0}
        with torch.no_grad():
            logits = criterion.logits(model, sample)
            result = criterion.evaluate(logits, {k: v for k, v in sample.items() if k != "language"})
        dataset = self.task.datasets[sample["subset"]]
        probabilities = torch.softmax(logits.float(), dim=-1).tolist()
        for index, row in zip(sample["id"].tolist(), probabilities, strict=True):
            example = dataset.examples[index]
            predicted = max(range(len(row)), key=row.__getitem__)
            self.predictions.append(
                Prediction(sample["subset"], example.language, example.id, example.label, predicted, tuple(row))
            )
        return result

    def finish(self) -> None:
        """Score what was collected; on the first process print it and write the folder of --scores."""
        predictions, self.predictions = _gather(self.predictions), []
        if predictions is None:
            return
        subset = predictions[0].subset
        expected = len(self.task.datasets[subset])
        if len(predictions) != expected:
            raise RuntimeError(f"{subset}: {len(predictions)} of {expected} examples were scored")
        source, labels = self.task.benchmark.source, self.task.benchmark.labels
        f1 = self.task.benchmark.kind != "choice"  # the number of an option is no class
        table.check(predictions, labels)
        if self.settings.scores:
            scores = scoring.add(self.settings.scores, self.signature(), predictions, labels, source=source, f1=f1)
        else:
            scores = {"subsets": {subset: scoring.score(predictions, source, f1=f1)}}
        for line in scoring.lines(scores, subset):
            logger.info(line)

    def signature(self) -> dict[str, Any]:
        """What a score depends on; `cost` counts an update of its training in thirds of a standard one."""
        if self.checkpoint_sha256 is None:
            self.checkpoint_sha256 = sha256(self.settings.checkpoint) if self.settings.checkpoint else ""
        run = self.task.record
        return {
            "checkpoint_sha256": self.checkpoint_sha256,
            "benchmark": record.describe(self.task.benchmark),
            "method": run.recipe if run else None,
            "cost": run.recipe.get("cost") if run else None,
            "noise": run.noise if run else None,
            "seed": run.seed if run else None,
            "max_length": self.task.cfg.max_length,
            "versions": record.versions(),
        }


def _gather(predictions: list[Prediction]) -> list[Prediction] | None:
    """The predictions of all processes, on the first; None on the others."""
    if not torch.distributed.is_initialized():
        return predictions
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, predictions)
    if torch.distributed.get_rank() > 0:
        return None
    return [prediction for part in parts for prediction in part]
