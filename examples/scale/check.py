"""The calculation of plan.py beside what the operating system and the clock say, for xlmr_mini on the CPU (Linux)."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path

import torch

import fairseq_robust_xlt
from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.encoders import SHAPES, footprint

ARCH, BATCH, LENGTH, UPDATES = "xlmr_mini", 16, 128, 4
MIB = 2**20


def resident(what: str) -> int:
    """Bytes of this process in memory: "VmRSS" now, "VmHWM" at most since `forget_peak`."""
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def give_memory_back() -> None:
    """Let the C library return freed tensors to the system at once, else the peak counts what is no longer used."""
    threshold, size = -3, 2**17  # M_MMAP_THRESHOLD
    ctypes.CDLL("libc.so.6").mallopt(threshold, size)


def matrix_rate() -> float:
    """Operations a second of this machine's largest gain: a product of two matrices as large as a layer's."""
    shape = SHAPES[ARCH]
    left, right = torch.randn(BATCH * LENGTH, shape.dim), torch.randn(shape.dim, shape.ffn)
    rates = []
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        rates.append(2 * BATCH * LENGTH * shape.dim * shape.ffn / (time.perf_counter() - start))
    return max(rates)


def check(method: str) -> list[dict]:
    """Train on made-up tokens, word table frozen, fp32; print and return calculated and measured figures."""
    give_memory_back()
    fairseq_robust_xlt.register()
    from fairseq.optim.adam import Adam

    from fairseq_robust_xlt.criterions import alone

    shape, passes = SHAPES[ARCH], recipes.count(recipes.resolve(method))
    state = footprint.state(shape, freeze_embeddings=True)
    kept = footprint.activations(shape, BATCH, LENGTH, gpu=False, passes=passes.parameters)
    flops = footprint.flops_of_update(footprint.flops(shape, BATCH, LENGTH), passes)
    criterion, batch = alone.criterion(method), alone.batch(BATCH, LENGTH, footprint.WORDS)

    before = resident("VmRSS")
    model = alone.model(ARCH, footprint.WORDS, freeze_embeddings=True)
    model.keep_embedding_norm()
    weights = resident("VmRSS") - before
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    seconds, rates = [], []
    for _ in range(UPDATES):
        rates.append(matrix_rate())
        forget_peak()
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)
        criterion(model, batch)[0].backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    peak = resident("VmHWM") - before
    rate, best = max(rates), min(seconds)
    rows = [
        ("parameters", sum(footprint.parameters(shape)), sum(p.numel() for p in model.parameters())),
        ("MiB of weights", state.weights / MIB, weights / MIB),
        ("MiB at the peak of an update", (state.kept + max(kept, state.step)) / MIB, peak / MIB),
        ("seconds an update, were all of it a product of matrices", flops / rate, best),
    ]
    print(
        f"--arch {ARCH}, --method {method}, {BATCH} inputs of {LENGTH} tokens, fp32, word table frozen, on the CPU "
        f"with {torch.get_num_threads()} thread(s) of {os.cpu_count()}; {rate / 1e9:.0f} G operations/s in a product"
    )
    print(f"{'':<58}{'calculated':>14}{'measured':>14}{'ratio':>8}")
    for name, calculated, measured in rows:
        print(f"{name:<58}{calculated:>14,.1f}{measured:>14,.1f}{measured / calculated:>8.2f}")
    return [{"what": name, "calculated": c, "measured": m, "ratio": m / c} for name, c, m in rows]
