"""Losses and gradients of the consistency methods against a computation of its own, from the papers.

R3F and R4F: Aghajanyan et al. 2021; SMART: Jiang et al. 2020 (algorithm 1); ALUM: Liu et al. 2020 (algorithm 1).
"""

from __future__ import annotations

import pytest
import torch
from driving import Training, train_arguments
from plain import HEAD, KEY, Reference, divergence, into_the_ball, length, run

from fairseq_robust_xlt.perturbation import changed

__all__ = ["run"]  # a fixture

KINDS = ("kl", "symmetric_kl", "js", "mse")


@pytest.mark.parametrize("stop", ["none", "clean", "perturbed"])
@pytest.mark.parametrize("kind", KINDS)
def test_r3f(run, kind, stop) -> None:
    """f(sg(e) + z): the noised pass does not train the word table."""
    flags = ("--radius", "0.5", "--consistency", kind, "--consistency-stop", stop, "--consistency-weight", "3")
    training = run("--method", "r3f", *flags)
    reference = Reference(training)
    delta = reference.drawn("uniform", 0.5 * reference.unit)
    clean, noised = reference.logits(reference.zero), reference.logits(delta, detached=True)
    p, q = clean.detach() if stop == "clean" else clean, noised.detach() if stop == "perturbed" else noised
    apart = divergence(kind, p, q)
    assert apart > 1e-3
    reference.check(training, reference.cross_entropy(clean).sum() + 3 * apart)


def test_r3f_as_published(sib_folder, encoder_dir, tmp_path) -> None:
    """Uniform in [-1e-5, 1e-5] for each number, which moves little: the two passes differ by their dropout masks."""
    training = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, "--method", "r3f:paper", task="sib200"))
    training.batch = batch = next(iter(training.groups()))[0]
    model, criterion = training.model.train(), training.criterion.train()
    delta = Reference(training).drawn("uniform", 1e-5, norm="linf").float()
    assert 0.99e-5 < delta.abs().max() <= 1e-5
    torch.manual_seed(11)
    with changed(model, 0, lambda words: words.detach() + delta):
        noised = criterion.logits(model, batch)
    clean = criterion.logits(model, batch)
    apart = divergence("symmetric_kl", clean, noised)
    assert apart > 0.01
    wanted = torch.nn.functional.cross_entropy(clean, batch["target"], reduction="sum") + apart
    criterion.seed_and_update = KEY
    torch.manual_seed(11)
    loss, _, _ = criterion(model, batch)
    torch.testing.assert_close(loss, wanted)
    parameters = list(model.parameters())
    for found, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_r4f(run) -> None:
    """The head's last matrix is divided by its largest singular value, as one step of power iteration finds it
    (Miyato et al. 2018, algorithm 1)."""
    training = run("--method", "r4f", "--radius", "0.5", "--consistency-weight", "3")
    reference = Reference(training)
    matrix = reference.weights.pop(HEAD + "out_proj.weight_orig")
    u = training.model.classification_heads["sentence_classification_head"].out_proj.weight_u.double().clone()

    with torch.no_grad():
        v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
        u = torch.nn.functional.normalize(matrix @ v, dim=0)
    reference.weights[HEAD + "out_proj.weight"] = matrix / (u @ matrix @ v)
    noised = reference.logits(reference.drawn("uniform", 0.5 * reference.unit), detached=True)
    clean = reference.logits(reference.zero)
    loss = reference.cross_entropy(clean).sum() + 3 * divergence("symmetric_kl", clean, noised)
    del reference.weights[HEAD + "out_proj.weight"]
    reference.weights = {
        name: matrix if name.endswith("weight_orig") else reference.weights[name]
        for name, _ in training.model.named_parameters()
    }
    reference.check(training, loss)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("method", ["smart", "alum"])
def test_virtual_adversarial_training(run, method, steps) -> None:
    flags = ("--perturb-steps", str(steps), "--perturb-step-size", "0.8", "--perturb-start", "0.5", "--radius", "0.3")
    training = run("--method", method, *flags)
    reference = Reference(training)
    radius = 0.3 * reference.unit
    clean = reference.logits(reference.zero)
    target = clean.detach()

    def apart(delta):
        # ALUM stops the gradient of each direction's target, so one direction is left to ascend.
        return divergence("kl" if method == "alum" else "symmetric_kl", target, reference.logits(delta))

    delta = into_the_ball(reference.drawn("gaussian", 0.5 * radius), radius)
    for _ in range(steps):
        g = reference.gradient(delta, apart)
        delta = into_the_ball(delta + 0.8 * radius * g / length(g), radius)
    noised = reference.logits(delta)
    if method == "smart":
        term = divergence("symmetric_kl", clean, noised)
    else:
        term = divergence("kl", target, noised) + divergence("kl", noised.detach(), clean)
    assert term > apart(0.3 * reference.drawn("sphere", radius))
    reference.check(training, reference.cross_entropy(clean).sum() + term)


def test_the_direction_of_smart_in_linf(run) -> None:
    """The gradient divided by its largest coordinate of the token, then a step, then the projection."""
    flags = ("--perturb-norm", "linf", "--perturb-step-size", "2", "--perturb-start", "1", "--radius", "0.3")
    training = run("--method", "smart", *flags)
    reference = Reference(training)
    radius = 0.3 * reference.unit / 8
    clean = reference.logits(reference.zero)
    start = reference.drawn("gaussian", radius, norm="linf")
    g = reference.gradient(start, lambda d: divergence("symmetric_kl", clean.detach(), reference.logits(d)))
    largest = g.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    delta = (start + 2 * radius * g / largest).clamp(-radius, radius)
    inside = delta.abs()[reference.real] < radius * 0.999
    assert 0.05 < inside.double().mean() < 0.95
    term = divergence("symmetric_kl", clean, reference.logits(delta))
    reference.check(training, reference.cross_entropy(clean).sum() + term)
