"""The criterion with fairseq's own task sentence_prediction, on data that fairseq-preprocess has binarised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving import PACKAGE, load_checkpoint, logged, mistake, train_in_process

from fairseq_robust_xlt.encoders import Vocabulary


@pytest.fixture(scope="module")
def binarised(tmp_path_factory, sib_folder, encoder_dir) -> Path:
    """input0 and label as fairseq's sentence_prediction wants them."""
    from fairseq import options
    from fairseq_cli import preprocess

    folder = tmp_path_factory.mktemp("binarised")
    vocabulary = Vocabulary.load(encoder_dir)
    symbols = (encoder_dir / "dict.txt").read_text(encoding="utf-8").splitlines()
    for split, name in (("train", "train-en"), ("valid", "dev-en")):
        lines = (sib_folder / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        _, labels, texts = zip(*(line.split("\t") for line in lines), strict=True)
        pieces = [
            " ".join(symbols[i - 4].rpartition(" ")[0] if i > 3 else "<unk>" for i in ids)
            for ids in vocabulary.encode(texts)
        ]
        (folder / f"{split}.input0").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        (folder / f"{split}.label").write_text("\n".join(labels) + "\n", encoding="utf-8")
    for part, dictionary in (("input0", ("--srcdict", str(encoder_dir / "dict.txt"))), ("label", ())):
        arguments = [
            *("--only-source", "--trainpref", f"{folder}/train.{part}", "--validpref", f"{folder}/valid.{part}"),
            *("--destdir", f"{folder}/bin/{part}", "--workers", "1", *dictionary),
        ]
        preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    return folder / "bin"


def arguments(binarised: Path, save_dir: Path, *more: str) -> list[str]:
    return [
        *(str(binarised), "--user-dir", str(PACKAGE), "--task", "sentence_prediction", "--num-classes", "7"),
        *("--init-token", "0", "--separator-token", "2", "--max-positions", "512", "--shorten-method", "truncate"),
        *("--criterion", "robust_classification", "--optimizer", "adam", "--lr", "3e-3", "--batch-size", "16"),
        *("--max-epoch", "1", "--save-dir", str(save_dir), "--no-epoch-checkpoints", "--cpu", "--num-workers", "0"),
        *("--data-buffer-size", "0", "--required-batch-size-multiple", "1", "--log-format", "json"),
        *("--log-interval", "1", "--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"),
        *more,
    ]


NANO = ("--arch", "xlmr_nano")
ROBERTA = (
    *("--arch", "roberta", "--encoder-layers", "2", "--encoder-embed-dim", "64"),
    *("--encoder-ffn-embed-dim", "128", "--encoder-attention-heads", "2"),
)


def test_an_architecture_of_another_family_is_refused(binarised, tmp_path):
    flags = ("--arch", "bart_base", "--encoder-layers", "1", "--decoder-layers", "1", "--max-update", "1")
    said = mistake(train_in_process, *arguments(binarised, tmp_path / "run", *flags))
    assert "BARTModel has no word embeddings at encoder.sentence_encoder.embed_tokens" in said


def train(*given: str) -> dict[str, list[dict]]:
    with logged() as records:
        train_in_process(*given)
    found: dict[str, list[dict]] = {}
    for record in records:
        if record.name in ("train_inner", "train", "valid"):
            found.setdefault(record.name, []).append(json.loads(record.getMessage()))
    return found


@pytest.mark.parametrize("method", ["standard", "rs-rp", "adv", "fgm"])
def test_every_method_trains_an_arch_of_ours(binarised, encoder_dir, tmp_path, method):
    start = ("--finetune-from-model", str(encoder_dir / "model.pt"))
    logs = train(*arguments(binarised, tmp_path, *NANO, *start, "--method", method))
    assert len(logs["train_inner"]) == 13  # 203 examples, the last 11 among them
    assert logs["valid"][0]["valid_accuracy"] != ""
    if method != "standard":
        assert all(float(line["perturb_norm"]) > 0 for line in logs["train_inner"])
    assert (tmp_path / "checkpoint_last.pt").is_file()


def test_a_stock_roberta_learns_with_an_absolute_radius(binarised, tmp_path):
    more = ("--method", "adv", "--radius-unit", "absolute", "--radius", "0.01", "--max-epoch", "8")
    logs = train(*arguments(binarised, tmp_path, *ROBERTA, *more))
    assert all(0 < float(line["perturb_norm"]) <= 0.01 + 1e-5 for line in logs["train_inner"])
    assert float(logs["train"][-1]["train_loss"]) < float(logs["train"][0]["train_loss"])
    assert (
        "classification_heads.sentence_classification_head.dense.weight"
        in load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    )


def test_a_large_perturbation_changes_the_loss_of_a_stock_roberta(binarised, tmp_path):
    """fairseq's own R3F hands over embeddings that RoBERTa drops: it changes nothing."""
    first = []
    for radius in ("0", "5"):
        more = ("--method", "rs-rp", "--radius-unit", "absolute", "--radius", radius, "--max-update", "1")
        logs = train(*arguments(binarised, tmp_path / radius, *ROBERTA, *more))
        first.append(float(logs["train_inner"][0]["loss"]))
    assert abs(first[0] - first[1]) > 1e-3


def test_noise_in_the_text_is_refused(binarised, tmp_path):
    message = mistake(train_in_process, *arguments(binarised, tmp_path / "run", *NANO, "--method", "rs-da"))
    assert "rs-da" in message
    assert "binarised data" in message


def test_a_relative_radius_with_a_stock_arch_says_the_way_out(binarised, tmp_path):
    message = mistake(train_in_process, *arguments(binarised, tmp_path / "run", *ROBERTA, "--method", "adv"))
    assert "--radius-unit absolute" in message
    assert "xlmr_*" in message


def test_a_relative_radius_without_loaded_weights_is_refused(binarised, tmp_path):
    """The unit would be 0, and the perturbation with it."""
    message = mistake(train_in_process, *arguments(binarised, tmp_path / "run", *NANO, "--method", "adv"))
    assert "no weights were loaded" in message
