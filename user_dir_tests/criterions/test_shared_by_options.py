"""--perturb-options shared: one perturbation for all options of a multiple choice."""

from __future__ import annotations

import pytest
import torch

from fairseq_robust_xlt.criterions import alone
from fairseq_robust_xlt.perturbation import Ball

WORDS, OPTIONS, QUESTIONS, PAD = 60, 3, 4, 1
METHODS = ["rs-rp", "adv", "fgm", "freelb", "r3f", "smart"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = alone.model("xlmr_nano", WORDS, classes=1, dropout=0.0, attention_dropout=0.0, pooler_dropout=0.0)
    made.keep_embedding_norm()
    return made


@pytest.fixture
def batch():
    """Questions of options of different lengths: 3 tokens of the stem, then 1 to 4 of the option, then padding."""
    tokens = alone.batch(QUESTIONS * OPTIONS, 7, WORDS)["net_input"]["src_tokens"]
    stems = tokens[:QUESTIONS, :3].repeat_interleave(OPTIONS, dim=0)
    tokens = torch.cat([stems, tokens[:, 3:]], dim=1)
    for row in range(len(tokens)):
        tokens[row, 4 + row % 4 :] = PAD
    return {
        "id": torch.arange(QUESTIONS),
        "net_input": {"src_tokens": tokens},
        "target": torch.arange(QUESTIONS) % OPTIONS,
        "options": OPTIONS,
        "ntokens": int(tokens.ne(PAD).sum()),
    }


def moved(model, batch, method: str, **flags) -> tuple[torch.Tensor, dict]:
    """What the last perturbed pass adds to the word embeddings [rows, length, dim], and the log."""
    table = model.encoder.sentence_encoder.embed_tokens
    clean = table(batch["net_input"]["src_tokens"]).detach()
    inputs = []
    handle = model.encoder.sentence_encoder.layernorm_embedding.register_forward_pre_hook(
        lambda _, given: inputs.append(given[0].detach().clone())
    )
    try:
        loss, _, log = alone.criterion(method, **flags)(model, batch)
    finally:
        handle.remove()
    assert torch.isfinite(loss)
    # Positions are added behind: what all passes have in common is what a pass of clean input has.
    with torch.no_grad():
        seen = []
        handle = model.encoder.sentence_encoder.layernorm_embedding.register_forward_pre_hook(
            lambda _, given: seen.append(given[0].detach().clone())
        )
        model(batch["net_input"]["src_tokens"], features_only=True)
        handle.remove()
    differences = [one - seen[0] for one in inputs]
    assert clean.shape == differences[0].shape
    return max(differences, key=lambda d: float(d.abs().max())), log


@pytest.mark.parametrize("method", METHODS)
def test_the_options_of_a_question_are_moved_alike(model, batch, method):
    delta, log = moved(model, batch, method, perturb_options="shared", radius=0.5)
    real = batch["net_input"]["src_tokens"].ne(PAD)
    rows, both = delta.view(QUESTIONS, OPTIONS, *delta.shape[1:]), real.view(QUESTIONS, OPTIONS, -1)
    assert float(delta.abs().max()) > 0.01
    assert float(delta[~real].abs().max()) < 1e-6
    for other in range(1, OPTIONS):
        where = both[:, 0] & both[:, other]
        torch.testing.assert_close(rows[:, 0][where], rows[:, other][where], rtol=0, atol=1e-5)
    own, _ = moved(model, batch, method, perturb_options="own", radius=0.5)
    assert float((own.view_as(rows)[:, 0, :3] - own.view_as(rows)[:, 1, :3]).abs().max()) > 0.01
    # The ball of freelb is the whole sequence's.
    assert log["perturb_counted"] == (int(real.sum()) if method != "freelb" else len(real))


def test_it_stays_in_the_ball(model, batch):
    delta, _ = moved(model, batch, "adv", perturb_options="shared", radius=0.5)
    ball = Ball(0.5 * float(model.embedding_norm), "l2", "token")
    norms = ball.norms(delta, batch["net_input"]["src_tokens"].ne(PAD))
    assert float(norms.max()) <= ball.radius * (1 + 1e-4)


def test_the_step_goes_along_the_gradient_summed_over_the_options(model, batch):
    """One step of FGM against a computation without the criterion: each option's own gradient, added up."""
    delta, _ = moved(model, batch, "fgm", perturb_options="shared", radius=0.5)
    tokens = batch["net_input"]["src_tokens"]
    table = model.encoder.sentence_encoder.embed_tokens
    moves = torch.zeros(*tokens.shape, table.embedding_dim, requires_grad=True)
    handle = table.register_forward_hook(lambda _module, _inputs, output: output + moves)
    scores, _ = model(tokens, features_only=True, classification_head_name="sentence_classification_head")
    handle.remove()
    loss = torch.nn.functional.cross_entropy(scores.view(-1, OPTIONS), batch["target"], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, moves)
    real = tokens.ne(PAD)
    together = (gradient * real.unsqueeze(-1)).view(QUESTIONS, OPTIONS, *gradient.shape[1:]).sum(dim=1)
    step = 0.5 * model.embedding_norm * together / together.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    expected = step.repeat_interleave(OPTIONS, dim=0) * real.unsqueeze(-1)
    torch.testing.assert_close(delta, expected, rtol=1e-3, atol=1e-4)


def gradients(model, batch, criterion) -> tuple[list[torch.Tensor], dict]:
    model.zero_grad()
    loss, _, log = criterion(model, batch)
    loss.backward()
    return [p.grad.clone() for p in model.parameters()], log


@pytest.mark.parametrize("kind", ["own", "shared"])
@pytest.mark.parametrize("method", METHODS)
def test_a_question_with_an_option_that_overflows_goes_without(model, batch, method, kind):
    """All of its options count with their clean texts, and no other question is touched."""
    question, row = 1, 1 * OPTIONS + 2
    criterion = alone.criterion(method, perturb_options=kind, radius=0.5)
    layer = model.encoder.sentence_encoder.layers[0]
    clean = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: clean.append(inputs[0][:, row].detach().clone()))
    with torch.no_grad():
        criterion.logits(model, batch)
    handle.remove()

    def overflow(_module, args, kwargs):
        x = kwargs["query"].clone()
        if not torch.equal(x[:, row].detach(), clean[0]):
            x[:, row] = x[:, row] * torch.inf
        return args, {**kwargs, "query": x}

    handle = layer.self_attn.register_forward_pre_hook(overflow, with_kwargs=True)
    try:
        found, log = gradients(model, batch, criterion)
    finally:
        handle.remove()
    assert int(log["non_finite"]) == 1

    def questions(keep: list[int]) -> dict:
        tokens = batch["net_input"]["src_tokens"].view(QUESTIONS, OPTIONS, -1)[keep].flatten(0, 1)
        parts = {"id": batch["id"][keep], "target": batch["target"][keep], "net_input": {"src_tokens": tokens}}
        return {**batch, **parts}

    rest, _ = gradients(model, questions([i for i in range(QUESTIONS) if i != question]), criterion)
    single, _ = gradients(model, questions([question]), alone.criterion("standard"))
    for gradient, others, own in zip(found, rest, single, strict=True):
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(gradient, others + own, rtol=1e-3, atol=1e-5)


def test_without_options_it_changes_nothing(model):
    """Of sentences and pairs each has one text: shared or not is the same, bit for bit."""
    one = alone.batch(4, 6, WORDS, classes=1)
    one["target"] = torch.zeros_like(one["target"])
    losses = [alone.criterion("adv", perturb_options=kind)(model, one)[0] for kind in ("own", "shared")]
    assert torch.equal(*losses)
