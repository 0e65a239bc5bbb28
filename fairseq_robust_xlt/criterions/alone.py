"""A model, a criterion and a batch without a task or data: what measurements of time, memory and operations need."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.criterions.config import RobustClassificationConfig
from fairseq_robust_xlt.criterions.robust_classification import RobustClassificationCriterion
from fairseq_robust_xlt.criterions.teacher import Teacher
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.models import XLMRClassifier


def model(arch: str, words: int, classes: int = 3, **settings: Any) -> XLMRClassifier:
    """The model of `--arch xlmr_*` with random weights, `words` rows in its word table, and one head; training mode.

    settings: the model's own, by their names in fairseq's configuration (`checkpoint_activations`,
    `attention_dropout`, `encoder_layers`, ...); a recipe with `spectral_norm` needs
    `spectral_norm_classification_head=True`. For relative radii call `keep_embedding_norm()` on it.
    """
    dictionary = Dictionary()
    for index in range(len(dictionary), words):
        dictionary.add_symbol(str(index))
    args = Namespace(**settings)
    ARCH_CONFIG_REGISTRY[arch](args)
    made = XLMRClassifier.build_model(args, Namespace(source_dictionary=dictionary))
    made.register_classification_head(RobustClassificationConfig.classification_head_name, num_classes=classes)
    return made.train()


def criterion(method: str, teacher: XLMRClassifier | None = None, **flags: Any) -> RobustClassificationCriterion:
    """The criterion `--method METHOD` in training mode; flags by their names in its configuration.

    teacher: stands in for the checkpoint of a finished run, where the method has one.
    """
    stand_in = "alone" if recipes.resolve(method, flags).teacher_weight else None
    config = RobustClassificationConfig(method=method, teacher=stand_in, **flags)
    # A task that scores: the criterion then opens no checkpoint.
    task = Namespace(target_dictionary=None, makes_noise=True, record=None, settings=Namespace(scoring=True))
    made = RobustClassificationCriterion(config, task)
    if stand_in:
        if teacher is None:
            raise UserError(f"--method {method}: needs a teacher")
        made.teacher = Teacher(teacher, config.classification_head_name)
    made.seed_and_update = (1, 0)
    return made.train()


def batch(size: int, length: int, words: int, classes: int = 3, device: str = "cpu") -> dict[str, Any]:
    """`size` inputs of `length` random tokens without padding, as our tasks collate them, with a second view of each
    (for methods that compare two); always the same."""
    tokens, other = torch.randint(4, words, (2, size, length), generator=torch.Generator().manual_seed(1)).to(device)
    return {
        "id": torch.arange(size, device=device),
        "net_input": {"src_tokens": tokens},
        "noised_input": {"src_tokens": other},
        "target": (torch.arange(size) % classes).to(device),
        "ntokens": size * length,
    }
