"""Adversarial perturbations: projected gradient ascent on the loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation.ball import Ball


def default_step_size(steps: int) -> float:
    """1 for a single step, which reaches the ball's surface from zero (FGM, Miyato et al. 2017), else 1.25 / steps.

    Several steps together go a little farther than the radius, so that the surface is reached on a curved way too.
    """
    return 1.0 if steps == 1 else 1.25 / max(steps, 1)


def ascend(
    loss_of: Callable[[Tensor], Tensor],
    delta0: Tensor,
    ball: Ball,
    mask: Tensor,
    steps: int,
    step_size: float | None = None,
    scaled: bool = False,
    keep_graphs: int = 0,
) -> tuple[Tensor, Tensor]:
    """Look for the perturbation in the ball that raises each example's loss most (PGD, Madry et al. 2018).

        delta <- project(delta + step_size * radius * direction(gradient of the loss at delta))

    `loss_of` takes a perturbation [batch, length, dim] and returns losses [examples] in fp32, each depending on its own
    example alone: one row of the batch, or n rows side by side where the batch is n times as long (the options of a
    multiple choice). `delta0` is the start, projected first; `mask` [batch, length] is True on real tokens. `step_size`
    is a fraction of the radius (None: `default_step_size`), `scaled` chooses the direction (see `Ball.steepest`), which
    a positive factor on a loss does not change. `keep_graphs` leaves the graphs of the first so many steps' losses to
    the caller, who can train on those passes as well. Costs `steps` forward passes and gradients for activations.

    Returns (delta [batch, length, dim] in at least fp32, detached; finite [batch]): where an example's loss or gradient
    was not finite in some step, all of its rows have delta 0 and finite False. Gradients are taken for the perturbation
    alone: no parameter's `.grad` changes. Raises `UserError` for negative steps or a step size that is not positive.
    """
    if steps < 0:
        raise UserError(f"--perturb-steps {steps}: must be 0 or greater")
    if step_size is None:
        step_size = default_step_size(steps)
    elif not step_size > 0:
        raise UserError(f"--perturb-step-size {step_size}: must be greater than 0")
    delta = ball.project(delta0.detach().to(torch.promote_types(delta0.dtype, torch.float32)), mask)
    finite = torch.ones(len(delta), dtype=torch.bool, device=delta.device)
    stride = step_size * ball.radii(delta)
    for step in range(steps):
        with torch.enable_grad():
            delta.requires_grad_()
            losses = loss_of(delta)
            if losses.dim() != 1 or not len(losses) or len(delta) % len(losses):
                raise ValueError(f"expected one loss per example of {len(delta)} rows, not {list(losses.shape)}")
            (gradient,) = torch.autograd.grad(losses.sum(), delta, retain_graph=step < keep_graphs)
        losses = losses.detach()  # whose graph would live on through the next step's pass
        direction, known = ball.steepest(gradient, mask, scaled)
        known = known.view(len(losses), -1).all(dim=1) & torch.isfinite(losses)
        finite &= known.repeat_interleave(len(delta) // len(losses))
        delta = ball.project(delta.detach() + stride * direction, mask)
        delta = torch.where(finite[:, None, None], delta, 0.0)
    return delta, finite
