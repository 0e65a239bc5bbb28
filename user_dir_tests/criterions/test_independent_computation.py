"""Losses and gradients of every method against a computation of its own, written from the papers.

The network is XLM-R's (Conneau et al. 2020: post-norm layers, learned positions) in plain torch functions; the inner
maximisation is Madry et al. 2018 (equation 2.1 by projected steps) and Miyato et al. 2017 (equations 5 and 6). The
random draws are taken from the package: their laws have tests of their own.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Training, train_arguments

from fairseq_robust_xlt.perturbation import Ball, draw

HEADS, PAD = 2, 1
NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0")
KEY = (5, 3)
HEAD = "classification_heads.sentence_classification_head."


@pytest.fixture(scope="module")
def run(sib_folder, encoder_dir, tmp_path_factory):
    """A criterion of each method with one model and one batch, after loading the encoder; no dropout."""
    folder = tmp_path_factory.mktemp("run")
    made = {}

    def training(*flags: str) -> Training:
        if flags not in made:
            made[flags] = Training(
                *train_arguments(sib_folder, encoder_dir, folder / str(len(made)), *NO_DROPOUT, *flags, task="sib200")
            )
            made[flags].batch = next(iter(made[flags].groups()))[0]
            made[flags].trainer.model.train()
            made[flags].trainer.criterion.train()
            made[flags].model.keep_embedding_norm()
        return made[flags]

    return training


def scores(weights: dict[str, torch.Tensor], tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Class scores [batch, classes] of XLM-R with a head on <s>, from word embeddings [batch, length, dim]."""
    encoder = "encoder.sentence_encoder."

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    real = tokens.ne(PAD)
    # Positions count from the padding index: the first token has number 2.
    positions = real.long().cumsum(1) * real + PAD
    x = norm(words + weights[encoder + "embed_positions.weight"][positions], encoder + "layernorm_embedding")
    batch, length, dim = x.shape
    for i in range(2):
        layer = f"{encoder}layers.{i}."

        def heads(x, name, layer=layer):
            return linear(x, f"{layer}self_attn.{name}").view(batch, length, HEADS, -1).transpose(1, 2)

        q, k, v = heads(x, "q_proj"), heads(x, "k_proj"), heads(x, "v_proj")
        match = (q @ k.transpose(2, 3) / math.sqrt(dim // HEADS)).masked_fill(~real[:, None, None], -math.inf)
        mixed = (match.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, dim)
        x = norm(x + linear(mixed, layer + "self_attn.out_proj"), layer + "self_attn_layer_norm")
        hidden = linear(x, layer + "fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, layer + "fc2"), layer + "final_layer_norm")
    return linear(torch.tanh(linear(x[:, 0], HEAD + "dense")), HEAD + "out_proj")


class Reference:
    def __init__(self, training: Training):
        self.weights = {
            name: value.detach().double().requires_grad_() for name, value in training.model.named_parameters()
        }
        self.batch = training.batch
        self.tokens = training.batch["net_input"]["src_tokens"]
        self.real = self.tokens.ne(PAD)
        table = self.weights["encoder.sentence_encoder.embed_tokens.weight"].detach().numpy()
        self.unit = float(np.linalg.norm(table[4:-1], axis=1).mean())

    def losses(self, delta) -> torch.Tensor:
        words = self.weights["encoder.sentence_encoder.embed_tokens.weight"][self.tokens]
        logits = scores(self.weights, self.tokens, words + delta)
        return -logits.log_softmax(-1)[torch.arange(len(logits)), self.batch["target"]]

    def drawn(self, kind: str, radius: float) -> torch.Tensor:
        keys = [(*KEY, int(i)) for i in self.batch["id"]]
        ball = Ball(torch.tensor(radius), "l2", "token")
        return draw(kind, ball, self.real, 64, keys, "cpu", torch.float32).double()

    def gradient(self, delta: torch.Tensor) -> torch.Tensor:
        delta = delta.detach().requires_grad_()
        (found,) = torch.autograd.grad(self.losses(delta).sum(), delta)
        return found

    def check(self, training: Training, expected: torch.Tensor) -> None:
        """The criterion's loss is `expected`, and so is the gradient of every parameter."""
        training.model.zero_grad()
        training.criterion.seed_and_update = KEY
        loss, size, _ = training.criterion(training.model, self.batch)
        assert size == len(self.tokens)
        torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-5)
        loss.backward()
        wanted = torch.autograd.grad(expected, list(self.weights.values()), allow_unused=True)
        for (name, parameter), gradient in zip(training.model.named_parameters(), wanted, strict=True):
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            want = torch.zeros_like(found) if gradient is None else gradient.float()
            if name.endswith("embed_positions.weight"):
                found, want = found.clone(), want.clone()
                found[PAD] = want[PAD] = 0  # fairseq takes no gradient for the position of padding
            if name.endswith("embed_tokens.weight"):
                found, want = found.clone(), want.clone()
                found[PAD] = want[PAD] = 0
            torch.testing.assert_close(found, want, rtol=2e-3, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")


def length(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum(-1, keepdim=True).sqrt()


def test_standard(run) -> None:
    training = run("--method", "standard")
    reference = Reference(training)
    reference.check(training, reference.losses(0).sum())


def test_randomized_smoothing(run) -> None:
    training = run("--method", "rs-rp")
    reference = Reference(training)
    delta = reference.drawn("gaussian", 0.5 * reference.unit)
    assert length(delta)[reference.real].min() > 0
    reference.check(training, reference.losses(delta).sum())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_projected_gradient_ascent(run, steps) -> None:
    training = run("--method", "adv", "--perturb-steps", str(steps), "--perturb-step-size", "0.7")
    reference = Reference(training)
    radius = 0.03 * reference.unit
    delta = reference.drawn("uniform", radius)
    for _ in range(steps):
        g = reference.gradient(delta)
        delta = delta + 0.7 * radius * g / length(g).clamp(min=1e-300)
        delta = delta * (radius / length(delta).clamp(min=1e-300)).clamp(max=1)
    assert length(delta).max() <= radius * (1 + 1e-6)
    reference.check(training, reference.losses(delta).sum())


def test_fast_gradient_method(run) -> None:
    training = run("--method", "fgm")
    reference = Reference(training)
    g = reference.gradient(torch.zeros(*reference.tokens.shape, 64, dtype=torch.float64))
    delta = 0.05 * reference.unit * g / length(g).clamp(min=1e-300)
    reference.check(training, 0.5 * reference.losses(0).sum() + 0.5 * reference.losses(delta).sum())


def test_signs_in_linf(run) -> None:
    """Goodfellow et al. 2015: radius * sign(g); relative radii count per token, so divided by sqrt(dim)."""
    training = run("--method", "fgm", "--perturb-norm", "linf")
    reference = Reference(training)
    g = reference.gradient(torch.zeros(*reference.tokens.shape, 64, dtype=torch.float64))
    delta = 0.05 * reference.unit / 8 * g.sign()
    reference.check(training, 0.5 * reference.losses(0).sum() + 0.5 * reference.losses(delta).sum())


def test_a_ball_of_the_whole_sequence(run) -> None:
    training = run("--method", "fgm", "--perturb-scope", "sequence")
    reference = Reference(training)
    g = reference.gradient(torch.zeros(*reference.tokens.shape, 64, dtype=torch.float64))
    radius = 0.05 * reference.unit * reference.real.sum(1).double().sqrt()[:, None, None]
    delta = radius * g / g.square().sum((1, 2), keepdim=True).sqrt()
    reference.check(training, 0.5 * reference.losses(0).sum() + 0.5 * reference.losses(delta).sum())


def test_the_shared_clean_pass_is_one_of_its_own(run, sib_folder, encoder_dir, tmp_path) -> None:
    """With dropout: fgm trains on the pass of its first gradient; two forward passes with the same masks agree."""
    from fairseq_robust_xlt.perturbation import find_word_embeddings, perturbed

    training = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, "--method", "fgm", task="sib200"))
    batch = next(iter(training.groups()))[0]
    model, criterion = training.model.train(), training.criterion.train()
    model.keep_embedding_norm()
    table, targets = find_word_embeddings(model), batch["target"]
    delta = torch.zeros(*batch["net_input"]["src_tokens"].shape, 64, requires_grad=True)

    def loss(delta):
        torch.manual_seed(11)
        with perturbed(table, delta):
            return F.cross_entropy(criterion.logits(model, batch), targets, reduction="none")

    (g,) = torch.autograd.grad(loss(delta).sum(), delta)
    moved = 0.05 * float(model.embedding_norm) * F.normalize(g, dim=-1, eps=1e-30)
    (0.5 * loss(torch.zeros_like(moved)) + 0.5 * loss(moved)).sum().backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(11)
    criterion(model, batch)[0].backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["standard", "rs-rp", "adv", "fgm"])
def test_the_inner_gradient_touches_no_parameter(run, method) -> None:
    training = run("--method", method)
    for parameter in training.model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    training.criterion(training.model, training.batch)
    assert all((parameter.grad == 7.0).all() for parameter in training.model.parameters())
    training.model.zero_grad()
    training.criterion(training.model, training.batch)
    assert all(parameter.grad is None for parameter in training.model.parameters())
