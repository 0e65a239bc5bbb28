"""All passes of a step see one network, dropout masks aside (for these see `generators`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fairseq.modules import LayerDropModuleList
from torch import nn

from fairseq_robust_xlt.perturbation import unwrapped


@contextmanager
def one_network(model: nn.Module, head: str) -> Iterator[None]:
    """Run the passes of the block through the layers that LayerDrop keeps in the first of them, and refine a spectral
    norm on the classification head `head` in the first one alone."""
    inner: Any = unwrapped(model)
    with ExitStack() as stack:
        layers = inner.encoder.sentence_encoder.layers
        if type(layers) is LayerDropModuleList:
            stack.enter_context(_one_choice(layers))
        last = inner.classification_heads[head].out_proj
        if hasattr(last, "weight_orig"):
            stack.enter_context(_one_power_iteration(last))
        yield


class _Chosen(LayerDropModuleList):
    """LayerDrop that goes on with its first choice, and draws as if it did not."""

    chosen: tuple[nn.Module, ...] = ()
    drawn = False

    def __iter__(self) -> Iterator[nn.Module]:
        now = tuple(super().__iter__())
        if not self.drawn:
            self.chosen, self.drawn = now, True
        return iter(self.chosen)


@contextmanager
def _one_choice(layers: nn.Module) -> Iterator[None]:
    """DDP that looks for unused parameters takes those of the last pass for all: with layers of its own in each pass it
    ends in an error. And a consistency is meant to compare inputs, or masks, not networks of different depth."""
    layers.__class__ = _Chosen
    try:
        yield
    finally:
        layers.__class__ = LayerDropModuleList
        layers.__dict__.pop("chosen", None)
        layers.__dict__.pop("drawn", None)


@contextmanager
def _one_power_iteration(layer: nn.Module) -> Iterator[None]:
    def refined(layer: nn.Module, _inputs: Any, _output: Any) -> None:
        layer.eval()

    training = layer.training
    handle = layer.register_forward_hook(refined)
    try:
        yield
    finally:
        handle.remove()
        layer.train(training)
