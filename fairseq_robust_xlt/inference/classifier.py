"""Use a checkpoint on new texts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from fairseq_robust_xlt import host
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import join

#: A text, or the two texts of a pair.
Input = str | Sequence[str]

_LARGEST_WINDOW = 1024


@dataclass(frozen=True)
class Labelled:
    """The label of one input and the probability of every label, in the order of the benchmark's table."""

    label: str
    probabilities: dict[str, float]


class Classifier:
    """A checkpoint that a task of this package trained, ready to label texts in any language of its encoder.

    Everything needed stands in the checkpoint and in the files beside it. Runs on the GPU where there is one.
    Raises `UserError` for a file that is not such a checkpoint, or that would run code when it is loaded.
    """

    def __init__(self, checkpoint: str | os.PathLike[str], *, cpu: bool = False):
        import fairseq_robust_xlt

        fairseq_robust_xlt.register()
        from fairseq import checkpoint_utils

        path = os.fspath(checkpoint)
        overrides = {"path": path}
        state = host.load_own(path, overrides)
        models, _, task = checkpoint_utils.load_model_ensemble_and_task([path], overrides, state=state)
        self.device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
        self.model = models[0].eval().to(self.device)
        self.vocabulary, self.benchmark, self.record = task.vocabulary, task.benchmark, task.record
        self.head, self.max_length = task.cfg.classification_head_name, task.cfg.max_length

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the class index."""
        return self.benchmark.labels

    @property
    def texts(self) -> int:
        """How many texts an input has: 1, or 2 for pairs."""
        return 2 if self.benchmark.kind == "pair" else 1

    def predict(self, inputs: Iterable[Input], batch_size: int = 64) -> list[Labelled]:
        """Label inputs: texts, or pairs of texts where the benchmark is one of pairs.

        Raises `UserError` for an empty text or an input with another number of texts, with its number.
        """
        return list(self._stream(inputs, batch_size, _LARGEST_WINDOW))

    def stream(self, inputs: Iterable[Input], batch_size: int = 64) -> Iterator[Labelled]:
        """As `predict`, in the order of the inputs and in bounded memory, however many there are.

        Inputs are taken in windows that grow from one to 1,024, so that the first results come at once and similar
        lengths share a batch later.
        """
        return self._stream(inputs, batch_size, 1)

    def _stream(self, inputs: Iterable[Input], batch_size: int, size: int) -> Iterator[Labelled]:
        numbered = enumerate(inputs, start=1)
        while window := list(itertools.islice(numbered, size)):
            yield from self._window([self._texts(number, given) for number, given in window], batch_size)
            size = min(2 * size, _LARGEST_WINDOW)

    def _texts(self, number: int, given: Input) -> tuple[str, ...]:
        texts = (given,) if isinstance(given, str) else tuple(given)
        if len(texts) != self.texts:
            raise UserError(f"input {number}: has {len(texts)} texts, {self.benchmark.name} takes {self.texts}")
        if not all(text.strip() for text in texts):
            raise UserError(f"input {number}: the text is empty")
        return texts

    @torch.inference_mode()
    def _window(self, window: list[tuple[str, ...]], batch_size: int) -> list[Labelled]:
        pieces = iter(self.vocabulary.encode([text for texts in window for text in texts]))
        rows = [
            torch.from_numpy(join([next(pieces) for _ in texts], self.vocabulary, self.max_length)[0]).long()
            for texts in window
        ]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        results: list[Labelled | None] = [None] * len(rows)
        for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            tokens = torch.nn.utils.rnn.pad_sequence(
                [rows[i] for i in batch], batch_first=True, padding_value=self.vocabulary.pad
            )
            logits, _ = self.model(tokens.to(self.device), classification_head_name=self.head)
            for i, row in zip(batch, torch.softmax(logits.float(), dim=-1).tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                results[i] = Labelled(self.labels[best], dict(zip(self.labels, row, strict=True)))
        return [result for result in results if result is not None]
