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
    training = run("--method", "fgm", "--radius", "0.05", "--perturb-scope", "sequence", *WORDS)
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
        *((torch.bfloat16, 0.5, False), (torch.bfloat16, 0.001, True), (torch.bfloat16, 1e-4, True)),
        *((torch.float16, 0.003, False), (torch.float32, 1e-4, False)),
    ],
)
def test_the_log_tells_what_arrived(dtype, radius, lost, layer, caplog, monkeypatch) -> None:
    """In 16 bits a sum is rounded: between numbers that are farther from each other than that, nothing is moved.

    Measured where nothing of ours is: at the encoder's first norm, behind the positions, or at its first layer.
    """
    from fairseq.logging import metrics

    torch.manual_seed(2)
    model = alone.model("xlmr_nano", 60, dropout=0.0, attention_dropout=0.0, pooler_dropout=0.0)
    model.keep_embedding_norm()
    model = model.to(dtype)
    encoder = model.encoder.sentence_encoder
    with torch.no_grad():
        encoder.embed_positions.weight.mul_(2)
    criterion = alone.criterion("rs-rp", radius=radius, perturb_draw="sphere", perturb_layer=layer)
    batch = alone.batch(8, 6, 60)
    seen: list[torch.Tensor] = []
    place = encoder.layers[0] if layer else encoder.layernorm_embedding
    unhooked = Displacement.change
    deltas = []
    monkeypatch.setattr(Displacement, "change", lambda self, delta: (deltas.append(delta), unhooked(self, delta))[1])
    monkeypatch.setattr(robust_classification, "_rounded", False)

    def inputs(run) -> torch.Tensor:
        # A hook on a layer comes before those of a block around one pass, so what follows the layer's change is
        # looked at in the layer's own first operation.
        target = encoder.layers[0].self_attn if layer else place
        handle = target.register_forward_pre_hook(
            lambda _module, args, kwargs: seen.append((args[0] if args else kwargs["query"]).detach()), with_kwargs=True
        )
        run()
        handle.remove()
        found = seen.pop().double()
        return found.transpose(0, 1) if layer else found

    logs = []
    moved = inputs(lambda: logs.append(criterion(model, batch)[2]))
    clean = inputs(lambda: criterion.logits(model, batch))
    (log,) = logs
    unit = float(model.embedding_norm)
    wanted = deltas[0].double() * (clean.norm(dim=-1).mean(dim=1)[:, None, None] if layer else 1.0)
    assert int(log["perturb_counted"]) == 48
    scale = 1.0 if layer else unit
    per = (clean.norm(dim=-1).mean(dim=1, keepdim=True)) if layer else 1.0
    for name, value in (("applied", moved - clean), ("wanted", wanted), ("rounding", moved - clean - wanted)):
        assert float(log[f"perturb_{name}"]) / 48 == pytest.approx(
            float((value.norm(dim=-1) / per).mean()), rel=0.02, abs=1e-7
        )
    assert float(log["perturb_wanted"]) / 48 == pytest.approx(radius * scale, rel=1e-3)
    assert (torch.cosine_similarity(moved - clean, wanted, dim=-1).mean() < 0.95) == lost
    with caplog.at_level(logging.WARNING), metrics.aggregate():
        for _ in range(2):
            criterion.reduce_metrics([log])
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = [record for record in warned if "perturb_rounding" in record.getMessage()]
    assert len(said) == lost


def test_seeds_share_nothing_under_a_task_of_fairseq(monkeypatch) -> None:
    """Its trainer seeds torch with seed + update, so that 1 + 3 and 2 + 2 must not draw the same."""
    model, batch = alone.model("xlmr_nano", 60), alone.batch(4, 5, 60)
    model.keep_embedding_norm()
    drawn = []
    unhooked = Displacement.change
    monkeypatch.setattr(Displacement, "change", lambda self, delta: (drawn.append(delta), unhooked(self, delta))[1])
    criterion = alone.criterion("rs-rp")
    for seed, update, ours in ((1, 3, False), (2, 2, False), (1, 3, True)):
        criterion.seed, criterion.seed_and_update = seed, (seed, update) if ours else None
        torch.manual_seed(seed + update)
        criterion(model, batch)
    assert (drawn[0] != drawn[1]).any(dim=-1).all()
    assert torch.equal(drawn[0], drawn[2])
