"""What a draft says of files that were read otherwise than their owner may have meant."""

from __future__ import annotations

from collections.abc import Sequence

from fairseq_robust_xlt.text.drafting.guessing import Guess, in_order
from fairseq_robust_xlt.text.drafting.samples import Sample


def unknown_labels(guesses: Sequence[tuple[Sample, Guess]]) -> list[str]:
    """A remark on the dev and test files with labels that no training file has; none where there is no training file,
    or the labels are those of options."""
    labels = {id(one): set(one.values(found.columns["label"])) for one, found in guesses}
    trained = {label for one, _ in guesses if one.file.split == "train" for label in labels[id(one)]}
    if not trained or guesses[0][1].kind == "choice":
        return []
    files: dict[tuple[str, ...], list[str]] = {}
    for one, _ in guesses:
        if unknown := labels[id(one)] - trained:
            files.setdefault(tuple(in_order(unknown)), []).append(one.file.path.name)
    return [
        f"{_several(names)}: no training file has the label{'s' if len(unknown) > 1 else ''} {_quoted(unknown)}; those "
        "that are other spellings of a training label belong under `label_names` of the layout ({theirs: the training "
        "label}), not under `labels`"
        for unknown, names in files.items()
    ]


def _several(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _quoted(values: Sequence[str]) -> str:
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(repr(value[:40]) for value in values[:5]) + more
