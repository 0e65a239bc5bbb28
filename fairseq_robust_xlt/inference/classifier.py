"""Use a checkpoint on new texts."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from fairseq_robust_xlt import host
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.inference import Input, wording
from fairseq_robust_xlt.text import join

#: What the encoder reads of an input, one by one: a sequence of one or two texts, in a choice one for each option.
_Sequences = tuple[tuple[str, ...], ...]

_LARGEST_WINDOW = 1024


@dataclass(frozen=True)
class Labelled:
    """The label of one input and the probability of every label, in the order of the benchmark's table.

    In a choice the labels are those of the options: the table's where it has as many, otherwise 1, 2, ...
    """

    label: str
    probabilities: dict[str, float]


def _several(inputs: Iterable[Input]) -> Iterable[Input]:
    """The inputs, if they can be several: one text would be taken for as many as it has characters."""
    if isinstance(inputs, str | bytes):
        raise UserError(f"inputs: given the text {inputs!r:.60}, expected a list of texts: [text]")
    if isinstance(inputs, Mapping):
        raise UserError("inputs: given one mapping, expected a list of inputs: [input]")
    if not isinstance(inputs, Iterable):
        raise UserError(f"inputs: given {inputs!r:.60}, expected a list of inputs")
    return inputs


class Classifier:
    """A checkpoint that a task of this package trained, ready to label texts in any language of its encoder.

    Everything needed stands in the checkpoint and in the files beside it. Runs on the GPU where there is one.
    Raises `UserError` for a file that is not such a checkpoint, or that would run code when it is loaded.
    """

    def __init__(self, checkpoint: str | os.PathLike[str], *, cpu: bool = False):
        import fairseq_robust_xlt

        fairseq_robust_xlt.register()
        from fairseq import checkpoint_utils

        self.path = path = os.fspath(checkpoint)
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
    def kind(self) -> str:
        """What an input is: "sentence" (a text), "pair" (two), or "choice" (a stem and any number of options)."""
        return self.benchmark.kind

    def predict(self, inputs: Iterable[Input], batch_size: int = 64) -> list[Labelled]:
        """Label inputs: texts, pairs of texts or choices, as the benchmark has them.

        Raises `UserError` for an empty text or an input that is none of these, with its number, and for one text
        instead of several inputs.
        """
        return list(self._stream(_several(inputs), batch_size, _LARGEST_WINDOW))

    def stream(self, inputs: Iterable[Input], batch_size: int = 64) -> Iterator[Labelled]:
        """As `predict`, in the order of the inputs and in bounded memory, however many there are.

        Inputs are taken in windows that grow from one to 1,024, so that the first results come at once and similar
        lengths share a batch later.
        """
        return self._stream(_several(inputs), batch_size, 1)

    def _stream(self, inputs: Iterable[Input], batch_size: int, size: int) -> Iterator[Labelled]:
        numbered = enumerate(inputs, start=1)
        while window := list(itertools.islice(numbered, size)):
            yield from self._window([self._sequences(number, given) for number, given in window], batch_size)
            size = min(2 * size, _LARGEST_WINDOW)

    def _sequences(self, number: int, given: Input) -> _Sequences:
        sequences = self._choice(number, given) if self.kind == "choice" else (self._texts(number, given),)
        if not all(text.strip() for texts in sequences for text in texts):
            raise UserError(f"input {number}: the text is empty")
        return sequences

    def _texts(self, number: int, given: Input) -> tuple[str, ...]:
        texts = (given,) if isinstance(given, str) else given
        expected = 2 if self.kind == "pair" else 1
        good = isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)
        if not good or len(texts) != expected:
            wanted = "2 texts" if expected == 2 else "a text"
            kind = f"{self.benchmark.name} is of kind {self.kind}"
            raise UserError(f"input {number}: expected {wanted}, given {given!r:.80}; {kind}")
        return tuple(texts)

    def _choice(self, number: int, given: Input) -> _Sequences:
        if isinstance(given, Mapping):
            stem, options = given.get("stem"), given.get("options")
            good = isinstance(options, list | tuple) and all(isinstance(option, str) for option in options)
            if good and len(options) > 1 and (stem is None or isinstance(stem, str)):  # type: ignore[arg-type]
                before = wording.stem(given, self.benchmark, f"input {number}")
                return tuple((before, option) if before else (option,) for option in options)  # type: ignore[union-attr]
        raise UserError(
            f'input {number}: expected {{"stem": a text, "options": [two or more texts]}}, given {given!r:.80}'
        )

    @torch.inference_mode()
    def _window(self, window: list[_Sequences], batch_size: int) -> list[Labelled]:
        texts = list(dict.fromkeys(text for sequences in window for texts in sequences for text in texts))
        pieces = dict(zip(texts, self.vocabulary.encode(texts), strict=True))
        rows = [
            [
                torch.from_numpy(join([pieces[text] for text in texts], self.vocabulary, self.max_length)[0]).long()
                for texts in sequences
            ]
            for sequences in window
        ]
        order = sorted(range(len(rows)), key=lambda i: max(map(len, rows[i])))
        results: list[Labelled | None] = [None] * len(rows)
        for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            tokens = torch.nn.utils.rnn.pad_sequence(
                [row for i in batch for row in rows[i]], batch_first=True, padding_value=self.vocabulary.pad
            )
            logits, _ = self.model(tokens.to(self.device), classification_head_name=self.head)
            counts = [len(rows[i]) for i in batch]
            for i, scores in zip(batch, logits.float().split(counts), strict=True):
                results[i] = self._labelled(torch.softmax(scores.flatten(), dim=0).tolist())
        return [result for result in results if result is not None]

    def _labelled(self, probabilities: list[float]) -> Labelled:
        if not all(map(math.isfinite, probabilities)):
            raise UserError(f"{self.path}: its scores are not finite; has the model diverged?")
        labels: Sequence[str] = self.labels
        if len(labels) != len(probabilities):
            labels = [str(number) for number in range(1, len(probabilities) + 1)]
        best = max(range(len(labels)), key=probabilities.__getitem__)
        return Labelled(labels[best], dict(zip(labels, probabilities, strict=True)))
