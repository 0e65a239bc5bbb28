"""Examples to token ids, in XLM-R's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.examples import Example

Tokens = npt.NDArray[np.int32]

# Four special tokens of a pair and a little text; anything shorter is a slip of the hand.
_SHORTEST = 8


class Vocabulary(Protocol):
    """What encoding needs of an encoder's vocabulary."""

    @property
    def bos(self) -> int: ...

    @property
    def eos(self) -> int: ...

    def encode(self, texts: Sequence[str], threads: int) -> list[Tokens]:
        """The token ids of every text, without special tokens; with 0 threads as many as there are cores."""


class Encoded:
    """Encoded examples in two flat arrays, which copy cheaply to data workers.

    `tokens` int32 holds all sequences one after the other; sequence s spans `offsets[s]` to `offsets[s + 1]`, and
    example i has the sequences `starts[i]` to `starts[i + 1]` (one, or one per option of a choice).
    `sizes[i]` is the number of tokens in the example's longest sequence; `truncated` counts the examples that lost
    tokens to the length limit.
    """

    def __init__(self, sequences: Sequence[Tokens], per_example: Sequence[int], truncated: int) -> None:
        self.tokens: Tokens = np.concatenate(sequences) if sequences else np.empty(0, np.int32)
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        self.offsets = np.concatenate(([0], np.cumsum(lengths)))
        self.starts = np.concatenate(([0], np.cumsum(np.asarray(per_example, dtype=np.int64))))
        self.sizes: npt.NDArray[np.int64] = np.maximum.reduceat(lengths, self.starts[:-1]) if sequences else lengths
        self.truncated = truncated

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sequences(self, example: int) -> int:
        """How many sequences the example has."""
        return int(self.starts[example + 1] - self.starts[example])

    def item(self, example: int, sequence: int = 0) -> Tokens:
        """The token ids of one of an example's sequences; a view, not to be written to."""
        if not (0 <= example < len(self) and 0 <= sequence < self.sequences(example)):
            raise IndexError(f"no sequence {sequence} of example {example} among {len(self)}")
        position = self.starts[example] + sequence
        return self.tokens[self.offsets[position] : self.offsets[position + 1]]


def encode(examples: Sequence[Example], vocabulary: Vocabulary, max_length: int) -> Encoded:
    """Encode examples with SentencePiece on all cores, each sequence as `join` writes it.

    A text that occurs several times (the stem of a choice, a text that is paired with others) is encoded once.
    Raises `UserError` if `max_length` is below 8.
    """
    check_max_length(max_length)
    texts = list(dict.fromkeys(text for example in examples for sequence in example.sequences for text in sequence))
    pieces = dict(zip(texts, vocabulary.encode(texts, threads=0), strict=True))
    sequences: list[Tokens] = []
    truncated = 0
    for example in examples:
        cut = False
        for sequence in example.sequences:
            ids, shortened = join([pieces[text] for text in sequence], vocabulary, max_length)
            sequences.append(ids)
            cut |= shortened
        truncated += cut
    return Encoded(sequences, [len(example.sequences) for example in examples], truncated)


def join(parts: Sequence[Tokens], vocabulary: Vocabulary, max_length: int) -> tuple[Tokens, bool]:
    """One or two texts' token ids as XLM-R's input: `<s> a </s>` or `<s> a </s></s> b </s>`.

    At most `max_length` tokens, special ones included: tokens are cut from the end, one at a time from the text that
    is longer at that moment, from the second where both are equally long. Returns int32 ids and whether any were cut.
    """
    bos, eos = vocabulary.bos, vocabulary.eos
    room = max_length - 2 * len(parts)
    keep = [len(part) for part in parts]
    truncated = sum(keep) > room
    if truncated:
        keep = [room] if len(parts) == 1 else _keep(keep[0], keep[1], room)
    ids = np.full(sum(keep) + 2 * len(parts), eos, np.int32)
    ids[0] = bos
    position = 1
    for part, length in zip(parts, keep, strict=True):
        ids[position : position + length] = part[:length]
        position += length + 2
    return ids, truncated


def check_max_length(max_length: int) -> None:
    """Raises `UserError` for a length limit that leaves no room for text."""
    if max_length < _SHORTEST:
        raise UserError(f"--max-length: given {max_length}, expected at least {_SHORTEST} (it counts special tokens)")


def _keep(first: int, second: int, room: int) -> list[int]:
    """The lengths at which cutting the longer of two texts, token by token, ends; the closed form of that loop."""
    if first <= (room + 1) // 2:
        return [first, room - first]
    if second <= room // 2:
        return [room - second, second]
    return [(room + 1) // 2, room // 2]
