"""The calculated sizes, operations and bytes against the real models, the real optimisers and torch's own counters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from driving import Training, train_arguments
from measured import Alive
from torch.utils.flop_counter import FlopCounterMode

import fairseq_robust_xlt
from fairseq_robust_xlt.encoders import footprint
from fairseq_robust_xlt.encoders.shapes import SHAPES, Shape
from fairseq_robust_xlt.errors import UserError

WORDS = 300
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


def build(arch: str, words: int = WORDS, classes: int = 3, **settings) -> torch.nn.Module:
    fairseq_robust_xlt.register()
    from fairseq_robust_xlt.criterions import alone

    return alone.model(arch, words, classes, freeze_embeddings=True, **settings)


def tokens(batch: int, length: int) -> torch.Tensor:
    """One sequence is shorter than the others, so that there is padding."""
    made = torch.randint(4, WORDS, (batch, length), generator=torch.Generator().manual_seed(0))
    made[1, length - 7 :] = 1
    return made


def loss_of(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    logits, _ = model(src_tokens=batch, features_only=True, classification_head_name="sentence_classification_head")
    return torch.nn.functional.cross_entropy(logits.float(), torch.zeros(len(batch), dtype=torch.long))


def small(pre_norm: bool, **settings) -> tuple[Shape, torch.nn.Module]:
    shape = Shape(3, 96, 160, 3, pre_norm)
    arch = "xlmr_xl" if pre_norm else "xlmr_base"
    sizes = {"encoder_layers": 3, "encoder_embed_dim": 96, "encoder_ffn_embed_dim": 160, "encoder_attention_heads": 3}
    return shape, build(arch, **sizes, **settings)


def test_no_torch_is_needed() -> None:
    code = "import ast, sys; print([a.name for n in ast.walk(ast.parse(open(sys.argv[1]).read())) " + (
        "if isinstance(n, ast.Import) for a in n.names])"
    )
    done = subprocess.run([sys.executable, "-c", code, footprint.__file__], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arch", SHAPES)
def test_parameters(arch, monkeypatch) -> None:
    """Every part, and so the whole, of the models as published; without memory for them."""
    fairseq_robust_xlt.register()
    from fairseq.models.roberta import model as roberta

    monkeypatch.setattr(roberta, "init_bert_params", lambda module: None)  # it computes on the CPU
    with torch.device("meta"):
        model = build(arch, words=WORDS, classes=5)
    # The word table is the one part whose size is not the architecture's.
    counted = footprint.parameters(SHAPES[arch], words=WORDS, classes=5)
    found = dict.fromkeys(counted._fields, 0)
    for name, parameter in model.named_parameters():
        part = next(
            field
            for key, field in (
                ("embed_tokens", "words"),
                ("embed_positions", "positions"),
                (".layers.", "layers"),
                ("classification_heads", "head"),
                ("layer_norm", "norm"),
                ("layernorm_embedding", "norm"),
            )
            if key in name
        )
        found[part] += parameter.numel()
    assert counted._asdict() == found


@pytest.mark.parametrize(
    ("arch", "millions"), [("xlmr_base", 278), ("xlmr_large", 560), ("xlmr_xl", 3482), ("xlmr_xxl", 10712)]
)
def test_published_sizes(arch, millions) -> None:
    """About 270M, 550M, 3.5B and 10.7B (Conneau et al. 2020; Goyal et al. 2021), with a tanh head of d x d."""
    assert sum(footprint.parameters(SHAPES[arch])) / 1e6 == pytest.approx(millions, rel=0.004)


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_operations(pre_norm) -> None:
    """torch's counter, for the whole update and for the gradient by a perturbation alone.

    It does not know the fused attention of the CPU, which has no dropout: with dropout the products are made one by
    one.
    """
    shape, model = small(pre_norm)
    batch, length = 4, 150
    counted = footprint.flops(shape, batch, length, classes=3)
    with FlopCounterMode(display=False) as measured:
        loss = loss_of(model, tokens(batch, length))
    assert measured.get_total_flops() == counted.forward
    with FlopCounterMode(display=False) as measured:
        loss.backward()
    assert measured.get_total_flops() == counted.activations + counted.parameters
    table = model.encoder.sentence_encoder.embed_tokens
    perturbation = torch.zeros(batch, length, shape.dim, requires_grad=True)
    handle = table.register_forward_hook(lambda module, args, words: words + perturbation)
    loss = loss_of(model, tokens(batch, length))
    handle.remove()
    with FlopCounterMode(display=False) as measured:
        torch.autograd.grad(loss, perturbation)
    assert measured.get_total_flops() == counted.activations


def test_operations_with_recomputation() -> None:
    """The head is not recomputed: the one difference."""
    shape, model = small(False, checkpoint_activations=True)
    with FlopCounterMode(display=False) as measured:
        loss_of(model, tokens(4, 60)).backward()
    one = footprint.flops(shape, 4, 60)
    assert measured.get_total_flops() == pytest.approx(
        footprint.flops_of_update(one, (1, 1, 1), recompute=True), rel=0.001
    )


def kept(model: torch.nn.Module, batch: torch.Tensor) -> int:
    """Bytes that autograd keeps for the gradient after a forward pass, each storage once, parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, batch)
    assert loss.requires_grad  # the graph lives until here: no storage is counted twice
    return sum(storages.values())


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [True, False], ids=["dropout", "no dropout"])
def test_activations(pre_norm, precision, dropout) -> None:
    """With dropout or in 16 bits attention is computed step by step on the CPU, otherwise by the fused kernel. Within
    1 %."""
    shape, model = small(pre_norm, **({} if dropout else NO_DROPOUT))
    model.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    calculated = footprint.activations(shape, 4, 150, precision, gpu=False, dropout=dropout)
    assert kept(model, tokens(4, 150)) == pytest.approx(calculated, rel=0.01)


@pytest.mark.slow
def test_activations_of_a_real_size() -> None:
    calculated = footprint.activations(SHAPES["xlmr_mini"], 4, 128, gpu=False)
    assert kept(build("xlmr_mini"), tokens(4, 128)) == pytest.approx(calculated, rel=0.005)


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_activations_with_recomputation(pre_norm) -> None:
    """After the forward pass only each layer's input is kept; the one layer more comes with the backward pass."""
    shape, model = small(pre_norm, checkpoint_activations=True)
    batch = tokens(4, 150)
    with Alive() as alive:
        loss = loss_of(model, batch)
        found = alive.bytes
    assert loss.requires_grad
    one, none = (footprint.activations(replace(shape, layers=n), 4, 150, gpu=False) for n in (1, 0))
    whole = footprint.activations(shape, 4, 150, gpu=False, recompute=True)
    own_input = 4 * 150 * shape.dim * 4
    assert found == pytest.approx(whole - (one - none) + own_input, rel=0.02)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_peak(pre_norm, recompute) -> None:
    """Forward and backward pass need what is calculated, and on top only what single operations make: at this size
    two vectors a token, and up to six where one layer is recomputed."""
    shape, model = small(pre_norm, checkpoint_activations=recompute)
    batch = tokens(4, 150)
    with Alive() as alive:
        loss_of(model, batch).backward()
    calculated = footprint.activations(shape, 4, 150, gpu=False, recompute=recompute)
    vector = 4 * 150 * shape.dim * 4
    assert calculated <= alive.peak <= calculated + (6 if recompute else 2.2) * vector


@pytest.mark.parametrize("freeze", [False, True], ids=["all", "frozen words"])
@pytest.mark.parametrize("precision", footprint.PRECISIONS)
def test_state(precision, freeze, sib_folder, encoder_dir, tmp_path) -> None:
    """What the real trainer holds after an update: weights, gradients, Adam's moments, fp32 copies."""
    flags = {
        "fp32": (),
        "fp16": ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", "4"),
        "bf16": ("--bf16",),
        "memory-efficient-fp16": ("--memory-efficient-fp16", "--fp16-init-scale", "4"),
        "memory-efficient-bf16": ("--memory-efficient-bf16",),
    }[precision]
    frozen = ("--freeze-embeddings",) if freeze else ()
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, *flags, *frozen, task="sib200"))
    run.train(1)
    batch = next(iter(run.groups()))
    run.trainer.zero_grad()
    run.trainer.task.train_step(batch[0], run.trainer.model, run.trainer.criterion, run.trainer.optimizer, 1)
    model, optimizer = run.trainer.model, run.trainer.optimizer
    words = model.encoder.sentence_encoder.embed_tokens.num_embeddings

    def size(tensors) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)

    copies = getattr(optimizer, "fp32_params", [])
    moments = [m for s in optimizer.optimizer.state.values() for m in s.values() if isinstance(m, torch.Tensor)]
    calculated = footprint.state(SHAPES["xlmr_nano"], precision, freeze, words=words)
    seven = (
        footprint.parameters(SHAPES["xlmr_nano"], words, 7).head - footprint.parameters(SHAPES["xlmr_nano"], words).head
    )
    weight, gradient, master, _ = footprint.PRECISIONS[precision]
    assert size(model.parameters()) == calculated.weights + weight * seven
    assert size(p.grad for p in model.parameters()) == calculated.gradients + gradient * seven
    held = size(copies) + size(c.grad for c in copies) + size(moments)
    assert held == calculated.optimizer + (8 + master) * seven
    assert calculated.buffers == 0


def test_sharded_state() -> None:
    """Divided where it is divided, with what has to be whole beside it."""
    shape = SHAPES["xlmr_xl"]
    total = sum(footprint.parameters(shape))
    alone = footprint.state(shape, "memory-efficient-fp16")
    ddp, os, zero2, zero3 = (
        footprint.state(shape, "memory-efficient-fp16", processes=16, sharding=sharding)
        for sharding in footprint.SHARDINGS
    )
    assert ddp == alone._replace(buffers=2 * total)
    assert os == ddp._replace(optimizer=8 * total // 16)
    legacy = footprint.state(shape, "memory-efficient-fp16", processes=16, legacy_ddp=True)
    assert legacy == ddp._replace(buffers=2 * 2**28)
    assert (zero3.weights, zero3.gradients, zero3.optimizer) == tuple(total * n // 16 for n in (2, 2, 8))
    assert zero2.kept - zero3.kept == 2 * footprint.parameters(shape).layers * 34 // 36
    assert ddp.kept > os.kept > zero2.kept > zero3.kept
    with_copy = footprint.state(shape, "fp16", processes=16, sharding="zero3")
    assert (with_copy.weights, with_copy.gradients) == (total * 4 // 16, total * 4 // 16)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        footprint.state(SHAPES["xlmr_base"], "fp8")
    with pytest.raises(UserError, match="unknown sharding 'zero4'"):
        footprint.state(SHAPES["xlmr_base"], sharding="zero4")
    with pytest.raises(ValueError, match="bf16"):
        footprint.state(SHAPES["xlmr_base"], "bf16", processes=8, sharding="zero3")
