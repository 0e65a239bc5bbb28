"""The seam adds exactly what it is given, once, or raises."""

from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import added, changed, find_word_embeddings
from fairseq_robust_xlt.perturbation.ball import round_towards_zero

TOKENS = torch.tensor([[0, 5, 2], [0, 7, 1]])


class Encoder(nn.Module):
    """Word embeddings under a sentence encoder, and layers that may be recomputed in the backward pass."""

    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.sentence_encoder = nn.Module()
        self.sentence_encoder.embed_tokens = nn.Embedding(10, 4, padding_idx=1)
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.recompute = recompute

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.sentence_encoder.embed_tokens(tokens)
        return checkpoint(self.layer, x, use_reentrant=False) if self.recompute else self.layer(x)


class Model(nn.Module):
    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(recompute)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(tokens)


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens: Tensor) -> Tensor:
        return self.module(tokens)


def perturbed(owner: nn.Module, delta: Tensor) -> AbstractContextManager[None]:
    """`delta` behind the words of a model, or of a table that has no other module around it."""
    if isinstance(owner, nn.Embedding):
        table, owner = owner, Model()
        owner.encoder.sentence_encoder.embed_tokens = table
    return changed(owner, 0, lambda hidden: added(hidden, delta))


def hooks(module: nn.Module) -> int:
    return len(module._forward_hooks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_adds_exactly(dtype: torch.dtype) -> None:
    table = nn.Embedding(10, 4).to(dtype)
    delta = torch.randn(2, 3, 4, requires_grad=True)
    clean = table(TOKENS)
    with perturbed(table, delta):
        noisy = table(TOKENS)
    assert noisy.dtype == dtype
    assert torch.equal(noisy, clean + round_towards_zero(delta.detach(), dtype))
    (gradient,) = torch.autograd.grad(noisy.sum(), delta)
    assert torch.equal(gradient, torch.ones(2, 3, 4))
    assert torch.equal(table(TOKENS), clean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_stays_in_the_ball_in_16_bits(dtype: torch.dtype) -> None:
    """Numbers that rounding to the nearest would make larger; where the embeddings are zero, they are seen alone."""
    table = nn.Embedding(10, 4).to(dtype)
    nn.init.zeros_(table.weight)
    delta = torch.cat([torch.randn(2, 3, 2), 1e-6 * torch.randn(2, 3, 2)], dim=2)
    assert (delta.to(dtype).float().abs() > delta.abs()).any()
    with perturbed(table, delta):
        moved = table(TOKENS).float()
    assert (moved.abs() <= delta.abs()).all()
    torch.testing.assert_close(moved, delta, rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("recompute", [False, True])
def test_it_reaches_the_output_and_gradients_reach_it(recompute: bool) -> None:
    torch.manual_seed(0)
    model = Model(recompute)
    table = find_word_embeddings(model)
    delta = torch.randn(2, 3, 4, requires_grad=True)
    with perturbed(table, delta):
        out = model(TOKENS)
    assert (out - model(TOKENS)).abs().max() > 0.1
    expected = model.encoder.layer(table(TOKENS) + delta)
    torch.testing.assert_close(out, expected)
    loss = out.square().sum()
    parameters = [delta, *model.parameters()]
    found = torch.autograd.grad(loss, parameters)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), parameters), strict=True):
        torch.testing.assert_close(one, other)
    assert found[0].abs().min() > 0


def test_under_autocast() -> None:
    model, delta = Model(True), torch.randn(2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with perturbed(find_word_embeddings(model), delta):
            out = model(TOKENS)
        clean = model(TOKENS)
    assert out.dtype == torch.bfloat16
    assert (out - clean).abs().max() > 0.1
    (gradient,) = torch.autograd.grad(out.float().sum(), delta)
    assert gradient.dtype == torch.float32
    assert gradient.abs().sum() > 0


def test_a_silent_no_op_is_impossible() -> None:
    model, other = Model(), Model()
    with (
        pytest.raises(RuntimeError, match="reached nothing"),
        perturbed(find_word_embeddings(model), torch.ones(2, 3, 4)),
    ):
        other(TOKENS)
    assert hooks(find_word_embeddings(model)) == 0


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 3, 4), (4,), (2, 3, 5), (2, 4, 4)])
def test_no_broadcasting(shape: tuple[int, ...]) -> None:
    table = nn.Embedding(10, 4)
    with pytest.raises(RuntimeError, match="does not fit"), perturbed(table, torch.ones(shape)):
        table(TOKENS)
    assert hooks(table) == 0


def test_one_pass_a_block_and_no_nesting() -> None:
    table, delta = nn.Embedding(10, 4), torch.ones(2, 3, 4)
    with pytest.raises(RuntimeError, match="second forward pass"), perturbed(table, delta):
        table(TOKENS)
        table(TOKENS)
    with pytest.raises(RuntimeError, match="do not nest"), perturbed(table, delta), perturbed(table, delta):
        pass
    assert hooks(table) == 0
    with perturbed(table, delta):  # Neither failure left anything behind.
        table(TOKENS)


def test_an_error_inside_is_not_hidden() -> None:
    table = nn.Embedding(10, 4)
    with pytest.raises(KeyError, match="mine"), perturbed(table, torch.ones(2, 3, 4)):
        raise KeyError("mine")
    assert hooks(table) == 0


def test_wrapped_models() -> None:
    model = Model()
    table = model.encoder.sentence_encoder.embed_tokens
    assert find_word_embeddings(model) is table
    assert find_word_embeddings(Wrapper(Wrapper(model))) is table


def test_models_without_word_embeddings() -> None:
    with pytest.raises(UserError, match="Linear has no word embeddings"):
        find_word_embeddings(Wrapper(nn.Linear(2, 2)))
    model = Model()
    model.encoder.sentence_encoder.embed_tokens = nn.Linear(2, 2)
    with pytest.raises(UserError, match="found Linear"):
        find_word_embeddings(model)
