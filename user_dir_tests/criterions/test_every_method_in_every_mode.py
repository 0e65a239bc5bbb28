"""Every method trains with everything that fairseq and the models can switch on, on the CPU, with the real trainer."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import Training, train_arguments

METHODS = ("standard", "rs-rp", "rs-da", "adv", "fgm")
MODES = {
    "fp32": (),
    "update-freq": ("--update-freq", "2", "--batch-size", "8"),
    "checkpoint-activations": ("--checkpoint-activations",),
    "freeze-embeddings": ("--freeze-embeddings",),
    "pooling": ("--pooling", "mean"),
    "layerdrop": ("--encoder-layerdrop", "0.2"),
    "bf16": ("--bf16",),
    "memory-efficient-bf16": ("--memory-efficient-bf16",),
    "amp": ("--amp",),
    "fp16": ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", "4"),
}
UPDATES = 13
ALWAYS = {"loss", "sample_size"}
PERTURBED = {"perturbed_accuracy", "perturb_norm", "non_finite"}
KEYS = {
    "standard": ALWAYS | {"accuracy"},
    "rs-da": ALWAYS | {"accuracy"},
    "rs-rp": ALWAYS | PERTURBED,
    "adv": ALWAYS | PERTURBED,
    "fgm": ALWAYS | PERTURBED | {"accuracy"},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_it_learns(method, mode, sib_folder, encoder_dir, synonyms, tmp_path) -> None:
    noise = ("--synonyms", str(synonyms)) if method == "rs-da" else ()
    arguments = train_arguments(
        sib_folder, encoder_dir, tmp_path, "--method", method, *noise, *MODES[mode], task="sib200"
    )
    run = Training(*arguments)
    word_table = run.model.encoder.sentence_encoder.embed_tokens.weight
    before = word_table.detach().clone()
    logs = run.train(UPDATES)
    losses = [log["loss"] for log in logs]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-4:]) < sum(losses[:4]) - 0.2
    for log in logs:
        assert log.keys() - {"loss_scale"} == KEYS[method]
        assert log.get("non_finite", 0) == 0
    size = run.trainer.get_model().state_dict()["embedding_norm"]
    assert size.dtype == torch.float32
    if "perturb_norm" in KEYS[method]:
        radius = run.criterion.recipe.radius * float(size)
        # The norm is logged with five digits. A random perturbation is a little shorter than the radius; where
        # LayerDrop leaves no layer, words have no gradient and are not moved.
        assert all(log["perturb_norm"] <= radius * 1.001 + 1e-5 for log in logs)
        assert sum(log["perturb_norm"] > 0.8 * radius for log in logs) >= (9 if mode == "layerdrop" else UPDATES)
    moments = [m.shape for state in run.trainer.optimizer.state_dict()["state"].values() for m in state.values()
               if isinstance(m, torch.Tensor)]  # fmt: skip
    assert moments
    if mode == "freeze-embeddings":
        assert torch.equal(word_table, before)
        assert word_table.shape not in moments
    else:
        assert not torch.equal(word_table, before)
        assert any(word_table.numel() <= shape.numel() for shape in moments)
    dtype = {"bf16": torch.bfloat16, "memory-efficient-bf16": torch.bfloat16, "fp16": torch.float16}
    assert word_table.dtype == dtype.get(mode, torch.float32)
