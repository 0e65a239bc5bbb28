"""fairseq's view of encoded examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset, data_utils

from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.encoders import Vocabulary
from fairseq_robust_xlt.noise import NoiseChain
from fairseq_robust_xlt.text import Encoded, Example, join, length_grouped_order


class CrossLingualDataset(FairseqDataset):
    """Encoded examples, batched by similar length; in training shuffled and noised anew each epoch.

    A pure function of (examples, seed, epoch): any number of data workers and processes sees the same.
    """

    def __init__(
        self,
        examples: list[Example],
        encoded: Encoded,
        benchmark: Benchmark,
        vocabulary: Vocabulary,
        max_length: int,
        seed: int,
        name: str,
        shuffle: bool = False,
        noise: NoiseChain | None = None,
        two_views: bool = False,
    ):
        self.examples, self.encoded, self.vocabulary = examples, encoded, vocabulary
        self.max_length, self.seed, self.shuffle, self.noise = max_length, seed, shuffle, noise
        self.two_views = two_views  # the noised text beside the clean one, not in its place
        self.sizes = encoded.sizes
        self.name = name
        self.epoch = 1
        indices = {language: index for index, language in enumerate(benchmark.languages)}
        self.labels = torch.tensor([-1 if e.label is None else e.label for e in examples])  # -1: not known
        # Pairs of languages are not among them: there may be hundreds, too many for a log.
        self.languages = torch.tensor([indices.get(e.language, -1) for e in examples])
        self.multilingual = len(self.languages.unique()) > 1 and bool((self.languages >= 0).all())
        self.options = len(benchmark.labels) if benchmark.kind == "choice" else None

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = self._tokens(index, None if self.two_views else self.noise)
        return {
            "id": index,
            "tokens": tokens,
            **({"noised": self._tokens(index, self.noise)} if self.two_views else {}),
        }

    def _tokens(self, index: int, noise: NoiseChain | None) -> list[torch.Tensor]:
        count = self.encoded.sequences(index)
        if noise is None:
            arrays = [self.encoded.item(index, i) for i in range(count)]
        else:
            sequences = noise(self.examples[index].sequences, self.seed, self.epoch, index)
            pieces = iter(self.vocabulary.encode([text for texts in sequences for text in texts], threads=1))
            arrays = [join([next(pieces) for _ in texts], self.vocabulary, self.max_length)[0] for texts in sequences]
        return [torch.from_numpy(ids.astype(np.int64)) for ids in arrays]

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch: `src_tokens` [rows, length] padded on the right, `target` [batch], perhaps `language` [batch].

        A row for each example; in a multiple choice one for each of its `options`, those of an example side by side.
        Where a method compares two views of a text, `noised_input` is as `net_input`, which is clean then, and as long.
        """
        if not samples:
            return {}
        ids = torch.tensor([sample["id"] for sample in samples])
        views = ["tokens", "noised"] if self.two_views else ["tokens"]
        # All views are padded to one length: on a CPU fairseq draws dropout masks and left out layers from one stream,
        # and two passes share them only where they draw as many numbers.
        lengths = [{len(row) for sample in samples for row in sample[view]} for view in views]
        longest = max(map(max, lengths))
        # And on a GPU a pass without any padding goes through other kernels, with other masks, than one with some.
        without = [length == {longest} for length in lengths]
        longest += any(without) and not all(without)
        inputs = [self._padded(samples, view, longest) for view in views]
        return {
            "subset": self.name,
            "id": ids,
            "net_input": inputs[0],
            **({"noised_input": inputs[1]} if self.two_views else {}),
            "target": self.labels[ids],
            # An accuracy for each language is logged where there are several.
            **({"language": self.languages[ids]} if self.multilingual else {}),
            **({"options": self.options} if self.options else {}),
            "nsentences": len(samples),
            "ntokens": int(inputs[0]["src_lengths"].sum()),
        }

    def _padded(self, samples: list[dict[str, Any]], view: str, length: int) -> dict[str, torch.Tensor]:
        rows = [tokens for sample in samples for tokens in sample[view]]
        lengths = torch.tensor([len(row) for row in rows])
        tokens = data_utils.collate_tokens(rows, self.vocabulary.pad, pad_to_length=length)
        return {"src_tokens": tokens, "src_lengths": lengths}

    def num_tokens(self, index: int) -> int:
        """What counts towards --max-tokens: every option's row is as long as the longest."""
        return int(self.sizes[index]) * (self.options or 1)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.sizes[indices] * (self.options or 1)

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> np.ndarray:
        """Similar lengths side by side; fairseq cuts this order into batches and shuffles those in training."""
        if self.shuffle:
            return length_grouped_order(self.sizes, self.seed, self.epoch)
        return np.argsort(self.sizes, kind="stable")

    def filter_indices_by_size(self, indices, max_sizes):
        """Nothing is too long: examples were truncated when they were encoded (fairseq would drop them)."""
        return indices, []

    @property
    def supports_prefetch(self) -> bool:
        return False

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return not self.shuffle

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
