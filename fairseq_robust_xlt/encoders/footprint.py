"""What an encoder of a shape weighs, computes and keeps: parameters, FLOPs, bytes. Calculated, nothing is run.

The counts follow fairseq's `TransformerEncoder`, its optimisers and torch's kernels, and the tests hold them against
the real ones. Left out: the CUDA context, workspaces of libraries, fragmentation, and what lives only within one
operation of a forward or backward pass.
"""

from __future__ import annotations

from typing import NamedTuple

from fairseq_robust_xlt.encoders.shapes import Shape
from fairseq_robust_xlt.errors import unknown

#: Rows of XLM-R's word table, and of its table of positions (512, after the padding index).
WORDS, POSITIONS = 250_002, 514


class Parameters(NamedTuple):
    """Numbers of parameters: word table, positions, all layers, the layer norm outside them, classification head."""

    words: int
    positions: int
    layers: int
    norm: int
    head: int


def parameters(shape: Shape, words: int = WORDS, classes: int = 3) -> Parameters:
    """The parameters of `--arch xlmr_*` with one classification head (they have no masked-LM head)."""
    d, f = shape.dim, shape.ffn
    layer = 4 * (d * d + d) + (2 * d * f + f + d) + 4 * d  # attention, feed-forward, two layer norms
    head = (d * d + d) + classes * (d + 1)
    return Parameters(words * d, POSITIONS * d, shape.layers * layer, 2 * d, head)


class Flops(NamedTuple):
    """Floating-point operations of one batch: forward pass, gradient by activations, gradient by parameters."""

    forward: int
    activations: int
    parameters: int


def flops(shape: Shape, batch: int, length: int, classes: int = 3) -> Flops:
    """Operations on `batch` sequences of `length` tokens; a multiplication with its addition counts as two.

    A forward pass takes 2 operations a token for each weight of a layer's matrices, 24 d^2 with a feed-forward of 4 d,
    and 4 length d a layer for the two products of attention (Narayanan et al. 2021, arXiv 2104.04473, appendix;
    Kaplan et al. 2020, arXiv 2001.08361, table 1, whose attention is causal). Looking up embeddings is free, and so is
    what is done value by value. Attention's products have no parameters: their gradients by both factors are
    gradients by activations, so the three thirds of an update are equal only as far as length is small beside d.
    """
    d, layers = shape.dim, shape.layers
    matrices = 2 * batch * (length * layers * (4 * d * d + 2 * d * shape.ffn) + d * d + classes * d)
    attention = 4 * batch * length * length * d * layers
    return Flops(matrices + attention, matrices + 2 * attention, matrices)


def flops_of_update(one: Flops, passes: tuple[int, int, int], recompute: bool = False) -> int:
    """Operations of an update that makes `passes` forward passes and gradients (see `recipes.cost`).

    recompute: activation checkpointing, which makes the forward pass again for each gradient by activations.
    """
    forward, activations, params = passes
    forward += activations if recompute else 0
    return forward * one.forward + activations * one.activations + params * one.parameters


class Precision(NamedTuple):
    """Bytes for each parameter: weight, gradient, fp32 master copy with its gradient; whether Adam sees one tensor."""

    weight: int
    gradient: int
    master: int
    flat: bool


#: As the flags of fairseq: FP16Optimizer keeps fp32 weights and gradients beside the 16-bit ones, in one tensor for
#: fp16, and MemoryEfficientFP16Optimizer neither. Adam's two moments are fp32 in all of them.
PRECISIONS = {
    "fp32": Precision(4, 4, 0, False),
    "fp16": Precision(2, 2, 8, True),
    "bf16": Precision(2, 2, 8, False),
    "memory-efficient-fp16": Precision(2, 2, 0, False),
    "memory-efficient-bf16": Precision(2, 2, 0, False),
}
SHARDINGS = ("none", "os", "zero2", "zero3")


class State(NamedTuple):
    """Bytes that a process keeps: weights, gradients, optimiser, buffers of communication; `step`: for a while more,
    while Adam makes its step (there are no activations then)."""

    weights: int
    gradients: int
    optimizer: int
    buffers: int
    step: int

    @property
    def kept(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.buffers


def state(
    shape: Shape,
    precision: str = "fp32",
    freeze_embeddings: bool = False,
    processes: int = 1,
    sharding: str = "none",
    legacy_ddp: bool = False,
    words: int = WORDS,
) -> State:
    """The state of training with fairseq's Adam, a process.

    sharding: "none", "os" (`--zero-sharding os`: the moments are divided), "zero3" (`--ddp-backend fully_sharded`:
    weights, gradients and moments are divided, and layers gathered as they are needed) or "zero2" (the same with
    `--no-reshard-after-forward`: all weights stay gathered from the forward to the backward pass). Fully sharded fp16
    keeps its fp32 weights as the only copy; bf16 is refused there by fairseq. For the others, pytorch_ddp keeps a copy
    of the gradients in buckets, legacy_ddp one buffer of at most 2^28 values.
    Raises `UserError` for an unknown precision or sharding, `ValueError` for sharded bf16.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if sharding not in SHARDINGS:
        raise unknown("sharding", sharding, SHARDINGS)
    weight, gradient, master, flat = PRECISIONS[precision]
    parts = parameters(shape, words)
    every = sum(parts)
    trained = every - (parts.words if freeze_embeddings else 0)
    # Adam's denominator, and where the weights are 16 bits wide a copy of weight and gradient in fp32.
    scratch = 12 if weight == 2 and not master else 4
    if sharding in ("none", "os"):
        buffered = min(2**28, every) if legacy_ddp else trained
        largest = max(shape.dim * shape.ffn, 0 if freeze_embeddings else parts.words)
        return State(
            weights=weight * every,
            gradients=gradient * trained,
            optimizer=master * trained + 8 * trained // (processes if sharding == "os" else 1),
            buffers=gradient * buffered if processes > 1 else 0,
            step=scratch * (trained if flat else largest),
        )
    if "bf16" in precision:
        raise ValueError("fairseq refuses bf16 with --ddp-backend fully_sharded")
    layer = parts.layers // shape.layers
    root, root_trained = every - parts.layers, trained - parts.layers
    if master:
        scratch = 4
    # What computes: the root's weights from the first forward on and two layers, of which one is on its way; the
    # whole gradients of two layers, later of the root.
    gathered = weight * (every if sharding == "zero2" else root + 2 * layer)
    stored = 4 if master else weight
    return State(
        weights=stored * every // processes,
        gradients=(4 if master else gradient) * trained // processes,
        optimizer=8 * trained // processes,
        buffers=gathered + gradient * max(2 * layer, root_trained),
        step=scratch * max(layer, root_trained) // processes,
    )


def other_models(
    shape: Shape, teachers: int, averages: int, freeze_embeddings: bool = False, words: int = WORDS
) -> int:
    """Bytes of the models beside the trained one, in fp32: teachers whole, running averages of what is trained."""
    parts = parameters(shape, words)
    trained = sum(parts) - (parts.words if freeze_embeddings else 0)
    return 4 * (teachers * sum(parts) + averages * trained)


def activations(
    shape: Shape,
    batch: int,
    length: int,
    precision: str = "fp32",
    gpu: bool = True,
    dropout: bool = True,
    passes: int = 1,
    recompute: bool = False,
) -> int:
    """Bytes that `passes` forward passes over `batch` sequences of `length` tokens keep for one common gradient.

    A layer keeps 8 vectors a token (its input, query, key, value, attention's output, the inputs of the two layer norms
    and of the feed-forward), what entered and left the activation function, which fairseq computes in fp32, and the
    dropout masks: a byte a value on a GPU, as wide as the values on a CPU. Attention by torch's fused kernels keeps
    nothing that grows with the square of the length; on a CPU they know no dropout and are left out in 16 bits, and the
    probabilities are kept in fp32, with dropout their mask and their product too. The classifier takes the first token.
    recompute: activation checkpointing keeps the input of every layer, and all the rest of one.
    """
    wide = PRECISIONS[precision].weight
    d, f, heads = shape.dim, shape.ffn, shape.heads
    mask = (1 if gpu else wide) * d if dropout else 0
    layer = 8 * wide * d + (4 + wide) * f + 2 * mask + 4 * (4 if gpu else wide)  # the last: statistics of layer norms
    if gpu or not (dropout or wide < 4):
        layer += 8 * heads  # logarithms of the sums, padding mask
    else:
        # Query, key and value are made fp32 there.
        layer += 3 * (4 - wide) * d + (3 if dropout else 1) * 4 * heads * length
    # The input of the layer norm outside the layers and the last output; a first layer without a layer norm in front
    # has its input thrice, since fairseq transposes it.
    outside = (2 if shape.pre_norm or recompute else 4) * wide * d + mask
    if recompute:
        return batch * length * (passes * (shape.layers * wide * d + outside) + layer - wide * d)
    return batch * length * passes * (shape.layers * layer + outside)
