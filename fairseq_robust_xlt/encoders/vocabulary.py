"""Texts to dictionary ids and back: the only door to SentencePiece."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from fairseq_robust_xlt.errors import UserError

DICTIONARY = "dict.txt"
SENTENCEPIECE = "sentencepiece.bpe.model"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # the first four ids of every fairseq dictionary
MASK = "<mask>"

_MANY = 1000  # below this many texts starting threads costs more than they save


class Vocabulary:
    """The dictionary and the SentencePiece model of one encoder.

    Ids are fairseq's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the lines of dict.txt in order, `<mask>` last.

    Attributes:
        bos, pad, eos, unk, mask: ids of the special symbols.
        size: number of ids, the special symbols among them.
        piece_to_id: int32 array, from SentencePiece's id to the dictionary's. SentencePiece's own unknown and control
            pieces map to the dictionary's symbol of that name, and to `unk` where it has none.
    """

    bos, pad, eos, unk = range(4)

    def __init__(self, symbols: Sequence[str], processor: sentencepiece.SentencePieceProcessor, source: str):
        """`symbols` in the order of their ids (see `read_dictionary`); `source` names the two files in messages.

        Raises `UserError` where a piece that a text can turn into is not in the dictionary.
        """
        ids = {symbol: i for i, symbol in enumerate(symbols)}
        pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
        missing = [
            piece
            for i, piece in enumerate(pieces)
            if piece not in ids and not processor.is_control(i) and not processor.is_unknown(i)
        ]
        if missing:
            raise UserError(
                f"{source}: {len(missing)} of the {len(pieces)} pieces of {SENTENCEPIECE} are not in {DICTIONARY} "
                f"(the first is {missing[0]!r}); the two files belong to different encoders"
            )
        self.size = len(symbols)
        self.mask = ids[MASK]
        self.piece_to_id = np.array([ids.get(piece, self.unk) for piece in pieces], dtype=np.int32)
        self._processor = processor
        self._id_to_piece = np.full(self.size, processor.unk_id(), dtype=np.int64)
        self._id_to_piece[self.piece_to_id] = np.arange(len(pieces))
        self._id_to_piece[self.unk] = processor.unk_id()

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Vocabulary:
        """Read dict.txt and sentencepiece.bpe.model of an encoder directory.

        Raises `UserError` for a missing, malformed or damaged file, and for two files that do not belong together.
        """
        symbols = read_dictionary(Path(directory) / DICTIONARY)
        path = Path(directory) / SENTENCEPIECE
        try:
            proto = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.load_from_serialized_proto(proto)
        except RuntimeError as error:
            raise UserError(f"{path}: not a SentencePiece model, or a damaged one ({len(proto):,} bytes)") from error
        return cls(symbols, processor, str(directory))

    def encode(self, texts: Sequence[str], threads: int = 0) -> list[np.ndarray]:
        """The ids of each text (int32, one array a text), without `<s>` and `</s>`.

        `threads` 0 means one thread a core for many texts and one thread for few; data workers pass 1. The result
        does not depend on it. Raises `UserError` for a text that is not valid Unicode (it has a lone surrogate).
        """
        if len(texts) < _MANY:
            threads = 1
        elif threads < 1:
            threads = os.cpu_count() or 1
        try:
            encoded = self._processor.encode(list(texts), out_type=int, num_threads=threads)
        except (UnicodeEncodeError, TypeError):  # which of the two, depends on SentencePiece's version
            raise _not_unicode(texts) from None
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        flat = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64, count=int(lengths.sum()))
        ids, ends = self.piece_to_id[flat], np.cumsum(lengths).tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of dictionary ids. `<s>`, `<pad>`, `</s>` and `<mask>` are left out, `<unk>` shows as ` ⁇ `.

        Raises `UserError` for an id outside the dictionary.
        """
        given = np.fromiter(ids, dtype=np.int64)
        outside = given[(given < 0) | (given >= self.size)]
        if outside.size:
            raise UserError(f"id {outside[0]} is outside the dictionary: ids run from 0 to {self.size - 1}")
        given = given[~np.isin(given, (self.bos, self.pad, self.eos, self.mask))]
        return self._processor.decode(self._id_to_piece[given].tolist())


def read_dictionary(path: str | os.PathLike[str]) -> list[str]:
    """The symbols of a fairseq dictionary in the order of their ids: the four special ones, the lines, `<mask>`.

    As in fairseq a line is `PIECE COUNT`, and `<mask>` gets its last place only where no line has it. Raises
    `UserError` with file and line for a malformed line and for a piece that was there before.
    """
    symbols = dict.fromkeys(SPECIALS)
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                piece, _, count = line.rstrip().rpartition(" ")
                if not piece or not count.lstrip("-").isdecimal():
                    raise UserError(f"{path}:{number}: expected 'PIECE COUNT', found {line.rstrip()!r}")
                if piece in symbols:
                    raise UserError(f"{path}:{number}: the piece {piece!r} is in the dictionary already")
                symbols[piece] = None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error})") from error
    if len(symbols) == len(SPECIALS):
        raise UserError(f"{path}: the dictionary is empty; expected a line 'PIECE COUNT' for every piece")
    return list(symbols | {MASK: None})


def _not_unicode(texts: Iterable[str]) -> UserError:
    """The error that names the first text that UTF-8 cannot hold."""
    for number, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return UserError(f"text {number} is not valid Unicode (a lone surrogate): {text[:80]!r}")
    raise TypeError("texts must be strings")
