"""How far two predictions are apart, and which of them learns from it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def divergence(kind: str, stop: str, clean: Tensor, other: Tensor) -> Tensor:
    """D(clean, other) [examples] between class scores [examples, classes], summed over the classes, in fp32.

    kind: "kl" KL(clean || other) (Miyato et al. 2019, equation 5); "symmetric_kl" KL(clean || other) + KL(other ||
          clean) (R3F, SMART); "js" the mean of the KL of both to their average; "mse" sum (p_clean - p_other)^2
    stop: the side without a gradient: "none", "clean", "perturbed"; "each": in each direction of symmetric_kl the
          target, which is the first argument of its KL (ALUM, xTune)
    """
    p, q = F.log_softmax(clean.float(), dim=-1), F.log_softmax(other.float(), dim=-1)
    if stop == "clean":
        p = p.detach()
    elif stop == "perturbed":
        q = q.detach()
    if kind == "mse":
        return (p.exp() - q.exp()).square().sum(dim=-1)
    if kind == "js":
        average = ((p.exp() + q.exp()) / 2).clamp(min=1e-30).log()
        return (kl(p, average) + kl(q, average)) / 2
    if kind == "kl":
        return kl(p, q)
    if stop == "each":
        return kl(p.detach(), q) + kl(q.detach(), p)
    return kl(p, q) + kl(q, p)


def kl(target: Tensor, other: Tensor) -> Tensor:
    """KL(target || other) [examples] from log-probabilities [examples, classes]."""
    return (target.exp() * (target - other)).sum(dim=-1)
