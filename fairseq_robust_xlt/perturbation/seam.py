"""The one place where a perturbation enters a model: behind its word embeddings, or at the input of a layer.

fairseq's RoBERTa drops the `token_embeddings` that its own R3F example passes to it, so that example trains without
any perturbation and does not say so. Forward hooks work for every architecture, and the blocks here raise when they
were not reached.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation.ball import round_towards_zero

#: What a block does to embeddings or hidden states [batch, length, dim].
Change = Callable[[Tensor], Tensor]

_changed_now: weakref.WeakSet[nn.Module] = weakref.WeakSet()


@contextmanager
def changed(model: nn.Module, layer: int, change: Change) -> Iterator[None]:
    """Pass what `model` has at `layer` through `change` in the one forward pass inside the block.

    layer 0 is the output of the word embeddings, k >= 1 the input of encoder layer k (1 is the first layer). Where
    LayerDrop leaves that layer out, it is the input of the next layer that runs, which is the same hidden state, or
    the encoder's output if none does. Layers are hooked from outside, so recomputed activations do not pass it twice.
    Raises `UserError` for a model without word embeddings or without that layer, RuntimeError when the place is not
    reached, for a second forward pass in the block, and for a place that is being changed already.
    """
    table = find_word_embeddings(model)
    if layer == 0:
        with _block(table, change, _behind_words):
            yield
        return
    encoder: Any = unwrapped(model).encoder.sentence_encoder  # type: ignore[union-attr]
    layers = layers_from(model, layer)
    with _block(layers[0], change, lambda _, once: _before_layers(encoder, layers, once)):
        yield


def layers_from(model: nn.Module, layer: int) -> list[nn.Module]:
    """The encoder's layers from number `layer` on, counted from 1. Raises `UserError` where there is none."""
    encoder: Any = unwrapped(model).encoder.sentence_encoder  # type: ignore[union-attr]
    layers = list(encoder.layers.children())  # iterating over the list itself would drop layers
    if layer > len(layers):
        raise UserError(f"layer {layer}: the encoder has {len(layers)} layers (--perturb-layer, --attention-layer)")
    return layers[layer - 1 :]


def added(hidden: Tensor, delta: Tensor) -> Tensor:
    """`hidden` + `delta`, in the dtype of `hidden` and without broadcasting.

    A `delta` in a wider dtype is rounded towards zero, so that it stays in its ball; in 16 bits the sum is rounded to
    the nearest number once more, which may lie outside, or be `hidden` itself.
    """
    if delta.shape != hidden.shape:
        raise RuntimeError(
            f"a perturbation of shape {list(delta.shape)} does not fit embeddings of shape {list(hidden.shape)}"
        )
    if delta.dtype != hidden.dtype:
        rounded = round_towards_zero(delta.detach(), hidden.dtype).to(delta.dtype)
        # The sum is `rounded` to the bit; written so, the gradient goes to `delta`.
        delta = (delta + (rounded - delta.detach())).to(hidden.dtype)
    return hidden + delta


class _Once:
    """A change that one forward pass makes once: whether it was made, and how many passes there were."""

    def __init__(self, change: Change):
        self.change, self.made, self.passes = change, False, 0

    def begin(self) -> None:
        self.passes += 1
        if self.passes > 1:
            raise RuntimeError("a second forward pass inside one block; open a block for each pass")

    def __call__(self, hidden: Tensor) -> Tensor:
        self.made = True
        return self.change(hidden)


@contextmanager
def _block(
    owner: nn.Module, change: Change, hook: Callable[[nn.Module, _Once], list[RemovableHandle]]
) -> Iterator[None]:
    if owner in _changed_now:
        raise RuntimeError("this place of the model is being changed already: such blocks do not nest")
    once = _Once(change)
    _changed_now.add(owner)
    handles = hook(owner, once)
    try:
        yield
        if not once.made:
            raise RuntimeError(
                "the perturbation reached nothing: its place in the model was not called inside the block; "
                "was another model's table or layer given?"
            )
    finally:
        for handle in handles:
            handle.remove()
        _changed_now.discard(owner)


def _behind_words(table: nn.Module, once: _Once) -> list[RemovableHandle]:
    def behind(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        once.begin()
        return once(output)

    return [table.register_forward_hook(behind)]


def _before_layers(encoder: nn.Module, layers: list[nn.Module], once: _Once) -> list[RemovableHandle]:
    """fairseq's layers have the length first: [length, batch, dim]."""

    def begin(_module: nn.Module, _inputs: tuple) -> None:
        once.begin()

    def before(_module: nn.Module, inputs: tuple) -> tuple | None:
        if once.made:
            return None
        return (once(inputs[0].transpose(0, 1)).transpose(0, 1), *inputs[1:])

    def behind(_module: nn.Module, _inputs: tuple, output: dict) -> dict | None:
        if once.made:
            return None
        hidden = once(output["encoder_out"][0].transpose(0, 1)).transpose(0, 1)
        return {**output, "encoder_out": [hidden]}

    return [
        encoder.register_forward_pre_hook(begin),
        *(layer.register_forward_pre_hook(before) for layer in layers),
        encoder.register_forward_hook(behind),
    ]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers that keep it in `.module` (distributed data parallel and fairseq's own)."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model


def find_word_embeddings(model: nn.Module) -> nn.Embedding:
    """The word embeddings of a fairseq RoBERTa or XLM-R: `encoder.sentence_encoder.embed_tokens`, wrapped or not.

    Raises `UserError` for a model without such embeddings.
    """
    inner = unwrapped(model)
    found: object = inner
    for name in ("encoder", "sentence_encoder", "embed_tokens"):
        found = getattr(found, name, None)
    if not isinstance(found, nn.Embedding):
        raise UserError(
            f"--arch: {type(inner).__name__} has no word embeddings at encoder.sentence_encoder.embed_tokens "
            f"(found {type(found).__name__}); robust training needs an architecture of the RoBERTa/XLM-R family"
        )
    return found
