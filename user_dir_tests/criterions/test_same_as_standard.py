"""Where two ways of training must be one: radius 0 and standard, with and without recomputed activations."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from driving import Training, train_arguments

from fairseq_robust_xlt.criterions import alone

METHODS = ("standard", "rs-rp", "rs-da", "adv", "fgm", "freelb", "r3f", "smart", "mixup", "fgm --perturb-layer 2")
UPDATES = 4


@pytest.fixture(scope="module")
def trained(sib_folder, encoder_dir, synonyms, tmp_path_factory):
    """What `UPDATES` updates of the real trainer with these flags leave behind, with dropout on; made once each."""
    made: dict[tuple[str, ...], dict] = {}

    def state(*flags: str) -> dict:
        if flags not in made:
            given = (*flags, "--synonyms", str(synonyms)) if "rs-da" in flags else flags
            folder = tmp_path_factory.mktemp("run")
            run = Training(*train_arguments(sib_folder, encoder_dir, folder, *given, task="sib200"))
            logs = run.train(UPDATES)
            made[flags] = {
                "model": {name: value.clone() for name, value in run.model.state_dict().items()},
                "optimizer": run.trainer.optimizer.state_dict()["state"],
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state()[1:],
                "python": random.getstate(),
                "loss": [log["loss"] for log in logs],
                "logs": logs,
            }
        return made[flags]

    return state


def differing(one: dict, other: dict) -> list[str]:
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize(
    "flags",
    [
        ("rs-rp",),
        ("rs-rp", "--perturb-norm", "linf", "--perturb-draw", "sphere"),
        ("rs-rp", "--perturb-scope", "sequence", "--perturb-draw", "uniform"),
        ("adv",),
        ("adv", "--perturb-norm", "linf", "--perturb-steps", "3"),
        ("adv", "--perturb-steps", "2"),
        ("adv", "--perturb-scope", "sequence", "--radius-unit", "absolute"),
        ("adv", "--encoder-layerdrop", "0.4"),
        ("rs-rp", "--perturb-layer", "1"),
        ("adv", "--perturb-layer", "2", "--encoder-layerdrop", "0.4"),
        ("adv", "--perturb-start", "0", "--perturb-norm", "linf", "--perturb-direction", "scaled"),
    ],
    ids=" ".join,
)
def test_radius_zero_is_the_standard_method_bit_for_bit(trained, flags) -> None:
    """Parameters, moments of Adam and the state of every random number generator, with dropout on."""
    robust = trained("--method", *flags, "--radius", "0")
    common = flags[-2:] if "--encoder-layerdrop" in flags else ()
    standard = trained("--method", "standard", *common)
    assert standard["loss"][0] != standard["loss"][-1]
    assert robust["loss"] == standard["loss"]
    assert differing(robust["model"], standard["model"]) == []
    assert robust["optimizer"].keys() == standard["optimizer"].keys()
    for key, moments in robust["optimizer"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[name], standard["optimizer"][key][name])
    assert torch.equal(robust["torch"], standard["torch"])
    assert robust["python"] == standard["python"]
    assert all(np.array_equal(a, b) for a, b in zip(robust["numpy"], standard["numpy"], strict=True))
    assert {log["perturb_norm"] for log in robust["logs"]} == {0.0}


def test_any_other_radius_is_another_training(trained) -> None:
    """The test above can fail."""
    standard = trained("--method", "standard")
    for method in ("rs-rp", "adv"):
        assert differing(trained("--method", method)["model"], standard["model"])


@pytest.mark.parametrize("method", ["fgm", "freelb", "r3f", "r4f", "smart", "alum"])
def test_several_passes_of_radius_zero_have_the_gradient_of_the_standard_method(
    method, sib_folder, encoder_dir, tmp_path
) -> None:
    """Parts of one loss, or that and a divergence of 0, with the same dropout masks in every pass; and the state of the
    random number generator afterwards."""
    gradients, states = [], []
    head = ("--spectral-norm-classification-head",) if method == "r4f" else ()
    for name, flags in (("standard", head), (method, ("--radius", "0"))):
        run = Training(
            *train_arguments(sib_folder, encoder_dir, tmp_path / name, "--method", name, *flags, task="sib200")
        )
        batch = next(iter(run.groups()))[0]
        run.model.train()
        run.criterion.train()
        torch.manual_seed(3)
        loss, _, _ = run.criterion(run.model, batch)
        loss.backward()
        gradients.append((loss.detach(), {name: p.grad for name, p in run.model.named_parameters()}))
        states.append(torch.get_rng_state())
    (loss, standard), (loss_robust, robust) = gradients
    assert torch.equal(*states)
    torch.testing.assert_close(loss, loss_robust)
    assert standard.keys() == robust.keys()
    for name, gradient in standard.items():
        torch.testing.assert_close(robust[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_table_that_replaces_nothing_is_the_standard_method_bit_for_bit(
    trained, sib_folder, encoder_dir, tmp_path
) -> None:
    table = tmp_path / "synonyms.json"
    table.write_text('{"nowhere": ["elsewhere"]}', encoding="utf-8")
    flags = ("--method", "rs-da", "--synonyms", str(table))
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path / "run", *flags, task="sib200"))
    logs = run.train(UPDATES)
    standard = trained("--method", "standard")
    assert [log["loss"] for log in logs] == standard["loss"] != trained("--method", "rs-da")["loss"]
    assert differing(run.model.state_dict(), standard["model"]) == []


@pytest.mark.parametrize(("method", "times"), [("xtune", 1), ("xtune-stage2", 2), ("ear", 2)])
def test_two_equal_views_have_the_gradient_of_the_standard_method(method, times) -> None:
    """Stage 2 and EAR take the loss on both. Dropout is on, with the same masks in both; not for stage 2, whose teacher
    is the model as it is."""
    torch.manual_seed(2)
    no_dropout = {"dropout": 0.0, "attention_dropout": 0.0} if method == "xtune-stage2" else {}
    model, batch = alone.model("xlmr_nano", 50, **no_dropout), alone.batch(6, 9, 50)
    teacher = copy.deepcopy(model) if method == "xtune-stage2" else None
    batch["noised_input"] = batch["net_input"]
    found, states = [], []
    for name, flags in (("standard", {}), (method, {"attention_layer": 2} if method == "ear" else {})):
        model.zero_grad()
        torch.manual_seed(3)
        loss, _, _ = alone.criterion(name, teacher if name == method else None, **flags)(model, batch)
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters()]))
        states.append(torch.get_rng_state())
    (loss, standard), (both, gradients) = found
    assert torch.equal(*states)
    torch.testing.assert_close(both, times * loss)
    for gradient, wanted in zip(gradients, standard, strict=True):
        torch.testing.assert_close(gradient, times * wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["r3f", "smart", "alum"])
def test_own_dropout_masks(method, sib_folder, encoder_dir, tmp_path) -> None:
    """Two passes of an unmoved input differ by their masks alone; what is drawn afterwards is as without the second."""
    layerdrop = ("--encoder-layerdrop", "0.4")  # layers are drawn too
    losses, states = {}, {}
    for masks in ("shared", "own", ""):
        flags = ("--dropout-masks", masks, "--clean-weight", "0", "--radius", "0") if masks else ()
        name = method if masks else "standard"
        run = Training(
            *train_arguments(
                sib_folder, encoder_dir, tmp_path / masks, "--method", name, *flags, *layerdrop, task="sib200"
            )
        )
        batch = next(iter(run.groups()))[0]
        run.model.train()
        run.criterion.train()
        torch.manual_seed(3)
        losses[masks] = float(run.criterion(run.model, batch)[0].detach()) / len(batch["id"])
        states[masks] = torch.get_rng_state()
    assert losses["own"] > 1e-4
    assert abs(losses["shared"]) < 1e-7
    assert torch.equal(states["shared"], states[""])
    assert torch.equal(states["own"], states[""])


@pytest.mark.parametrize("layerdrop", [(), ("--encoder-layerdrop", "0.4")], ids=["all layers", "layerdrop"])
@pytest.mark.parametrize("method", METHODS)
def test_recomputed_activations_change_nothing(trained, method, layerdrop) -> None:
    flags = ("--method", *method.split(), *layerdrop)
    plain, recomputed = trained(*flags), trained(*flags, "--checkpoint-activations")
    assert plain["loss"] == recomputed["loss"]
    for name, value in plain["model"].items():
        torch.testing.assert_close(recomputed["model"][name], value, rtol=1e-5, atol=1e-7)
    assert torch.equal(plain["torch"], recomputed["torch"])


def test_layerdrop_drops_layers(trained) -> None:
    flags = ("--method", "standard")
    assert trained(*flags)["loss"] != trained(*flags, "--encoder-layerdrop", "0.4")["loss"]
