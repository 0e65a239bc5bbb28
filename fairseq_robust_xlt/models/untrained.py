"""A classifier with random weights and without a task, for measurements."""

from __future__ import annotations

from argparse import Namespace

from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY

from fairseq_robust_xlt.models.classifier import XLMRClassifier

HEAD = "head"


def untrained(arch: str, words: int, classes: int = 3, **settings) -> XLMRClassifier:
    """The model of `--arch xlmr_*` with `words` rows in its word table and one head, named `HEAD`, in training mode.

    settings: the model's own, by their names in fairseq's configuration (`checkpoint_activations`,
    `attention_dropout`, `encoder_layers`, ...). For relative radii call `keep_embedding_norm()` on it.
    """
    dictionary = Dictionary()
    for index in range(len(dictionary), words):
        dictionary.add_symbol(str(index))
    args = Namespace(**settings)
    ARCH_CONFIG_REGISTRY[arch](args)
    model = XLMRClassifier.build_model(args, Namespace(source_dictionary=dictionary))
    model.register_classification_head(HEAD, num_classes=classes)
    return model.train()
