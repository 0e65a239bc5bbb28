"""Every method trains with everything that fairseq and the models can switch on, on the CPU, with the real trainer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from driving import Training, train_arguments, train_in_process

from fairseq_robust_xlt import recipes

MODES = {
    "fp32": (),
    "update-freq and pooling": ("--update-freq", "2", "--batch-size", "8", "--pooling", "mean"),
    "checkpoint-activations and freeze-embeddings": ("--checkpoint-activations", "--freeze-embeddings"),
    "layerdrop": ("--encoder-layerdrop", "0.4"),
    "bf16": ("--bf16",),
    "memory-efficient-bf16": ("--memory-efficient-bf16",),
    "amp": ("--amp",),
    "fp16": ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", "4"),
    "memory-efficient-fp16": ("--memory-efficient-fp16", "--fp16-init-scale", "4"),
}
NOISED = ("rs-da", "xtune", "xtune-stage2", "ear")
LOGGED = {
    "accuracy": {"standard", "rs-da", "fgm", "r3f", "r4f", "smart", "alum", "xtune", "xtune-stage2", "ear"},
    "perturbed_accuracy": set(recipes.names()) - {"standard", "rs-da", "mixup"},
    "perturb_norm": {"rs-rp", "adv", "fgm", "freelb", "r3f", "r4f", "smart", "alum"},
}


@pytest.fixture(scope="module")
def teacher(sib_folder, encoder_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    train_in_process(*train_arguments(sib_folder, encoder_dir, folder, task="sib200"))
    return folder / "checkpoint_last.pt"


def clean_loss(run: Training) -> float:
    """The loss of the plain classifier on 64 training examples."""
    dataset = run.task.datasets["train"]
    noise, dataset.noise = dataset.noise, None
    two, dataset.two_views = dataset.two_views, False
    batch = dataset.collater([dataset[i] for i in range(64)])
    dataset.noise, dataset.two_views = noise, two
    run.model.eval()
    run.criterion.eval()
    with torch.no_grad():
        loss, size, _ = run.criterion(run.model, batch)
    return float(loss) / size


def method_flags(method: str, synonyms: Path, teacher: Path) -> list[str]:
    flags = ["--method", method, *(("--synonyms", str(synonyms)) if method in NOISED else ())]
    flags += ["--teacher", str(teacher)] if method == "xtune-stage2" else []
    flags += ["--attention-layer", "2"] if method == "ear" else []
    flags += ["--bregman-weight", "1"] if method == "smart" else []
    flags += ["--perturb-steps", "2"] if method in ("adv", "smart") else []  # one after the other
    return flags


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["fp32", "bf16", "amp", "fp16"])
@pytest.mark.parametrize("method", recipes.names())
def test_it_trains_on_a_gpu(method, mode, sib_folder, encoder_dir, synonyms, teacher, tmp_path) -> None:
    flags = [*method_flags(method, synonyms, teacher), *MODES[mode]]
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200")
    arguments.remove("--cpu")
    run = Training(*arguments)
    for log in run.train(3):
        assert math.isfinite(log["loss"])
        assert log.get("non_finite", 0) == 0
        if method in LOGGED["perturb_norm"]:
            assert log["perturb_norm"] > 0
    for parameter in run.model.parameters():
        assert parameter.is_cuda
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize(
    # On the CPU --amp is plain fp32, and the memory-efficient optimisers differ after the criterion.
    "mode",
    [pytest.param(mode, marks=pytest.mark.slow) if mode == "amp" or "memory" in mode else mode for mode in MODES],
)
@pytest.mark.parametrize("method", recipes.names())
def test_it_trains(method, mode, sib_folder, encoder_dir, synonyms, teacher, tmp_path) -> None:
    flags = method_flags(method, synonyms, teacher)
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, *flags, *MODES[mode], task="sib200"))
    word_table = run.model.encoder.sentence_encoder.embed_tokens.weight
    before = word_table.detach().clone()
    if mode == "fp32":
        start = clean_loss(run)
        logs = run.train(26)
        assert clean_loss(run) < start - 0.1
    else:
        logs = run.train(3)
    wanted = {"loss", "sample_size"} | {key for key, methods in LOGGED.items() if method in methods}
    if method in LOGGED["perturb_norm"]:
        wanted |= {"non_finite", "perturb_rounding"} if "16" in mode else {"non_finite"}
    for log in logs:
        assert math.isfinite(log["loss"])
        assert log.keys() - {"loss_scale"} == wanted
        assert log.get("non_finite", 0) == 0
    size = run.trainer.get_model().state_dict()["embedding_norm"]
    assert size.dtype == torch.float32
    if "perturb_norm" in wanted and method != "freelb":  # whose ball is the whole sequence's
        radius = run.criterion.recipe.radius * float(size)
        # The norm is logged with five digits. A random perturbation is a little shorter than the radius; where
        # LayerDrop leaves no layer, words have no gradient and are not moved.
        # What arrives is logged, and bf16 has eight bits: a sum is rounded by up to a 256th of the embedding.
        slack = 1.1 if "bf16" in mode else 1.001
        assert all(log["perturb_norm"] <= radius * slack + 1e-5 for log in logs)
        assert mode == "layerdrop" or all(log["perturb_norm"] > 0.8 * radius for log in logs)
    frozen = mode == "checkpoint-activations and freeze-embeddings"
    assert torch.equal(word_table, before) is frozen
    moments = [m.shape for state in run.trainer.optimizer.state_dict()["state"].values() for m in state.values()
               if isinstance(m, torch.Tensor)]  # fmt: skip
    assert moments
    if frozen:
        assert word_table.shape not in moments
    else:
        assert any(word_table.numel() <= shape.numel() for shape in moments)  # some modes keep all in one
    dtype = torch.bfloat16 if "bf16" in mode else torch.float16 if "fp16" in mode else torch.float32
    assert word_table.dtype == dtype
