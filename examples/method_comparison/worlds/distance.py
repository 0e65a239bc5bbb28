"""Measure how far each language of a world lies from the source in the pre-trained encoder's word embeddings.

Usage: distance.py WORLD ("WORLD/words.json" and "WORLD/encoder"); writes WORLD/distance.json

For every target language, over the concepts with a topic whose form there is no other concept's and not the source's:

    word        share whose nearest source word (by cosine, among all concepts with a topic) has the same meaning
    topic       share whose nearest source word is on the same topic
    cosine      mean cosine with the source's word of the same meaning
    length      mean l2 distance to it, in mean norms of the word embeddings: the unit of --radius
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from fairseq_robust_xlt.encoders import Vocabulary
from fairseq_robust_xlt.encoders.weights import read_weights
from fairseq_robust_xlt.files import atomic_write
from fairseq_robust_xlt.perturbation import mean_embedding_norm


def measure(world: Path) -> dict[str, dict[str, float]]:
    """language -> measure -> value."""
    words = json.loads((world / "words.json").read_text(encoding="utf-8"))
    vocabulary = Vocabulary.load(world / "encoder")
    weights = read_weights(world / "encoder/model.pt").tensors["embed_tokens.weight"]
    norm = mean_embedding_norm(weights, special=(0, 1, 2, 3, len(weights) - 1))
    table = weights.to(torch.float64).numpy()

    def vectors(language: str, concepts: list[int]) -> np.ndarray:
        """[concepts, dim]: the mean over each concept's forms."""
        forms = words["forms"][language]
        return np.stack([table[np.concatenate(vocabulary.encode(forms[concept]))].mean(axis=0) for concept in concepts])

    topics = np.array(words["topic"])
    content = np.flatnonzero(topics >= 0)
    source, *targets = (language["name"] for language in words["languages"])
    of_source = vectors(source, content.tolist())
    result = {}
    for language in targets:
        forms = words["forms"][language]
        uses = Counter(form for own in (*forms, *words["forms"][source]) for form in own)
        own = np.array([c for c in content if all(uses[form] == 1 for form in forms[c])])
        of_target = vectors(language, own.tolist())
        cosines = _unit(of_target) @ _unit(of_source).T
        nearest = content[cosines.argmax(axis=1)]
        same = np.searchsorted(content, own)
        result[language] = {
            "concepts": len(own),
            "word": float((nearest == own).mean()),
            "topic": float((topics[nearest] == topics[own]).mean()),
            "cosine": float(cosines[np.arange(len(own)), same].mean()),
            "length": float(np.linalg.norm(of_target - of_source[same], axis=1).mean() / norm),
        }
    return result


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    measured = measure(folder)
    with atomic_write(folder / "distance.json") as file:
        json.dump(measured, file, indent=1)
        file.write("\n")
    for name, values in measured.items():
        print(folder.name, name, *(f"{key} {value:.2f}" for key, value in values.items() if key != "concepts"))
