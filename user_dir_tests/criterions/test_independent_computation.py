"""Losses and gradients of smoothing and adversarial training against a computation of its own, from the papers.

The inner maximisation is Madry et al. 2018 (equation 2.1 by projected steps), Miyato et al. 2017 (equations 5 and 6)
and Zhu et al. 2020 (algorithm 1).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from driving import Training, train_arguments
from plain import Reference, into_the_ball, length, run, scores, words_of

__all__ = ["run"]  # a fixture


def test_standard(run) -> None:
    training = run("--method", "standard")
    reference = Reference(training)
    reference.check(training, reference.losses(reference.zero).sum())


def test_randomized_smoothing(run) -> None:
    training = run("--method", "rs-rp")
    reference = Reference(training)
    delta = reference.drawn("gaussian", 0.5 * reference.unit)
    assert length(delta)[reference.real].min() > 0
    reference.check(training, reference.losses(delta).sum())


def test_augmentation_by_synonyms(run, synonyms) -> None:
    """The loss of the texts with the synonyms in them, which replace the clean ones."""
    training = run("--method", "rs-da", "--synonyms", str(synonyms))
    clean = run("--method", "standard").batch
    assert training.batch["id"].equal(clean["id"])
    assert not training.batch["net_input"]["src_tokens"].equal(clean["net_input"]["src_tokens"])
    reference = Reference(training)
    reference.check(training, reference.losses(reference.zero).sum())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_projected_gradient_ascent(run, steps) -> None:
    training = run("--method", "adv", "--perturb-steps", str(steps), "--perturb-step-size", "0.7")
    reference = Reference(training)
    radius = 0.01 * reference.unit
    delta = reference.drawn("uniform", radius)
    for _ in range(steps):
        g = reference.gradient(delta)
        delta = delta + 0.7 * radius * g / length(g)
        delta = into_the_ball(delta, radius)
    assert length(delta).max() <= radius * (1 + 1e-6)
    reference.check(training, reference.losses(delta).sum())


def test_fast_gradient_method(run) -> None:
    training = run("--method", "fgm", "--radius", "0.05")
    reference = Reference(training)
    g = reference.gradient(reference.zero)
    delta = 0.05 * reference.unit * g / length(g)
    reference.check(training, 0.5 * reference.losses(reference.zero).sum() + 0.5 * reference.losses(delta).sum())


def test_signs_in_linf(run) -> None:
    """Goodfellow et al. 2015: radius * sign(g); relative radii count per token, so divided by sqrt(dim)."""
    training = run("--method", "fgm", "--radius", "0.05", "--perturb-norm", "linf")
    reference = Reference(training)
    g = reference.gradient(reference.zero)
    delta = 0.05 * reference.unit / 8 * g.sign()
    reference.check(training, 0.5 * reference.losses(reference.zero).sum() + 0.5 * reference.losses(delta).sum())


def test_a_ball_of_the_whole_sequence(run) -> None:
    training = run("--method", "fgm", "--radius", "0.05", "--perturb-scope", "sequence")
    reference = Reference(training)
    g = reference.gradient(reference.zero)
    radius = 0.05 * reference.unit * reference.real.sum(1).double().sqrt()[:, None, None]
    delta = radius * g / g.square().sum((1, 2), keepdim=True).sqrt()
    reference.check(training, 0.5 * reference.losses(reference.zero).sum() + 0.5 * reference.losses(delta).sum())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_freelb(run, steps) -> None:
    """K points with K - 1 moves between them; the mean of the K losses; one ball and one direction for the sequence."""
    flags = ("--perturb-steps", str(steps), "--perturb-start", "0.5")
    flags += ("--perturb-step-size", "0.6") if steps > 1 else ()  # of one point no step is taken
    training = run("--method", "freelb", "--radius", "0.05", *flags)
    reference = Reference(training)
    tokens = reference.real.sum(1).double()[:, None, None]
    radius = 0.05 * reference.unit * tokens.sqrt()
    delta = reference.drawn("cube", (0.5 * radius).flatten(), scope="sequence")
    assert (delta.abs() <= 0.5 * radius / (tokens * 64).sqrt() * (1 + 1e-6)).all()
    loss = reference.losses(delta).sum() / steps
    for _ in range(steps - 1):
        g = reference.gradient(delta)
        delta = into_the_ball(delta + 0.6 * radius * g / length(g, (1, 2)), radius, (1, 2))
        loss = loss + reference.losses(delta).sum() / steps
    reference.check(training, loss)


@pytest.mark.parametrize("layer", [1, 2])
def test_noise_at_a_layer(run, layer) -> None:
    """Its unit is the mean norm of the text's own hidden states there."""
    training = run("--method", "fgm", "--radius", "0.05", "--perturb-layer", str(layer))
    reference = Reference(training)

    def logits(delta):
        def change(number, hidden):
            if number != layer:
                return hidden
            norms = length(hidden.detach())[..., 0] * reference.real
            return hidden + delta * (norms.sum(1) / reference.real.sum(1))[:, None, None]

        return scores(reference.weights, reference.tokens, words_of(reference.weights, reference.tokens), change)

    def losses(delta):
        return reference.cross_entropy(logits(delta))

    g = reference.gradient(reference.zero, losses)
    delta = 0.05 * g / length(g) * reference.real.unsqueeze(-1)
    reference.check(training, 0.5 * losses(reference.zero).sum() + 0.5 * losses(delta).sum())
    assert (losses(delta) > losses(reference.zero)).all()


def test_an_absolute_radius_at_a_layer(run) -> None:
    flags = ("--perturb-layer", "2", "--radius-unit", "absolute", "--radius", "0.7", "--perturb-draw", "sphere")
    training = run("--method", "rs-rp", *flags)
    reference = Reference(training)
    delta = reference.drawn("sphere", 0.7)
    words = words_of(reference.weights, reference.tokens)
    logits = scores(reference.weights, reference.tokens, words, lambda n, hidden: hidden + delta * (n == 2))
    reference.check(training, reference.cross_entropy(logits).sum())


def test_the_shared_clean_pass_is_one_of_its_own(run, sib_folder, encoder_dir, tmp_path) -> None:
    """With dropout: fgm trains on the pass of its first gradient; two forward passes with the same masks agree."""
    from fairseq_robust_xlt.perturbation import added, changed

    flags = ("--method", "fgm", "--radius", "0.05")
    training = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200"))
    batch = next(iter(training.groups()))[0]
    model, criterion = training.model.train(), training.criterion.train()
    model.keep_embedding_norm()
    targets = batch["target"]
    delta = torch.zeros(*batch["net_input"]["src_tokens"].shape, 64, requires_grad=True)

    def loss(delta):
        torch.manual_seed(11)
        with changed(model, 0, lambda hidden: added(hidden, delta)):
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


@pytest.mark.parametrize("method", ["standard", "rs-rp", "adv", "fgm", "freelb", "r3f", "smart", "alum", "mixup"])
def test_the_inner_gradient_touches_no_parameter(run, method) -> None:
    training = run("--method", method)
    for parameter in training.model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    training.criterion(training.model, training.batch)
    assert all((parameter.grad == 7.0).all() for parameter in training.model.parameters())
    training.model.zero_grad()
    training.criterion(training.model, training.batch)
    assert all(parameter.grad is None for parameter in training.model.parameters())
