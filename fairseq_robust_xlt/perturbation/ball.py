"""The set of allowed perturbations: a ball per token or per sequence, in l2 or l-infinity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_robust_xlt.errors import UserError, unknown

NORMS = ("l2", "linf")
SCOPES = ("token", "sequence")


@dataclass(frozen=True, eq=False)
class Ball:
    """All perturbations [batch, length, dim] whose norm, per token or per sequence, is at most the radius.

    `radius` is one number or a tensor [batch], in the units of the embeddings (see `radius.absolute_radius`).
    In l-infinity the two scopes are the same ball: every coordinate is bounded.
    A `mask` [batch, length] is True on real tokens; a perturbation is zero on all others.
    Raises `UserError` for an unknown norm or scope and for a radius that is negative or not finite.
    """

    radius: float | Tensor
    norm: str
    scope: str

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS, "--perturb-norm")
        if self.scope not in SCOPES:
            raise unknown("scope", self.scope, SCOPES, "--perturb-scope")
        if isinstance(self.radius, Tensor):
            # Its values are not looked at: that would make the host wait for the device in every update.
            if self.radius.ndim > 1:
                raise ValueError(f"a radius tensor has shape [] or [batch], not {list(self.radius.shape)}")
        elif not (math.isfinite(self.radius) and self.radius >= 0):
            raise UserError(f"--radius {self.radius}: must be a finite number, 0 or greater")

    def radii(self, like: Tensor) -> Tensor:
        """The radius as a tensor [1 or batch, 1, 1] on the device of `like`, in fp32 (fp64 where `like` is)."""
        return torch.as_tensor(self.radius, device=like.device, dtype=_working(like)).reshape(-1, 1, 1)

    def norms(self, delta: Tensor, mask: Tensor) -> Tensor:
        """Norms of `delta`: [batch, length] (0 on padding) per token, [batch] per sequence; at least fp32."""
        peak, _, length = _scaled(_real(delta, mask), self._dims)
        norms = peak * length if self.norm == "l2" else peak
        return norms.flatten(1) if self.scope == "token" else norms.flatten()

    @torch.no_grad()
    def project(self, delta: Tensor, mask: Tensor) -> Tensor:
        """The point of the ball nearest to a finite `delta` (Euclidean projection), zero on padding; `delta`'s dtype.

        l2 is rescaled, l-infinity clamped. Computed in fp32 without overflow; a 16-bit result is rounded towards zero,
        so that it lies inside the ball too.
        """
        x, radii = _real(delta, mask), self.radii(delta)
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(x, -radii), radii)
        else:
            peak, unit, length = _scaled(x, self._dims)
            inside = torch.where(peak * length > radii, unit * (radii / length), x)
        return round_towards_zero(inside, delta.dtype)

    @torch.no_grad()
    def steepest(self, gradient: Tensor, mask: Tensor, scaled: bool = False) -> tuple[Tensor, Tensor]:
        """The direction of norm 1 in which the loss rises fastest, and for which examples it is known.

        l2: gradient / ||gradient|| per token or per sequence; l-infinity: its sign, or with `scaled` the gradient
        itself divided by its largest coordinate per token or per sequence. Zero where the gradient is zero and on
        padding. Returns (direction [batch, length, dim] in at least fp32, finite [batch]): where an example's gradient
        is not finite on a real token, finite is False and its direction zero. A positive factor on the gradient
        changes nothing.
        """
        g = _real(gradient, mask)
        finite = torch.isfinite(g).flatten(1).all(dim=1)
        g = torch.where(finite[:, None, None], g, 0.0)
        if self.norm == "linf" and not scaled:
            return g.sign(), finite
        _, unit, length = _scaled(g, self._dims)
        return (unit / length if self.norm == "l2" else unit), finite

    @property
    def _dims(self) -> tuple[int, ...]:
        return (2,) if self.scope == "token" else (1, 2)


def _working(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _real(x: Tensor, mask: Tensor) -> Tensor:
    """`x` in the working precision, with zeros on padding whatever stood there (0 * nan would stay nan)."""
    if mask.shape != x.shape[:2]:
        raise ValueError(f"mask {list(mask.shape)} does not fit a perturbation {list(x.shape)}")
    return torch.where(mask[:, :, None], x.to(_working(x)), 0.0)


def _scaled(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """`x` as (peak, unit, length): x = peak * unit, length = the l2 norm of unit, 1 or greater.

    Squares of very large and very small numbers overflow and vanish in fp32; those of x / max |x| do not.
    For x = 0: peak 0, unit 0, length 1.
    """
    peak = x.abs().amax(dim=dims, keepdim=True)
    unit = x / torch.where(peak > 0, peak, 1.0)
    length = torch.linalg.vector_norm(unit, dim=dims, keepdim=True).clamp(min=1.0)
    return peak, unit, length


def round_towards_zero(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in `dtype`; where that is narrower, with no coordinate larger in size than before."""
    rounded = x.to(dtype)
    if dtype not in (torch.float16, torch.bfloat16):
        return rounded
    # Floats are sign and size: one less as an integer is the next smaller size, for either sign.
    larger = rounded.to(x.dtype).abs() > x.abs()
    return (rounded.view(torch.int16) - larger.to(torch.int16)).view(dtype)
