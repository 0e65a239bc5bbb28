"""fairseq 0.12.2 saves the weights of each layer twice: such checkpoints fit everywhere, and ours hold them once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from driving import Training, train_arguments

import fairseq_robust_xlt
from fairseq_robust_xlt import host
from fairseq_robust_xlt.encoders.weights import read_weights

fairseq_robust_xlt.register()

LAYER = "encoder.sentence_encoder.layers."


@pytest.fixture(scope="module")
def doubled(encoder_dir, tmp_path_factory) -> Path:
    """The encoder's weights as 0.12.2 saves them. What the copies hold must not matter: here they are wrong."""
    state = torch.load(encoder_dir / "model.pt")
    for layer in (f"{LAYER}{i}." for i in range(2)):
        for name, rows, columns in (("in_proj", 192, 64), ("out_proj", 64, 64), ("fc1", 128, 64), ("fc2", 64, 128)):
            state["model"][f"{layer}{name}_weight"] = torch.full((rows, columns), 7.0)
            state["model"][f"{layer}{name}_bias"] = torch.full((rows,), 7.0)
    path = tmp_path_factory.mktemp("doubled") / "model.pt"
    torch.save(state, path)
    return path


def test_such_a_checkpoint_is_loaded_and_its_copies_are_not(doubled, sib_folder, encoder_dir, tmp_path) -> None:
    runs = []
    for index, weights in enumerate((encoder_dir / "model.pt", doubled)):
        arguments = train_arguments(sib_folder, encoder_dir, tmp_path / str(index), task="sib200")
        arguments[arguments.index("--finetune-from-model") + 1] = str(weights)
        runs.append(Training(*arguments))
    batch = next(iter(runs[0].groups()))[0]
    with torch.no_grad():
        logits = [run.criterion.logits(run.model.eval(), batch) for run in runs]
    assert torch.equal(*logits)
    names = [name for name, _ in runs[1].model.named_parameters()]
    assert f"{LAYER}1.self_attn.q_proj.weight" in names
    assert len([name for name in names if name.startswith(f"{LAYER}1.")]) == 16
    assert not [name for name in names if host.is_layer_copy(name)]


def test_every_parameter_that_is_trained_gets_a_gradient(doubled, sib_folder, encoder_dir, tmp_path) -> None:
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, task="sib200"))
    loss, _, _ = run.criterion(run.model.train(), next(iter(run.groups()))[0])
    loss.backward()
    assert [name for name, p in run.model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_check_of_an_encoder_does_not_see_the_copies(doubled, encoder_dir) -> None:
    ours, theirs = (read_weights(path).tensors for path in (encoder_dir / "model.pt", doubled))
    assert set(ours) == set(theirs)


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        (f"{LAYER}11.in_proj_weight", True),
        (f"{LAYER}0.fc2_bias", True),
        (f"{LAYER}0.fc2.bias", False),
        ("decoder.sentence_encoder.layers.0.self_attn.in_proj_weight", False),  # as XLM-R was published
    ],
)
def test_which_names_are_copies(name, copy) -> None:
    assert host.is_layer_copy(name) is copy
