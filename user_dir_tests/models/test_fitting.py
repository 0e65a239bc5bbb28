"""Loading: what fits is taken over, under old names too; what does not is refused and says which and how."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from conftest import write_encoder
from driving import Training, configuration, logged, train_arguments

from fairseq_robust_xlt.errors import UserError

RESETS = ("--reset-optimizer", "--reset-lr-scheduler", "--reset-meters", "--reset-dataloader")
PREFIX = "encoder.sentence_encoder."


def load(path) -> dict:
    return torch.load(path, weights_only=False)  # protected all the same: see the tests of the host


@pytest.fixture
def loaded(sib_folder, encoder_dir, tmp_path):
    """A training run set up from a checkpoint, in the way given, but not begun."""

    def run(checkpoint, *flags: str, encoder=encoder_dir, how: str = "finetune", name: str = "run") -> Training:
        arguments = train_arguments(sib_folder, encoder, tmp_path / name, *flags, task="sib200")
        at = arguments.index("--finetune-from-model")
        arguments[at : at + 2] = (
            ["--finetune-from-model", str(checkpoint)]
            if how == "finetune"
            else ["--restore-file", str(checkpoint), *RESETS]
        )
        return Training(*arguments)

    return run


def old_layout(state: dict) -> dict:
    """The names of the published XLM-R files: a decoder, one matrix for queries, keys and values, emb_layer_norm."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm")
        if ".q_proj." in name:
            kind = name.rsplit(".", 1)[1]
            parts = [name.replace("decoder.", "encoder.", 1).replace("q_proj", f"{p}_proj") for p in "qkv"]
            renamed[name.replace("q_proj." + kind, "in_proj_" + kind)] = torch.cat([state[part] for part in parts])
        elif ".k_proj." not in name and ".v_proj." not in name:
            renamed[name] = value
    return renamed


@pytest.mark.parametrize("how", ["finetune", "restore"])
def test_the_published_layout(loaded, encoder_dir, tmp_path, how) -> None:
    checkpoint = load(encoder_dir / "model.pt")
    names = set(checkpoint["model"])
    checkpoint["model"] = old_layout(checkpoint["model"])
    assert "decoder.sentence_encoder.layers.0.self_attn.in_proj_weight" in checkpoint["model"]
    assert not names & set(checkpoint["model"])
    torch.save(checkpoint, tmp_path / "old.pt")
    old = loaded(tmp_path / "old.pt", how=how, name="old")
    new = loaded(encoder_dir / "model.pt", name="new")
    batch = next(iter(new.groups()))[0]
    with torch.no_grad():
        logits = [run.criterion.logits(run.model.eval(), batch) for run in (old, new)]
    assert torch.equal(*logits)
    assert old.model.weights_loaded
    assert torch.equal(old.model.embedding_norm, new.model.embedding_norm)
    assert not any("lm_head" in name for name in new.model.state_dict())


@pytest.mark.parametrize("version", ["kept", "missing"])
def test_the_last_layer_norm_of_xl(loaded, encoder_dir, tmp_path, version) -> None:
    """fairseq drops the layer norm after a pre-norm stack if the checkpoint does not hold its version."""
    shape = (
        "--arch",
        "xlmr_xl",
        "--encoder-layers",
        "2",
        "--encoder-embed-dim",
        "64",
        "--encoder-ffn-embed-dim",
        "128",
    )
    small = (*shape, "--encoder-attention-heads", "4")
    checkpoint = load(encoder_dir / "model.pt")
    state = checkpoint["model"]
    for kind in ("weight", "bias"):
        del state[f"{PREFIX}layernorm_embedding.{kind}"]
        state[f"{PREFIX}layer_norm.{kind}"] = torch.full((64,), 0.25)
    if version == "kept":
        state[f"{PREFIX}version"] = torch.Tensor([3])
    torch.save(checkpoint, tmp_path / "xl.pt")
    encoder = loaded(tmp_path / "xl.pt", *small).model.encoder.sentence_encoder
    assert (encoder.layer_norm.weight == 0.25).all()
    features = encoder(torch.tensor([[0, 5, 2]]))["encoder_out"][0]
    np.testing.assert_allclose(features.mean(-1).detach(), 0.25, atol=1e-5)  # the bias: what is normed has mean 0


def test_heads(loaded, encoder_dir, tmp_path, sib_folder) -> None:
    """Foreign heads are left out and said so; one of our name goes on; one of another size is refused."""
    checkpoint = load(encoder_dir / "model.pt")

    def with_head(name: str, classes: int):
        head = {
            f"classification_heads.{name}.{part}": torch.full(shape, 0.5)
            for part, shape in (
                ("dense.weight", (64, 64)),
                ("dense.bias", (64,)),
                ("out_proj.weight", (classes, 64)),
                ("out_proj.bias", (classes,)),
            )
        }
        path = tmp_path / f"{name}{classes}.pt"
        torch.save({**checkpoint, "model": {**checkpoint["model"], **head}}, path)
        return path

    with logged() as records:
        run = loaded(with_head("paws", 2), name="foreign")
    assert set(run.model.classification_heads) == {"sentence_classification_head"}
    assert any("paws" in record.getMessage() and "delet" in record.getMessage() for record in records)
    with logged() as records:
        run = loaded(with_head("sentence_classification_head", 7), name="own")
    assert (run.model.classification_heads["sentence_classification_head"].out_proj.weight == 0.5).all()
    assert any("goes on from the checkpoint" in record.getMessage() for record in records)
    wrong = with_head("sentence_classification_head", 3)
    with pytest.raises(Exception) as caught:  # noqa: PT011, fairseq wraps it
        loaded(wrong, name="wrong")
    assert "has 3 classes, this task has 7" in message(caught.value)
    assert "--classification-head-name sentence_classification_head_7" in message(caught.value)
    loaded(wrong, "--classification-head-name", "sentence_classification_head_7", name="renamed")


def message(error: BaseException) -> str:
    from fairseq_robust_xlt import host

    mistake = host.user_error(error)
    assert mistake is not None, f"not a user's mistake: {error!r}"
    return str(mistake)


@pytest.mark.parametrize(
    ("shape", "flags", "said"),
    [
        ({"layers": 3}, (), ["layers.2.", "only in the checkpoint"]),
        ({"layers": 1}, (), ["layers.1.", "missing in the checkpoint"]),
        ({"dim": 32, "ffn": 64}, (), ["embed_tokens.weight: checkpoint (", ", 32), model (", "and "]),
        ({}, ("--arch", "xlmr_mini"), ["does not fit --arch xlmr_mini", "its shape is that of --arch xlmr_nano"]),
    ],
    ids=["a layer more", "a layer less", "smaller", "another architecture"],
)
def test_another_shape(loaded, encoder_dir, tmp_path, shape, flags, said) -> None:
    rows = len(load(encoder_dir / "model.pt")["model"][f"{PREFIX}embed_tokens.weight"])
    write_encoder(tmp_path, rows=rows, **shape)
    with pytest.raises(Exception) as caught:  # noqa: PT011, fairseq wraps it
        loaded(tmp_path / "model.pt", *flags)
    text = message(caught.value)
    for part in said:
        assert part in text


def test_rows(loaded, encoder_dir, tmp_path) -> None:
    """Rows past the dictionary are padding and left out; too few rows mean another dictionary."""
    checkpoint = load(encoder_dir / "model.pt")
    table = checkpoint["model"][f"{PREFIX}embed_tokens.weight"]
    checkpoint["model"][f"{PREFIX}embed_tokens.weight"] = torch.cat([table, torch.ones(11, 64)])
    torch.save(checkpoint, tmp_path / "more.pt")
    with logged() as records:
        run = loaded(tmp_path / "more.pt", name="more")
    assert torch.equal(run.model.encoder.sentence_encoder.embed_tokens.weight, table)
    lines = [record.getMessage() for record in records]
    assert f"word table: the last 11 of {len(table) + 11} rows belong to no symbol and are left out" in lines
    write_encoder(tmp_path, rows=len(table) - 3)
    with pytest.raises(Exception) as caught:  # noqa: PT011, fairseq wraps it
        loaded(tmp_path / "model.pt", name="less")
    assert f"the dictionary has {len(table)} symbols but the checkpoint's word table only {len(table) - 3}" in message(
        caught.value
    )
    assert "--encoder" in message(caught.value)


def test_an_encoder_that_was_never_loaded(sib_folder, encoder_dir, tmp_path) -> None:
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", task="sib200")
    at = arguments.index("--finetune-from-model")
    del arguments[at : at + 2]
    with pytest.raises(UserError, match="a random encoder would be trained; give them with --finetune-from-model"):
        Training(*arguments).train(1)
    assert not list(tmp_path.rglob("*.json"))
    logs = Training(*arguments, "--from-scratch").train(1)
    assert logs[0]["loss"] > 0


def test_the_unit_of_radii_is_that_of_the_encoder_as_loaded(loaded, encoder_dir, tmp_path) -> None:
    """NumPy's mean norm of the ordinary rows; unchanged by training, after a resume, and in the next fine-tuning."""
    table = load(encoder_dir / "model.pt")["model"][f"{PREFIX}embed_tokens.weight"].numpy()
    expected = np.linalg.norm(table.astype(np.float64), axis=1)[4:-1].mean()
    run = loaded(encoder_dir / "model.pt", "--lr", "0.05", name="first")
    assert float(run.model.embedding_norm) == pytest.approx(expected, rel=1e-6)
    run.train(3)
    changed = run.model.encoder.sentence_encoder.embed_tokens.weight.detach().numpy()
    assert abs(np.linalg.norm(changed, axis=1)[4:-1].mean() - expected) > 0.001
    assert float(run.model.embedding_norm) == pytest.approx(expected, rel=1e-6)
    last = run.save()
    resumed = loaded(encoder_dir / "model.pt", "--lr", "0.05", name="first")
    assert resumed.trainer.get_num_updates() == 3
    assert torch.equal(resumed.model.embedding_norm, run.model.embedding_norm)
    again = loaded(last, "--classification-head-name", "second", name="second")
    assert again.trainer.get_num_updates() == 0
    assert torch.equal(again.model.embedding_norm, run.model.embedding_norm)


def test_the_unit_of_an_encoder_from_scratch(sib_folder, encoder_dir, tmp_path) -> None:
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path, "--from-scratch", "--method", "rs-rp", task="sib200")
    at = arguments.index("--finetune-from-model")
    del arguments[at : at + 2]
    run = Training(*arguments)
    rows = run.model.encoder.sentence_encoder.embed_tokens.weight.detach().double().norm(dim=1)[4:-1]
    run.train(2)
    assert float(run.model.embedding_norm) == pytest.approx(float(rows.mean()), rel=1e-6)


def test_positions(sib_folder, encoder_dir, tmp_path) -> None:
    """XLM-R has 512 positions whatever --max-length; a limit beyond them is refused."""
    from fairseq import tasks

    cfg = configuration(*train_arguments(sib_folder, encoder_dir, tmp_path, "--max-length", "513", task="sib200"))
    with pytest.raises(UserError, match="--max-length 513: the encoder has 512 positions"):
        tasks.setup_task(cfg.task).build_model(cfg.model)


def test_another_encoder_directory(loaded, encoder_dir, tmp_path) -> None:
    """A dictionary with more symbols than the checkpoint has rows for."""
    other = tmp_path / "encoder"
    shutil.copytree(encoder_dir, other)
    with open(other / "dict.txt", "a", encoding="utf-8") as file:
        file.write("more 1\nand 1\n")
    with pytest.raises(Exception) as caught:  # noqa: PT011, fairseq wraps it
        loaded(other / "model.pt", encoder=other)
    assert "dict" in message(caught.value)
