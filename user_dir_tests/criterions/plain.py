"""A plain-PyTorch implementation of XLM-R and what every method's loss is made of, for comparison.

The network is XLM-R's (Conneau et al. 2020: post-norm layers, learned positions) in plain torch functions and double
precision. Random draws are taken from the package: their laws have tests of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from driving import Training, train_arguments

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


def scores(
    weights: dict[str, torch.Tensor],
    tokens: torch.Tensor,
    words: torch.Tensor,
    change: Callable[[int, torch.Tensor], torch.Tensor] = lambda layer, hidden: hidden,
    maps: Callable[[int, torch.Tensor], object] = lambda layer, maps: None,
) -> torch.Tensor:
    """Class scores [batch, classes] of XLM-R with a head on <s>, from word embeddings [batch, length, dim].

    `change` maps the input of each layer (counted from 1); `maps` is shown each layer's attention.
    """
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
        x = change(i + 1, x)

        def heads(x, name, layer=layer):
            return linear(x, f"{layer}self_attn.{name}").view(batch, length, HEADS, -1).transpose(1, 2)

        q, k, v = heads(x, "q_proj"), heads(x, "k_proj"), heads(x, "v_proj")
        match = (q @ k.transpose(2, 3) / math.sqrt(dim // HEADS)).masked_fill(~real[:, None, None], -math.inf)
        maps(i + 1, match.softmax(-1))
        mixed = (match.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, dim)
        x = norm(x + linear(mixed, layer + "self_attn.out_proj"), layer + "self_attn_layer_norm")
        hidden = linear(x, layer + "fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, layer + "fc2"), layer + "final_layer_norm")
    pooled = torch.tanh(linear(x[:, 0], HEAD + "dense"))
    return pooled @ weights[HEAD + "out_proj.weight"].T + weights[HEAD + "out_proj.bias"]


def words_of(weights: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    return weights["encoder.sentence_encoder.embed_tokens.weight"][tokens]


def divergence(kind: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Of two predictions, from class scores, as the papers write it, summed over the batch."""
    p, q = p.softmax(-1), q.softmax(-1)
    if kind == "mse":
        return ((p - q) ** 2).sum()
    if kind == "js":
        m = (p + q) / 2
        return (p * (p / m).log()).sum() / 2 + (q * (q / m).log()).sum() / 2
    one = (p * (p / q).log()).sum()
    return one if kind == "kl" else one + (q * (q / p).log()).sum()


class Reference:
    def __init__(self, training: Training):
        self.weights = {
            name: value.detach().double().requires_grad_() for name, value in training.model.named_parameters()
        }
        self.batch = training.batch
        self.tokens = training.batch["net_input"]["src_tokens"]
        self.real = self.tokens.ne(PAD)
        self.zero = torch.zeros(*self.tokens.shape, 64, dtype=torch.float64)
        table = self.weights["encoder.sentence_encoder.embed_tokens.weight"].detach().numpy()
        self.unit = float(np.linalg.norm(table[4:-1], axis=1).mean())
        self.targets = self.batch["target"]

    def logits(self, delta: torch.Tensor, detached: bool = False) -> torch.Tensor:
        words = words_of(self.weights, self.tokens)
        return scores(self.weights, self.tokens, (words.detach() if detached else words) + delta)

    def losses(self, delta: torch.Tensor) -> torch.Tensor:
        return self.cross_entropy(self.logits(delta))

    def cross_entropy(self, logits: torch.Tensor) -> torch.Tensor:
        return -logits.log_softmax(-1)[torch.arange(len(logits)), self.targets]

    def drawn(self, kind: str, radius, norm: str = "l2", scope: str = "token") -> torch.Tensor:
        keys = [(*KEY, int(i)) for i in self.batch["id"]]
        ball = Ball(torch.as_tensor(radius, dtype=torch.float32), norm, scope)
        return draw(kind, ball, self.real, 64, keys, "cpu", torch.float32).double()

    def gradient(self, delta: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor:
        """Of the summed loss at `delta`; `loss` is the cross-entropy unless given."""
        delta = delta.detach().requires_grad_()
        (found,) = torch.autograd.grad((loss or self.losses)(delta).sum(), delta)
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


def length(x: torch.Tensor, dims: int | tuple[int, ...] = -1) -> torch.Tensor:
    return x.square().sum(dims, keepdim=True).sqrt().clamp(min=1e-300)


def into_the_ball(x: torch.Tensor, radius, dims: int | tuple[int, ...] = -1) -> torch.Tensor:
    return x * (radius / length(x, dims)).clamp(max=1)
