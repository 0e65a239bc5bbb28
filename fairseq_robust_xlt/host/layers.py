"""Encoder layers: fairseq 0.12.2 holds the weights of each one twice."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_COPY = re.compile(r"\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)")


def is_layer_copy(name: str) -> bool:
    """Whether a parameter of this name is a second copy (`layers.0.fc1_weight` beside `layers.0.fc1.weight`)."""
    return _COPY.search(name) is not None


def without_layer_copies(encoder: nn.Module) -> nn.Module:
    """Drop the second copies of an encoder, in place; elsewhere than on fairseq 0.12.2 there are none.

    They serve a fast path of inference that RoBERTa's activation function rules out. As parameters without a gradient
    they stop distributed training, they double the layers in memory, and no other fairseq loads a checkpoint with them.
    """
    from torch import nn

    for layer in encoder.layers.children():  # type: ignore[union-attr]
        copies = [name for name, _ in layer.named_parameters(recurse=False) if is_layer_copy(f".layers.0.{name}")]
        if copies:
            for name in copies:
                delattr(layer, name)
            layer.can_use_fastpath = False
            # fairseq's own would make the copies anew from every checkpoint.
            layer._load_from_state_dict = functools.partial(  # type: ignore[method-assign]
                nn.Module._load_from_state_dict, layer
            )
    return encoder
