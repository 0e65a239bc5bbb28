"""Whether a checkpoint's parameters fit a model: what fairseq leaves random with a warning is refused here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor, nn

from fairseq_robust_xlt.encoders.shapes import SHAPES
from fairseq_robust_xlt.errors import UserError

logger = logging.getLogger(__name__)

HEADS = "classification_heads."


def check_heads(state: Mapping[str, Tensor], heads: nn.ModuleDict, required: bool) -> None:
    """Compare the classification heads of a checkpoint with the model's.

    `required`: the checkpoint must hold every head of the model (scoring, resuming). Otherwise (fine-tuning) heads
    that the model has not are left out, which fairseq does, and new ones start at random.
    Raises `UserError` for a head that is missing or has another number of classes.
    """
    saved = {
        key.split(".")[1]: len(value)
        for key, value in state.items()
        if key.startswith(HEADS) and key.endswith((".out_proj.weight", ".out_proj.weight_orig"))
    }
    for name, head in heads.items():
        classes = head.out_proj.out_features  # type: ignore[union-attr]
        if name not in saved:
            if required:
                held = ", ".join(f"{n} ({c} classes)" for n, c in saved.items()) or "none"
                raise UserError(
                    f"--classification-head-name {name}: the checkpoint has no such head, so a random one would be "
                    f"used; it has: {held}"
                )
        elif saved[name] != classes:
            raise UserError(
                f"the checkpoint's head {name!r} has {saved[name]} classes, this task has {classes}; to train a new "
                f"head on this encoder give it a name of its own: --classification-head-name {name}_{classes}"
            )
        elif hasattr(head.out_proj, "weight_orig") is not (f"{HEADS}{name}.out_proj.weight_orig" in state):
            has, wants = ("no ", "one") if hasattr(head.out_proj, "weight_orig") else ("a ", "none")
            raise UserError(
                f"the checkpoint's head {name!r} has {has}spectral norm and this run wants {wants} (--method r4f, "
                "--spectral-norm-classification-head); to train a new head on this encoder give it a name of its own: "
                f"--classification-head-name {name}_new"
            )
        elif not required:
            logger.info("the classification head %r goes on from the checkpoint", name)


def fit_rows(state: MutableMapping[str, Tensor], key: str, rows: int) -> None:
    """Cut the rows of a word table that lie past the dictionary: padding, as in XLM-R XL's 250,880 rows.

    Raises `UserError` where the dictionary has ids for which the table has no row.
    """
    saved = len(state[key]) if key in state else rows
    if saved < rows:
        raise UserError(
            f"the dictionary has {rows} symbols but the checkpoint's word table only {saved} rows; "
            "give the encoder directory that belongs to the checkpoint with --encoder"
        )
    if saved > rows:
        logger.info("word table: the last %d of %d rows belong to no symbol and are left out", saved - rows, saved)
        state[key] = state[key][:rows].clone()


def check_shapes(state: Mapping[str, Tensor], model: Mapping[str, Tensor], arch: str | None) -> None:
    """Raise `UserError` that names the parameters whose shapes or names differ between checkpoint and model."""
    wrong = [
        f"{key}: checkpoint {tuple(state[key].shape)}, model {tuple(value.shape)}"
        for key, value in model.items()
        if key in state and state[key].shape != value.shape
    ]
    wrong += [f"{key}: missing in the checkpoint" for key in model if key not in state]
    wrong += [f"{key}: only in the checkpoint" for key in state if key not in model]
    if not wrong:
        return
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    fitting = _fitting_arch(state)
    advice = f"; its shape is that of --arch {fitting}" if fitting and fitting != arch else ""
    raise UserError(f"the checkpoint does not fit --arch {arch}: {'; '.join(wrong[:3])}{more}{advice}")


def _fitting_arch(state: Mapping[str, Tensor]) -> str | None:
    layers = {key.split(".layers.")[1].split(".")[0] for key in state if ".layers." in key}
    ffn = next((value.shape for key, value in state.items() if key.endswith("layers.0.fc1.weight")), torch.Size([]))
    for name, shape in SHAPES.items():
        if (len(layers), *ffn) == (shape.layers, shape.ffn, shape.dim):
            return name
    return None
