"""Attention runs by torch's fused kernel, except in training in 16 bits on the CPU, where that one is slow."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fairseq_robust_xlt.criterions import alone

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"


def kernels(model, criterion, batch, training: bool) -> set[str]:
    """The names of the operations of a pass, backward too if it trains."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled, torch.set_grad_enabled(training):
        loss, _, _ = criterion(model, batch)
        if training:
            loss.backward()
    return {event.key for event in profiled.key_averages()}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("dtype", "training", "fused"),
    [
        (torch.float32, True, True),
        (torch.bfloat16, True, False),
        (torch.float16, True, False),
        (torch.bfloat16, False, True),
    ],
)
def test_the_kernel_of_attention(dtype, training, fused, recompute):
    model = alone.model(
        "xlmr_nano", 50, attention_dropout=0.0, freeze_embeddings=True, checkpoint_activations=recompute
    ).to(dtype)
    used = kernels(model, alone.criterion("standard"), alone.batch(4, 8, 50), training)
    assert (FUSED in used) is fused
    assert (f"{FUSED}_backward" in used) is (fused and training)


def test_either_kernel_gives_the_same_gradients():
    """bf16 has 8 bits: the two differ by no more than rounding does."""
    torch.manual_seed(1)
    model = alone.model("xlmr_nano", 50, dropout=0.0, attention_dropout=0.0, freeze_embeddings=True)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype).zero_grad()
        loss, _, _ = alone.criterion("standard")(model, alone.batch(4, 8, 50))
        loss.backward()
        layer = model.encoder.sentence_encoder.layers[0]
        gradients.append(torch.cat([p.grad.float().flatten() for p in layer.self_attn.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99
