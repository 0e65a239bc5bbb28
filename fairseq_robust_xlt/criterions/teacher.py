"""The teacher of xTune's second stage: a checkpoint of an earlier run, which is not trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_robust_xlt import inference
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import sha256
from fairseq_robust_xlt.inference import record


class Teacher:
    """Class scores of a model's classification head, without dropout and without a gradient, in fp32.

    source: the file that it was read from and its sha256, for the run record
    """

    def __init__(self, model: nn.Module, head: str, source: dict[str, str] | None = None):
        self.model, self.head, self.source = model.eval().float(), head, source

    @classmethod
    def open(cls, checkpoint: str, identity: Mapping[str, Any]) -> Teacher:
        """The model of a finished run.

        Raises `UserError` for a checkpoint that is none of this package's, and for one with other labels, another kind
        of benchmark, or another vocabulary than `identity`, the parts of this run's record.
        """
        classifier = inference.open(checkpoint, cpu=True)
        if classifier.record is None:
            raise UserError(f"--teacher {checkpoint}: has no run record")
        saved = classifier.record.asdict()
        try:
            record.check_use({**saved, "head": identity["head"]}, identity)
        except UserError as error:
            raise UserError(f"--teacher {checkpoint}: {error}") from error
        source = {"file": os.path.abspath(checkpoint), "sha256": sha256(checkpoint)}
        return cls(classifier.model, classifier.head, source)

    @torch.no_grad()
    def logits(self, sample: dict[str, Any]) -> Tensor:
        """Class scores [examples, classes] of a collated batch."""
        tokens = sample["net_input"]["src_tokens"]
        self.model.to(tokens.device)
        with torch.autocast(tokens.device.type, enabled=False):
            logits, _ = self.model(tokens, classification_head_name=self.head)
        return logits.view(-1, sample["options"]) if "options" in sample else logits
