"""From `--noise a+b` to the noises of these names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairseq_robust_xlt import errors
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.noise.base import Noise, NoiseChain
from fairseq_robust_xlt.noise.synonyms import SynonymNoise, SynonymTable


@dataclass(frozen=True)
class NoiseOptions:
    """The flags that the noises read: the file of `--synonyms`, and how words match it ("word" or "exact")."""

    synonyms: str | None = None
    synonym_match: str = "word"


def _synonyms(options: NoiseOptions) -> Noise:
    if not options.synonyms:
        raise UserError("--synonyms: the noise 'synonyms' needs a table, a JSON file that maps a word to its synonyms")
    return SynonymNoise(SynonymTable.load(options.synonyms), options.synonym_match)


NOISES: dict[str, Callable[[NoiseOptions], Noise]] = {"synonyms": _synonyms}


def build(spec: str, options: NoiseOptions) -> NoiseChain:
    """The noises named in `spec`, joined by `+`, in that order.

    Raises `UserError` for an unknown name, a name given twice, and whatever the noises find wrong with their options.
    """
    names = [name.strip() for name in spec.split("+")]
    for name in names:
        if name not in NOISES:
            raise errors.unknown("noise", name, NOISES, "--noise")
        if names.count(name) > 1:
            raise UserError(f"--noise: {name!r} is given twice in {spec!r}")
    return NoiseChain([NOISES[name](options) for name in names])
