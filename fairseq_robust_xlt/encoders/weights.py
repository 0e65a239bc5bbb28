"""The weights of a RoBERTa or XLM-R checkpoint, under one set of names whichever fairseq wrote them."""

from __future__ import annotations

import argparse
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.host import METERS, allowed_as, is_layer_copy, load_error

#: The layer norm after the last layer: there in pre-norm encoders only. (The saved flag `encoder_normalize_before`
#: cannot tell them apart: for the published post-norm XLM-R it meant the norm after the embeddings.)
FINAL_NORM = "layer_norm.weight"


class _Unread:
    """Stands in for the training meters that old public checkpoints hold and that nothing here reads."""

    def __setstate__(self, state: object) -> None:
        pass


@dataclass(frozen=True)
class Weights:
    """The encoder's tensors of one checkpoint, and what the checkpoint says about them.

    Attributes:
        tensors: the encoder's own, named as in today's `encoder.sentence_encoder`, without that prefix.
        model: every tensor of the checkpoint under the name that it has there.
        heads: attention heads, or None where the checkpoint does not say.
    """

    tensors: Mapping[str, torch.Tensor]
    model: Mapping[str, torch.Tensor]
    heads: int | None


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Open a checkpoint without running any code that it may carry, and find its encoder.

    The weights stay in the file until they are used where the file's format allows it (torch >= 1.6). Raises
    `UserError` for a file that is missing, damaged, no checkpoint, or without such an encoder, and for one whose
    pickle asks for anything but tensors and plain settings.
    """
    state = _load(Path(path))
    model = state.get("model") if isinstance(state, dict) else None
    if not isinstance(model, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in model.items()):
        raise UserError(f"{path}: not a fairseq checkpoint: it has no 'model' entry that holds named tensors")
    tensors = _todays_names(model)
    for name in ("embed_tokens.weight", "layers.0.fc1.weight"):
        if name not in tensors:
            raise UserError(f"{path}: no RoBERTa or XLM-R encoder: 'encoder.sentence_encoder.{name}' is missing")
    return Weights(tensors, model, _heads(state))


def _load(path: Path) -> Any:
    if not hasattr(torch.serialization, "safe_globals"):
        raise UserError(
            f"{path}: opening a checkpoint without running code needs torch >= 2.5, found {torch.__version__}"
        )
    allowed: list[Any] = [argparse.Namespace, *(allowed_as(_Unread, f"fairseq.meters.{name}") for name in METERS)]
    # On leaving, safe_globals forbids all that it was given, even what the host had allowed for fairseq before.
    allowed = [entry for entry in allowed if entry not in torch.serialization.get_safe_globals()]
    try:
        with torch.serialization.safe_globals(allowed):
            # Checkpoints from before torch 1.6, the published XLM-R among them, are no zip files and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # bytes that are no checkpoint end in an exception of almost any kind
        raise load_error(path, error) from error


def _todays_names(model: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's tensors of `model` under today's names.

    fairseq renamed `decoder.sentence_encoder` to `encoder.sentence_encoder` and `emb_layer_norm` to
    `layernorm_embedding`, and split attention's `in_proj` (queries, keys and values, one below the other). The second
    copies of a layer's weights that 0.12.2 saves are left out.
    """
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in model.items():
        prefix, found, name = key.partition(".sentence_encoder.")
        if not found or prefix not in ("encoder", "decoder") or is_layer_copy(key):
            continue
        name = name.replace("emb_layer_norm.", "layernorm_embedding.")
        before, joined, kind = name.partition("self_attn.in_proj_")
        if joined:
            for letter, part in zip("qkv", tensor.chunk(3), strict=False):
                tensors[f"{before}self_attn.{letter}_proj.{kind}"] = part
        else:
            tensors[name] = tensor
    return tensors


def _heads(state: Mapping[str, Any]) -> int | None:
    """The attention heads that the saved settings name: `args` before fairseq 0.10, `cfg.model` since."""
    config = state.get("cfg")
    saved = state.get("args") or (config.get("model") if isinstance(config, dict) else None)
    settings = saved if isinstance(saved, dict) else vars(saved) if isinstance(saved, argparse.Namespace) else {}
    heads = settings.get("encoder_attention_heads")
    return heads if isinstance(heads, int) else None


def expected_shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The names and shapes that an encoder must have that has the word table, layers and norms of `tensors`."""
    rows, dim = _two(tensors, "embed_tokens.weight")
    positions, _ = _two(tensors, "embed_positions.weight")
    ffn, _ = _two(tensors, "layers.0.fc1.weight")
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (rows, dim),
        "embed_positions.weight": (positions, dim),
    }
    norms = ["layer_norm" if FINAL_NORM in tensors else "layernorm_embedding"]
    for layer in range(layer_count(tensors)):
        at = f"layers.{layer}"
        linear = {f"self_attn.{name}_proj": (dim, dim) for name in ("q", "k", "v", "out")}
        for name, shape in (linear | {"fc1": (ffn, dim), "fc2": (dim, ffn)}).items():
            shapes[f"{at}.{name}.weight"], shapes[f"{at}.{name}.bias"] = shape, shape[:1]
        norms += [f"{at}.self_attn_layer_norm", f"{at}.final_layer_norm"]
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (dim,)
    return shapes


def layer_count(tensors: Mapping[str, torch.Tensor]) -> int:
    """The number of layers: the highest layer number that a name has, and one."""
    numbers = [int(match[1]) for match in map(re.compile(r"layers\.(\d+)\.").match, tensors) if match]
    return max(numbers, default=-1) + 1


def _two(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, int]:
    """The two sizes of a matrix, zeros where there is none (a name and shape that then do not match are reported)."""
    tensor = tensors.get(name)
    return (tensor.shape[0], tensor.shape[1]) if tensor is not None and tensor.dim() == 2 else (0, 0)
