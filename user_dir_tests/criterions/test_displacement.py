"""Which tokens are perturbed, and what arrives of a perturbation in 16 bits."""

from __future__ import annotations

import logging

import pytest
import torch
from plain import Reference, into_the_ball, length, run

from fairseq_robust_xlt.criterions import alone, robust_classification
from fairseq_robust_xlt.criterions.displacement import Displacement

__all__ = ["run"]  # a fixture

SPECIAL = torch.tensor([0, 1, 2])  # <s>, padding, </s>
WORDS = ("--perturb-tokens", "words")


def words_alone(training) -> Reference:
    reference = Reference(training)
    reference.real = ~torch.isin(reference.tokens, SPECIAL)
    assert (reference.real.sum(1) == reference.tokens.ne(1).sum(1) - 2).all()
    return reference


def test_random_perturbations_of_words_alone(run) -> None:
    training = run("--method", "rs-rp", *WORDS)
    reference = words_alone(training)
    reference.check(training, reference.losses(reference.drawn("gaussian", 0.5 * reference.unit)).sum())


def test_an_ascent_on_words_alone(run) -> None:
    training = run("--method", "adv", "--perturb-step-size", "0.7", *WORDS)
    reference = words_alone(training)
    radius = 0.01 * reference.unit
    delta = reference.drawn("uniform", radius)
    g = reference.gradient(delta) * reference.real.unsqueeze(-1)
    delta = into_the_ball(delta + 0.7 * radius * g / length(g), radius)
    assert (delta[~reference.real] == 0).all()
    assert length(delta)[reference.real].min() > 0
    reference.check(training, reference.losses(delta).sum())


def test_the_ball_of_a_sequence_counts_the_words(run) -> None:
    training = run("--method", "fgm", "--perturb-scope", "sequence", *WORDS)
    reference = words_alone(training)
    g = reference.gradient(reference.zero) * reference.real.unsqueeze(-1)
    radius = 0.05 * reference.unit * reference.real.sum(1).double().sqrt()[:, None, None]
    delta = radius * g / g.square().sum((1, 2), keepdim=True).sqrt()
    reference.check(training, 0.5 * reference.losses(reference.zero).sum() + 0.5 * reference.losses(delta).sum())


def test_the_unit_at_a_layer_is_that_of_all_tokens(run) -> None:
    training = run("--method", "rs-rp", "--perturb-layer", "2", *WORDS)
    everything = run("--method", "rs-rp", "--perturb-layer", "2")
    tokens = training.batch["net_input"]["src_tokens"]
    hidden = torch.randn(*tokens.shape, 64)
    moved = {}
    for name, one in (("words", training), ("all", everything)):
        displacement = Displacement(one.criterion.recipe, one.model, tokens, len(tokens))
        moved[name] = displacement.change(torch.ones_like(hidden) * displacement.mask.unsqueeze(-1))(hidden) - hidden
    words = ~torch.isin(tokens, SPECIAL)
    torch.testing.assert_close(moved["words"][words], moved["all"][words])
    assert (moved["words"][~words] == 0).all()
    assert (moved["all"][tokens.eq(0)] != 0).all()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "radius", "lost"),
    [
        *((torch.bfloat16, 0.5, False), (torch.bfloat16, 1e-4, True)),
        *((torch.float16, 0.003, False), (torch.float32, 1e-4, False)),
    ],
)
def test_the_log_tells_what_arrived(dtype, radius, lost, layer, caplog, monkeypatch) -> None:
    """In 16 bits a sum is rounded: between numbers that are farther from each other than that, nothing is moved."""
    from fairseq.logging import metrics

    torch.manual_seed(2)
    model = alone.model("xlmr_nano", 60, dropout=0.0, attention_dropout=0.0, pooler_dropout=0.0)
    model.keep_embedding_norm()
    model = model.to(dtype)
    criterion = alone.criterion("rs-rp", radius=radius, perturb_draw="sphere", perturb_layer=layer)
    batch = alone.batch(8, 6, 60)
    seen = []
    unhooked = Displacement.change

    def watched(self, delta):
        change = unhooked(self, delta)

        def moved(hidden):
            result = change(hidden)
            seen.append((hidden.detach().double(), result.detach().double()))
            return result

        return moved

    monkeypatch.setattr(Displacement, "change", watched)
    monkeypatch.setattr(robust_classification, "_rounded", False)
    _, _, log = criterion(model, batch)
    ((before, after),) = seen
    unit = float(model.embedding_norm) if layer == 0 else 1.0
    scale = before.norm(dim=-1).mean(dim=1, keepdim=True) if layer else 1.0
    arrived = ((after - before).norm(dim=-1) / scale).mean()
    count = int(log["perturb_norm_count"])
    assert count == 48
    assert float(log["perturb_norm_sum"]) / count == pytest.approx(float(arrived), rel=1e-2)
    assert float(log["perturb_wanted_sum"]) / count == pytest.approx(radius * unit, rel=1e-3)
    assert (abs(float(arrived) / (radius * unit) - 1) > 0.1) is lost
    with caplog.at_level(logging.WARNING), metrics.aggregate():
        for _ in range(2):
            criterion.reduce_metrics([log])
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = [record for record in warned if "perturb_norm" in record.getMessage()]
    assert len(said) == lost
