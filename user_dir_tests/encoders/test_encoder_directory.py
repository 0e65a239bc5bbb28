"""inspect() and check() on encoders that fairseq itself builds, under today's and the published names."""

import argparse
import io
import os
import pickle
import shlex
import sys
import types
from pathlib import Path

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary
from fairseq.models.roberta import RobertaEncoder

from fairseq_robust_xlt.encoders import check, inspect
from fairseq_robust_xlt.encoders.shapes import SHAPES
from fairseq_robust_xlt.errors import UserError

NANO = {"encoder_layers": 2, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128, "encoder_attention_heads": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a dictionary and a SentencePiece model."""
    folder = tmp_path_factory.mktemp("files")
    text = [f"the {word} reads {number} books in the garden" for word in ("child", "man", "cat") for number in range(9)]
    with open(folder / "sentencepiece.bpe.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text), model_writer=file, vocab_size=60, hard_vocab_limit=False, minloglevel=2
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    return folder


@pytest.fixture
def directory(files, tmp_path) -> Path:
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    return tmp_path


@pytest.fixture
def checkpoint(directory) -> dict:
    """A checkpoint of the size of xlmr_nano."""
    return build(directory, **NANO)


def build(directory: Path, **settings) -> dict:
    dictionary = Dictionary.load(str(directory / "dict.txt"))
    dictionary.add_symbol("<mask>")
    args = argparse.Namespace(arch="roberta_base", max_positions=512, **settings)
    encoder = RobertaEncoder(args, dictionary)
    model = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    model.pop("encoder.sentence_encoder.version", None)
    return {"args": argparse.Namespace(**settings), "model": model}


def save(checkpoint: dict, directory: Path, **how) -> None:
    torch.save(checkpoint, directory / "model.pt", **how)


def with_published_names(checkpoint: dict) -> dict:
    """As fairseq named things when XLM-R base and large were published."""
    model = {}
    for key, tensor in checkpoint["model"].items():
        name = key.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm")
        if ".self_attn.q_proj." in name:
            parts = [checkpoint["model"][key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            model[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            model[name] = tensor
    return checkpoint | {"model": model}


def key_of(name: str) -> str:
    return f"encoder.sentence_encoder.{name}"


def test_a_nano_encoder(checkpoint, directory):
    save(checkpoint, directory)
    info = check(directory)
    lines = (directory / "dict.txt").read_text(encoding="utf-8").count("\n")
    assert info == inspect(directory)
    assert (info.layers, info.dim, info.ffn, info.heads, info.positions) == (2, 64, 128, 2, 512)
    assert (info.dictionary_size, info.rows, info.pieces, info.padding_rows) == (lines + 5, lines + 5, lines + 3, 0)
    assert (info.arch, info.pre_norm, info.dtype, info.has_lm_head) == ("xlmr_nano", False, "float32", True)
    assert info.flags() == f"--arch xlmr_nano --encoder {directory} --finetune-from-model {directory}/model.pt"


def test_flags_are_quoted_for_a_shell(checkpoint, directory):
    folder = directory / "my encoder"
    folder.mkdir()
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        (directory / name).rename(folder / name)
    save(checkpoint, folder)
    flags = shlex.split(check(folder).flags())
    assert flags[2:] == ["--encoder", str(folder), "--finetune-from-model", f"{folder}/model.pt"]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_published_names_mean_the_same(checkpoint, directory, zipped):
    save(checkpoint, directory)
    today = check(directory)
    published = with_published_names(checkpoint)
    assert any(key.startswith("decoder.") and key.endswith("in_proj_weight") for key in published["model"])
    save(published, directory, _use_new_zipfile_serialization=zipped)
    assert check(directory) == today


def test_training_meters_of_old_checkpoints_are_passed_over(checkpoint, directory, monkeypatch):
    module = types.ModuleType("fairseq.meters")  # where fairseq had them until 0.9
    module.AverageMeter = type("AverageMeter", (), {"__module__": "fairseq.meters", "__qualname__": "AverageMeter"})
    meter = module.AverageMeter()
    meter.sum, meter.count = 3.0, 2
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fairseq.meters", module)
        save(checkpoint | {"extra_state": {"train_meters": {"loss": meter}}}, directory)
    assert check(directory).arch == "xlmr_nano"


def test_a_pre_norm_encoder_and_one_that_fits_no_architecture(directory):
    settings = NANO | {"encoder_normalize_before": True, "layernorm_embedding": False, "encoder_layers": 3}
    save(build(directory, **settings), directory)
    info = check(directory)
    assert (info.pre_norm, info.arch, info.layers) == (True, None, 3)
    shape = "--arch xlmr_xl --encoder-layers 3 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128"
    assert info.flags().startswith(f"{shape} --encoder-attention-heads 2 --encoder ")


def test_other_position_tables_are_named_in_the_flags(checkpoint, directory):
    name = key_of("embed_positions.weight")
    checkpoint["model"][name] = checkpoint["model"][name][:130]
    save(checkpoint, directory)
    info = check(directory)
    assert info.positions == 128
    assert "--max-positions 128" in info.flags()


def test_heads_decide_the_architecture_where_the_checkpoint_names_them(checkpoint, directory):
    checkpoint["args"].encoder_attention_heads = 4
    save(checkpoint, directory)
    assert (inspect(directory).heads, inspect(directory).arch) == (4, None)
    save({"model": checkpoint["model"]}, directory)
    assert (inspect(directory).heads, inspect(directory).arch) == (None, "xlmr_nano")
    save({"cfg": {"model": checkpoint["args"]}, "model": checkpoint["model"]}, directory)
    assert inspect(directory).heads == 4


def test_flags_ask_for_heads_that_nobody_knows(directory):
    save({"model": build(directory, **NANO | {"encoder_layers": 1})["model"]}, directory)
    with pytest.raises(UserError, match=r"1 layers of 64 fit no architecture.*--encoder-attention-heads"):
        inspect(directory).flags()


def test_shapes_are_those_that_were_published():
    assert [(name, s.layers, s.dim, s.ffn, s.heads) for name, s in SHAPES.items() if s.pre_norm] == [
        ("xlmr_xl", 36, 2560, 10240, 32),
        ("xlmr_xxl", 48, 4096, 16384, 32),
    ]
    assert all(shape.dim % shape.heads == 0 and shape.ffn >= 2 * shape.dim for shape in SHAPES.values())


def test_a_padded_word_table_is_fine_and_told(checkpoint, directory):
    for name in ("encoder.sentence_encoder.embed_tokens.weight", "encoder.lm_head.weight"):
        checkpoint["model"][name] = torch.cat([checkpoint["model"][name], torch.zeros(7, 64)])
    save(checkpoint, directory)
    assert check(directory).padding_rows == 7


def test_a_word_table_smaller_than_the_dictionary(checkpoint, directory):
    name = key_of("embed_tokens.weight")
    checkpoint["model"][name] = checkpoint["model"][name][:-3]
    save(checkpoint, directory)
    rows = checkpoint["model"][name].shape[0]
    with pytest.raises(UserError, match=rf"model\.pt: the word table has {rows} rows, fewer than the {rows + 3} ids"):
        check(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(checkpoint, directory, value):
    name = key_of("layers.1.fc1.bias")
    checkpoint["model"][name][5] = value
    save(checkpoint, directory)
    with pytest.raises(UserError, match=r"layers\.1\.fc1\.bias has 1 values that are not finite"):
        check(directory)


def test_missing_and_misshapen_tensors(checkpoint, directory):
    bias = checkpoint["model"].pop(key_of("layers.1.fc2.bias"))
    save(checkpoint, directory)
    with pytest.raises(UserError, match=r"layers\.1\.fc2\.bias is missing"):
        check(directory)
    checkpoint["model"][key_of("layers.1.fc2.bias")] = bias[:-1]
    save(checkpoint, directory)
    with pytest.raises(UserError, match=r"layers\.1\.fc2\.bias has shape \(63,\), expected \(64,\)"):
        check(directory)


@pytest.mark.parametrize("part", ["layers.", "embed_positions.", "layernorm_embedding."])
def test_encoders_that_lack_a_part_are_refused_without_a_stack_trace(checkpoint, directory, part):
    checkpoint["model"] = {k: v for k, v in checkpoint["model"].items() if part not in k}
    save(checkpoint, directory)
    with pytest.raises(UserError, match=r"model\.pt: .*is missing"):
        check(directory)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2], "not a fairseq checkpoint"),
        ({"state_dict": {"weight": torch.zeros(2)}}, "not a fairseq checkpoint"),
        ({"model": {"weight": 3}}, "not a fairseq checkpoint"),
        ({"model": {3: torch.zeros(2)}, "cfg": argparse.Namespace()}, "not a fairseq checkpoint"),
        ({"model": {"roberta.embeddings.word_embeddings.weight": torch.zeros(2, 2)}}, "no RoBERTa or XLM-R encoder"),
    ],
)
def test_checkpoints_of_something_else(directory, state, message):
    save(state, directory)
    with pytest.raises(UserError, match=rf"model\.pt: {message}"):
        check(directory)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0, 50, 0.5, -10])
def test_truncated_checkpoints(checkpoint, directory, zipped, keep):
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    (directory / "model.pt").write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else keep])
    with pytest.raises(UserError, match=r"model\.pt: not a whole checkpoint \(truncated, or another kind of file\)"):
        check(directory)


@pytest.mark.parametrize("content", [b"no checkpoint at all\n" * 50, b"<html>not found</html>", os.urandom(5000)])
def test_files_that_are_no_checkpoints(directory, content):
    (directory / "model.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pt: not a whole checkpoint"):
        check(directory)


class Command:
    """Pickles as a call of os.system."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("allowed_before", [True, False])
def test_what_torch_may_load_is_afterwards_what_it_was(checkpoint, directory, allowed_before):
    save(checkpoint, directory)
    host = torch.serialization.get_safe_globals()
    try:
        torch.serialization.clear_safe_globals()
        if allowed_before:
            torch.serialization.add_safe_globals([argparse.Namespace, Command])
        check(directory)
        now = torch.serialization.get_safe_globals()
        assert set(now) == ({argparse.Namespace, Command} if allowed_before else set())
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(host)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_something_is_refused_and_not_run(checkpoint, directory, tmp_path, zipped):
    trace = tmp_path / "it_ran"
    save(checkpoint | {"extra_state": Command(f"touch {trace}")}, directory, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"model\.pt: refused, .* run or build '\w+\.system', .*nothing in it was run"):
        check(directory)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Command(f"touch {trace}")))  # the trap is live
    assert trace.exists()


def test_missing_directory_and_files(checkpoint, directory):
    with pytest.raises(UserError, match=r"nowhere: no such directory; an encoder directory holds model\.pt, dict"):
        check(directory / "nowhere")
    with pytest.raises(UserError, match=r"model\.pt: there is no such checkpoint file"):
        check(directory)
    save(checkpoint, directory)
    (directory / "sentencepiece.bpe.model").unlink()
    with pytest.raises(UserError, match=r"cannot read .*sentencepiece\.bpe\.model: No such file"):
        check(directory)
