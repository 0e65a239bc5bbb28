"""Losses and gradients of what mixes or compares texts, against a computation of its own, from the papers.

Mixup: Zhang et al. 2018; xTune: Zheng et al. 2021; EAR: Ding et al. 2022.
"""

from __future__ import annotations

import pytest
import torch
from plain import KEY, PAD, Reference, divergence, run, scores, words_of

from fairseq_robust_xlt.criterions.mixup import Mixup
from fairseq_robust_xlt.perturbation import find_word_embeddings

__all__ = ["run"]  # a fixture


def test_mixup(run) -> None:
    training = run("--method", "mixup", "--mixup-alpha", "0.8")
    reference = Reference(training)
    keys = [(*KEY, int(i)) for i in training.batch["id"]]
    drawn = Mixup(0.8, training.batch, keys, find_word_embeddings(training.model), 1)
    assert drawn.partner.sort().values.tolist() == list(range(len(keys)))
    assert (drawn.partner != torch.arange(len(keys))).any()
    loss = torch.zeros((), dtype=torch.float64)
    for i, j in enumerate(drawn.partner.tolist()):  # one by one, without padding
        w = float(drawn.weight[i])
        own, other = (reference.tokens[k][reference.real[k]] for k in (i, j))
        a, b = words_of(reference.weights, own), words_of(reference.weights, other)
        shared = min(len(own), len(other))
        longer, rest = (own, a) if len(own) >= len(other) else (other, b)
        words = torch.cat([w * a[:shared] + (1 - w) * b[:shared], rest[shared:]])
        log_p = scores(reference.weights, longer[None], words[None]).log_softmax(-1)[0]
        loss = loss - w * log_p[reference.targets[i]] - (1 - w) * log_p[reference.targets[j]]
    assert len({len(row[row != PAD]) for row in reference.tokens}) > 2
    reference.check(training, loss)


@pytest.fixture(scope="module")
def two_views(run, synonyms):
    """A run whose batch has a noised view: the texts in another order, which are of other lengths."""

    def training(*flags: str):
        made = run(*flags, "--synonyms", str(synonyms))
        tokens = made.batch["net_input"]["src_tokens"]
        view = torch.cat([tokens.flip(0), torch.full_like(tokens[:, :1], PAD)], dim=1)
        view[view[:, -2].ne(PAD), -1] = 2  # rows longer than all of the clean view
        made.batch["noised_input"] = {"src_tokens": view, "src_lengths": view.ne(PAD).sum(1)}
        return made, view

    return training


def test_xtune(two_views) -> None:
    training, view = two_views("--method", "xtune", "--consistency-weight", "2")
    reference = Reference(training)
    clean = reference.logits(reference.zero)
    noised = scores(reference.weights, view, words_of(reference.weights, view))
    term = divergence("kl", clean.detach(), noised) + divergence("kl", noised.detach(), clean)
    assert term > 0.01
    reference.check(training, reference.cross_entropy(clean).sum() + 2 * term)


def test_xtune_stage2_but_for_its_teacher(two_views) -> None:
    """Both texts are trained on, each with its weight (the teacher has a test of its own)."""
    weights = ("--clean-weight", "0.5", "--perturbed-weight", "0.7", "--consistency-weight", "2")
    training, view = two_views("--method", "xtune-stage2", *weights, "--teacher-weight", "0")
    reference = Reference(training)
    clean = reference.logits(reference.zero)
    noised = scores(reference.weights, view, words_of(reference.weights, view))
    term = divergence("kl", clean.detach(), noised) + divergence("kl", noised.detach(), clean)
    losses = [reference.cross_entropy(logits).sum() for logits in (clean, noised)]
    assert abs(losses[0] - losses[1]) > 1e-2
    reference.check(training, 0.5 * losses[0] + 0.7 * losses[1] + 2 * term)


@pytest.mark.parametrize("layer", [1, 2])
def test_ear(two_views, layer) -> None:
    flags = ("--embedding-push", "0.3", "--attention-pull", "5", "--attention-layer", str(layer))
    training, view = two_views("--method", "ear", *flags)
    reference = Reference(training)
    means, maps, losses = [], [], []
    for tokens in (reference.tokens, view):
        real = tokens.ne(PAD)

        def embeddings(number, hidden, real=real):
            if number == 1:
                means.append(torch.stack([row[keep].mean(0) for row, keep in zip(hidden, real, strict=True)]))
            return hidden

        logits = scores(
            reference.weights,
            tokens,
            words_of(reference.weights, tokens),
            embeddings,
            lambda number, found: maps.append(found) if number == layer else None,
        )
        losses.append(reference.cross_entropy(logits).sum())
    push = (means[0] - means[1]).square().mean(-1).sum()
    pull = torch.zeros((), dtype=torch.float64)
    lengths = [tokens.ne(PAD).sum(1).tolist() for tokens in (reference.tokens, view)]
    for i, (n, m) in enumerate(zip(*lengths, strict=True)):
        one, other = (torch.zeros(2, max(n, m), max(n, m), dtype=torch.float64) for _ in range(2))
        one[:, :n, :n], other[:, :m, :m] = maps[0][i, :, :n, :n], maps[1][i, :, :m, :m]
        pull = pull + (one - other).square().mean()
    assert push > 1e-3
    assert pull > 1e-3
    reference.check(training, losses[0] + losses[1] - 0.3 * push + 5 * pull)
