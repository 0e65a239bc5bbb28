"""What a radius means: units that are comparable between encoders, and their conversion."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fairseq_robust_xlt.errors import UserError, unknown
from fairseq_robust_xlt.perturbation.seam import unwrapped

UNITS = ("relative", "absolute")

# Rows read at once: 4,096 rows of 4,096 numbers take 64 MiB in fp32.
_CHUNK = 4096


@torch.no_grad()
def mean_embedding_norm(weight: Tensor, special: Iterable[int]) -> float:
    """The mean l2 norm of a word table's ordinary rows: the unit of a relative radius.

    `weight` is the table [vocabulary, dim] in any float type, `special` the rows that are no words (begin, padding,
    end, unknown, mask). Computed in fp32, a few rows at a time.
    Raises `UserError` for a table without ordinary rows, with numbers that are not finite, or of zeros.
    """
    ordinary = torch.ones(len(weight), dtype=torch.bool)
    ordinary[list(special)] = False
    total = 0.0
    for rows, keep in zip(weight.split(_CHUNK), ordinary.split(_CHUNK), strict=True):
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))
        total += norms.cpu()[keep].sum(dtype=torch.float64).item()
    count = int(ordinary.sum())
    if count == 0 or not math.isfinite(total) or total == 0:
        raise UserError(
            f"the word embeddings ({count} ordinary rows of {len(weight)}, norms adding up to {total}) give no unit "
            "for --radius: is the encoder damaged? --radius-unit absolute needs none"
        )
    return total / count


def absolute_radius(
    radius: float, unit: str, mean_norm: float | Tensor | None, norm: str, scope: str, lengths: Tensor, dim: int
) -> Tensor:
    """A radius as the user gives it, in the units of the embeddings: a tensor [] or, for a whole-sequence l2 ball,
    [batch], in fp32, for `Ball`.

    An absolute radius is taken as it is. A relative one counts in mean embedding norms per token: it is multiplied by
    `mean_norm`; for a whole-sequence l2 ball also by sqrt(number of tokens), the norm of a sequence whose tokens are
    each displaced by the radius; for l-infinity divided by sqrt(dim), so that the corners of the cube are at the
    radius, which holds for either scope. `lengths` [batch] counts each example's real tokens; the result is on its
    device, and a `mean_norm` that is a tensor there is not read by the host.
    Raises `UserError` for an unknown unit and a radius that is negative or not finite.
    """
    if unit not in UNITS:
        raise unknown("radius unit", unit, UNITS, "--radius-unit")
    if not (math.isfinite(radius) and radius >= 0):
        raise UserError(f"--radius {radius}: must be a finite number, 0 or greater")
    if unit == "absolute":
        return torch.tensor(radius, dtype=torch.float32, device=lengths.device)
    if mean_norm is None:
        raise ValueError("a relative radius needs the mean embedding norm")
    value = radius * mean_norm / (math.sqrt(dim) if norm == "linf" else 1.0)
    if norm == "l2" and scope == "sequence":
        return value * lengths.to(torch.float32).sqrt()
    return torch.as_tensor(value, dtype=torch.float32, device=lengths.device)


_has_norm: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def embedding_norm(model: nn.Module) -> Tensor:
    """The mean norm of the word embeddings as first loaded, as a tensor: reading it would make the host wait.

    Raises `UserError` for a model that does not keep it, and where no weights were loaded.
    """
    inner = unwrapped(model)
    if not hasattr(inner, "embedding_norm"):
        raise UserError(
            "--radius-unit relative: this architecture does not keep the mean norm of its first word "
            "embeddings; use one of --arch xlmr_*, or --radius-unit absolute"
        )
    norm: Tensor = inner.embedding_norm  # type: ignore[assignment]
    if inner not in _has_norm:
        if not float(norm):  # it is taken from the weights as they are loaded; 0 would silently perturb nothing
            raise UserError(
                "--radius-unit relative: no weights were loaded, so the mean norm of the first word embeddings is "
                "not known; give --finetune-from-model, or --radius-unit absolute"
            )
        _has_norm.add(inner)
    return norm
