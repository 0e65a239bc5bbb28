"""Words replaced by synonyms: the noise of RS-DA.

Huang et al. (2021), Improving Zero-Shot Cross-Lingual Transfer Learning via Robust Training, EMNLP 2021: randomized
smoothing by data augmentation. Their code replaces words offline, a fixed number of copies per example; here the draw
is made anew in every epoch.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.noise.base import generator

# What separates tokens, kept by the split so that it can be put back.
_SEPARATORS = {"word": re.compile(r"(\s+)"), "exact": re.compile("( )")}


class _Hit(NamedTuple):
    """A token that can be replaced: `before` + one of the synonyms, with the capitals of `pattern`, + `after`."""

    before: str
    pattern: str
    synonyms: tuple[str, ...]
    after: str


class SynonymTable:
    """Synonyms by word; only words that have any."""

    def __init__(self, synonyms: Mapping[str, Iterable[str]]) -> None:
        # A synonym that is listed twice, or is the word itself, would otherwise be drawn more often than the rest.
        distinct = {word: tuple(s for s in dict.fromkeys(given) if s != word) for word, given in synonyms.items()}
        self.synonyms = {word: others for word, others in distinct.items() if others}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SynonymTable:
        """Read a JSON file that maps each word to a list of synonyms (as `counterfitted_neighbors.json` does).

        Raises `UserError` for a missing file, invalid JSON and any other shape, with the word concerned.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"--synonyms: cannot read {path}: {error.strerror or error}") from error
        except json.JSONDecodeError as error:
            raise UserError(f"--synonyms: {path}:{error.lineno}: not valid JSON: {error.msg}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"--synonyms: {path}: not UTF-8 text: {error.reason}") from error
        if not isinstance(content, dict):
            raise UserError(f"--synonyms: {path}: expected a JSON object of word -> list of synonyms")
        for word, synonyms in content.items():
            if not word:
                raise UserError(f"--synonyms: {path}: one of the words is empty")
            if not (isinstance(synonyms, list) and all(isinstance(s, str) and s.strip() for s in synonyms)):
                raise UserError(
                    f"--synonyms: {path}: the word {word!r} has {synonyms!r}, expected a list of synonyms (texts)"
                )
        return cls(content)


class SynonymNoise:
    """Replace each word that has synonyms by a uniform draw from itself and its synonyms.

    `match="exact"` is the published code's rule: tokens are separated by single spaces and must be a word of the table
    letter by letter, so that "Films" or "film," stay as they are. `match="word"` also finds a word inside punctuation
    and whatever its capitals, and gives the synonym the same punctuation and capitals. Everything else stays.
    """

    name = "synonyms"

    def __init__(self, table: SynonymTable, match: str = "word") -> None:
        if match not in _SEPARATORS:
            raise errors.unknown("match", match, _SEPARATORS, "--synonym-match")
        self._synonyms = table.synonyms
        self._separator = _SEPARATORS[match]
        self._find = self._find_exact if match == "exact" else self._find_word

    def __call__(self, texts: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
        return tuple([self._substitute(text, rng)[0] for text in texts])

    def coverage(self, texts: Iterable[str]) -> float:
        """The share of tokens that have a synonym; 0 where there are no tokens."""
        tokens = [token for text in texts for token in self._separator.split(text)[::2] if token]
        return sum(self._find(token) is not None for token in tokens) / max(len(tokens), 1)

    def replaced(self, texts: Iterable[str], seed: int = 1) -> float:
        """The share of tokens that one draw of this noise replaces; 0 where there are no tokens."""
        changes = tokens = 0
        for index, text in enumerate(texts):
            tokens += sum(map(bool, self._separator.split(text)[::2]))
            changes += self._substitute(text, generator(seed, 0, index, self.name))[1]
        return changes / max(tokens, 1)

    def _substitute(self, text: str, rng: np.random.Generator) -> tuple[str, int]:
        """The noised text and the number of tokens that changed."""
        pieces = self._separator.split(text)  # token, separator, token, ..., token
        hits = [(i, hit) for i in range(0, len(pieces), 2) if (hit := self._find(pieces[i])) is not None]
        changes = 0
        for (i, hit), draw in zip(hits, rng.random(len(hits)), strict=True):
            choice = int(draw * (len(hit.synonyms) + 1))  # 0 is the word itself
            if choice:
                pieces[i] = hit.before + _with_capitals(hit.synonyms[choice - 1], hit.pattern) + hit.after
                changes += 1
        return "".join(pieces), changes

    def _find_exact(self, token: str) -> _Hit | None:
        synonyms = self._synonyms.get(token)
        return _Hit("", "", synonyms, "") if synonyms else None

    def _find_word(self, token: str) -> _Hit | None:
        """The token as it is, else the word inside its punctuation, else that word in small letters."""
        if hit := self._find_exact(token):
            return hit
        start, end = 0, len(token)
        while start < end and _is_punctuation(token[start]):
            start += 1
        while start < end and _is_punctuation(token[end - 1]):
            end -= 1
        word = token[start:end]
        if synonyms := self._synonyms.get(word):
            return _Hit(token[:start], "", synonyms, token[end:])
        if synonyms := self._synonyms.get(word.lower()):
            return _Hit(token[:start], word, synonyms, token[end:])
        return None


def _is_punctuation(character: str) -> bool:
    # By Unicode category, as a regular expression's \W also takes in the vowel signs of Hindi, Thai and others.
    return unicodedata.category(character)[0] in "PS"


def _with_capitals(synonym: str, pattern: str) -> str:
    """The synonym in the capitals of `pattern`; as it is where that is empty."""
    if len(pattern) > 1 and pattern.isupper():
        return synonym.upper()
    if pattern[:1].isupper():
        return synonym[0].upper() + synonym[1:]
    return synonym
