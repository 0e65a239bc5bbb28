"""Random perturbations that depend on the example and the update, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fairseq_robust_xlt.errors import unknown
from fairseq_robust_xlt.perturbation.ball import Ball, round_towards_zero

KINDS = ("gaussian", "uniform", "sphere", "cube")


@torch.no_grad()
def draw(
    kind: str,
    ball: Ball,
    mask: Tensor,
    dim: int,
    keys: Sequence[tuple[int, ...]],
    device: torch.device | str,
    dtype: torch.dtype,
) -> Tensor:
    """Draw one perturbation in the ball per example: [batch, length, dim], zero on padding.

    The laws, with radius r per token (d = dim) or per sequence of n tokens (d = n * dim):

    - gaussian: l2: N(0, r^2/d I), whose norm is about r, projected into the ball; l-infinity: N(0, (r/2)^2) in every
      coordinate, clamped to [-r, r].
    - uniform: uniform in the ball (l2: direction uniform, norm r * u^(1/d), u uniform in [0, 1]).
    - sphere: l2: uniform on the sphere of radius r; l-infinity: a random corner of the cube, every coordinate +-r.
    - cube: every coordinate uniform: l2: in [-r, r] / sqrt(d), the largest cube inside the ball (the start of FreeLB);
      l-infinity: as uniform.

    `mask` [batch, length] is True on real tokens, and `keys` holds one tuple of numbers, 0 or greater, per row: (seed,
    update, example), with the option's number where an example has several rows. A row's real tokens, in order, are a
    function of its key, their number, dim, the kind, the ball and the type of device: padding, the rest of the batch
    and the number of processes have no say. They are drawn on `device` (CPU and CUDA have different generators; copying
    from the CPU would be slow), in fp32.
    Raises `UserError` for an unknown kind.
    """
    if kind not in KINDS:
        raise unknown("law of random perturbations", kind, KINDS, "--perturb-draw")
    if len(keys) != len(mask):
        raise ValueError(f"{len(keys)} keys for a batch of {len(mask)}")
    counts = mask.sum(dim=1).tolist()
    tokens = torch.empty(sum(counts), dim, device=device)
    radii = ball.radii(tokens).flatten().expand(len(keys))
    generator = torch.Generator(device)
    # Row by row, not all at once: even the last bit of a sum may depend on the shape of what is summed.
    for row, key, radius in zip(tokens.split(counts), keys, radii, strict=True):
        generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        _fill(row, kind, ball, generator)
        row.mul_(radius)
    delta = torch.zeros(*mask.shape, dim, device=device, dtype=dtype)
    delta[mask.to(device)] = round_towards_zero(tokens, dtype)
    return delta


def _fill(row: Tensor, kind: str, ball: Ball, generator: torch.Generator) -> None:
    """Draw one example's tokens [n, dim] from the law in the ball of radius 1, in place."""
    if ball.norm == "linf":
        if kind in ("uniform", "cube"):
            row.uniform_(-1, 1, generator=generator)
            return
        row.normal_(generator=generator)
        if kind == "gaussian":
            row.mul_(0.5).clamp_(-1, 1)
        else:
            row.copy_(torch.where(row < 0, -1.0, 1.0))
        return
    size = row.numel() if ball.scope == "sequence" else row.shape[1]
    if kind == "cube":
        row.uniform_(-1, 1, generator=generator).div_(math.sqrt(max(size, 1)))
        return
    row.normal_(generator=generator)
    norms = torch.linalg.vector_norm(row, dim=None if ball.scope == "sequence" else 1, keepdim=True)
    if kind == "gaussian":
        row.div_(norms.clamp(min=math.sqrt(size)))
        return
    row.div_(norms)  # A normal vector's direction is uniform.
    if kind == "uniform":
        row.mul_(torch.empty_like(norms).uniform_(generator=generator).pow(1 / max(size, 1)))
