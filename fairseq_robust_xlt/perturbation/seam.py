"""The one place where a perturbation enters a model: behind its word embeddings.

fairseq's RoBERTa drops the `token_embeddings` that its own R3F example passes to it, so that example trains without
any perturbation and does not say so. A forward hook works for every architecture, and `perturbed` raises when
it was not reached.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from fairseq_robust_xlt.errors import UserError

_perturbed_now: weakref.WeakSet[nn.Module] = weakref.WeakSet()


@contextmanager
def perturbed(module: nn.Embedding, delta: Tensor) -> Iterator[None]:
    """Add `delta` [batch, length, dim] to the output of `module` in the one forward pass inside the block.

    `delta` is cast to the output's dtype; gradients flow to it. The hook is removed however the block ends.
    Raises RuntimeError when `module` is called with a batch of another shape or a second time, when it is not called
    at all, and when it is being perturbed already.
    """
    if module in _perturbed_now:
        raise RuntimeError("the word embeddings are being perturbed already: perturbations do not nest")
    calls = 0

    def add(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise RuntimeError("a second forward pass inside one perturbed block; open a block for each pass")
        if delta.shape != output.shape:
            raise RuntimeError(
                f"a perturbation of shape {list(delta.shape)} does not fit word embeddings {list(output.shape)}"
            )
        return output + delta.to(output.dtype)

    _perturbed_now.add(module)
    handle = module.register_forward_hook(add)
    try:
        yield
        if calls == 0:
            raise RuntimeError(
                "the perturbation reached nothing: the word embeddings were not called inside the block; "
                "was another model's table perturbed?"
            )
    finally:
        handle.remove()
        _perturbed_now.discard(module)


def find_word_embeddings(model: nn.Module) -> nn.Embedding:
    """The word embeddings of a fairseq RoBERTa or XLM-R: `encoder.sentence_encoder.embed_tokens`.

    Wrappers that keep their model in `.module` (distributed data parallel and fairseq's own) are looked through.
    Raises `UserError` for a model without such embeddings.
    """
    inner = model
    while isinstance(wrapped := getattr(inner, "module", None), nn.Module):
        inner = wrapped
    found: object = inner
    for name in ("encoder", "sentence_encoder", "embed_tokens"):
        found = getattr(found, name, None)
    if not isinstance(found, nn.Embedding):
        raise UserError(
            f"--arch: {type(inner).__name__} has no word embeddings at encoder.sentence_encoder.embed_tokens "
            f"(found {type(found).__name__}); perturbations need an architecture of the RoBERTa/XLM-R family"
        )
    return found
