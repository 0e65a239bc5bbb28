"""Encoder directories: what is in one, and whether it can be used.

An encoder directory is laid out as XLM-R is published: `model.pt`, `dict.txt`, `sentencepiece.bpe.model`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fairseq_robust_xlt.encoders.shapes import fitting
from fairseq_robust_xlt.encoders.vocabulary import Vocabulary
from fairseq_robust_xlt.encoders.weights import FINAL_NORM, Weights, expected_shapes, layer_count, read_weights
from fairseq_robust_xlt.errors import UserError

MODEL = "model.pt"
_PADDING = 1  # fairseq's padding id; its positions are counted from the row after it


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder directory holds.

    Attributes:
        path: the directory.
        layers, dim, ffn: number of layers, their width, the width of their feed-forward part.
        heads: attention heads, or None where the checkpoint does not say.
        positions: the longest input in tokens, `<s>` and `</s>` included.
        rows: rows of the word table.
        dictionary_size: ids of the dictionary, the four special symbols and `<mask>` included.
        pieces: pieces of the SentencePiece model.
        pre_norm: whether the layers normalise before attention and feed-forward (XLM-R XL and XXL).
        arch: the architecture of ours that fits, or None.
        dtype: of the word table, such as "float16".
        has_lm_head: whether there is a masked-language-model head.
    """

    path: Path
    layers: int
    dim: int
    heads: int | None
    ffn: int
    positions: int
    rows: int
    dictionary_size: int
    pieces: int
    pre_norm: bool
    arch: str | None
    dtype: str
    has_lm_head: bool

    @property
    def padding_rows(self) -> int:
        """Rows of the word table past the dictionary, which no text reaches (XLM-R XL and XXL have such rows)."""
        return self.rows - self.dictionary_size

    def flags(self) -> str:
        """The fairseq-train flags that build this encoder and load its weights, quoted for a shell.

        Raises `UserError` where the number of attention heads is unknown.
        """
        if self.arch:
            flags = ["--arch", self.arch]
        elif self.heads is None:
            raise UserError(
                f"{self.path / MODEL}: {self.layers} layers of {self.dim} fit no architecture, and the checkpoint does "
                "not say how many attention heads they have; name a close one with --arch and give "
                "--encoder-layers, --encoder-embed-dim, --encoder-ffn-embed-dim and --encoder-attention-heads"
            )
        else:
            flags = ["--arch", "xlmr_xl" if self.pre_norm else "xlmr_base"]
            flags += ["--encoder-layers", str(self.layers), "--encoder-embed-dim", str(self.dim)]
            flags += ["--encoder-ffn-embed-dim", str(self.ffn), "--encoder-attention-heads", str(self.heads)]
        if self.positions != 512:
            flags += ["--max-positions", str(self.positions)]
        flags += ["--encoder", str(self.path), "--finetune-from-model", str(self.path / MODEL)]
        return shlex.join(flags)


def inspect(directory: str | os.PathLike[str]) -> EncoderInfo:
    """Read the sizes of an encoder directory; its weights stay in the file.

    Raises `UserError` for a missing or unreadable file, and for a dictionary and a SentencePiece model that do not
    belong together.
    """
    return _read(Path(directory))[0]


def check(directory: str | os.PathLike[str]) -> EncoderInfo:
    """Check an encoder directory completely, weights included.

    Raises `UserError` as `inspect` does, and for a tensor that is missing or has the wrong shape, for a word table
    with fewer rows than the dictionary has ids, and for weights that are not finite. More rows than ids are allowed
    (`EncoderInfo.padding_rows`).
    """
    info, weights = _read(Path(directory))
    model = info.path / MODEL
    for name, shape in expected_shapes(weights.tensors).items():
        if name not in weights.tensors:
            raise UserError(f"{model}: the encoder's {name} is missing ({info.layers} layers of {info.dim})")
        if tuple(weights.tensors[name].shape) != shape:
            found = tuple(weights.tensors[name].shape)
            raise UserError(f"{model}: the encoder's {name} has shape {found}, expected {shape}")
    if info.padding_rows < 0:
        raise UserError(
            f"{model}: the word table has {info.rows} rows, fewer than the {info.dictionary_size} ids of "
            f"{info.path / 'dict.txt'} (4 special symbols, its lines, <mask>); the files belong to different encoders"
        )
    _check_finite(model, weights.model)
    return info


def _read(directory: Path) -> tuple[EncoderInfo, Weights]:
    if not directory.is_dir():
        raise UserError(
            f"{directory}: no such directory; an encoder directory holds {MODEL}, dict.txt and sentencepiece.bpe.model"
        )
    vocabulary = Vocabulary.load(directory)
    weights = read_weights(directory / MODEL)
    tensors = weights.tensors
    shapes = expected_shapes(tensors)
    layers, (rows, dim) = layer_count(tensors), shapes["embed_tokens.weight"]
    ffn = shapes["layers.0.fc1.weight"][0]
    pre_norm = FINAL_NORM in tensors
    info = EncoderInfo(
        path=directory,
        layers=layers,
        dim=dim,
        heads=weights.heads,
        ffn=ffn,
        positions=shapes["embed_positions.weight"][0] - _PADDING - 1,
        rows=rows,
        dictionary_size=vocabulary.size,
        pieces=len(vocabulary.piece_to_id),
        pre_norm=pre_norm,
        arch=fitting(layers, dim, ffn, weights.heads, pre_norm),
        dtype=str(tensors["embed_tokens.weight"].dtype).removeprefix("torch."),
        has_lm_head=any(".lm_head." in name for name in weights.model),
    )
    return info, weights


def _check_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        # The extremes of a tensor that has a NaN are NaN; they cost a twentieth of asking every value.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise UserError(f"{path}: {name} has {bad} values that are not finite (NaN or infinite)")
