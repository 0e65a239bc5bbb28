"""The quickstart's data, its table, and the real encoder."""

from __future__ import annotations

from collections import Counter

import pytest
from driving import REPOSITORY, run_command

from fairseq_robust_xlt import benchmarks, scoring, text
from fairseq_robust_xlt.noise import SynonymNoise, SynonymTable

FOLDER = REPOSITORY / "examples/quickstart"
NEEDS = benchmarks.load(FOLDER / "needs.yaml")


def texts(split: str, language: str = "en") -> list[str]:
    return [e.sequences[0][0] for e in text.read(NEEDS, FOLDER / "data", split, language)]


def test_the_data_are_balanced_and_aligned():
    train = text.read(NEEDS, FOLDER / "data", "train", "en")
    assert Counter(e.label for e in train) == dict.fromkeys(range(8), 30)
    dev = text.read(NEEDS, FOLDER / "data", "dev", "en")
    assert Counter(e.label for e in dev) == dict.fromkeys(range(8), 20)
    english = [(e.id, e.label) for e in text.read(NEEDS, FOLDER / "data", "test", "en")]
    assert len(english) == 100
    for language in NEEDS.languages:
        assert [(e.id, e.label) for e in text.read(NEEDS, FOLDER / "data", "test", language)] == english
    assert len(NEEDS.languages) >= 12


def test_no_text_is_in_two_splits():
    together = texts("train") + texts("dev") + texts("test")
    assert len({t.lower() for t in together}) == 500


def test_synonyms_cover_a_third_of_the_training_words():
    noise = SynonymNoise(SynonymTable.load(FOLDER / "data/synonyms.json"))
    assert noise.coverage(texts("train")) >= 0.30
    assert 0.15 < noise.replaced(texts("train")) < noise.coverage(texts("train"))


@pytest.mark.slow
def test_a_real_encoder_transfers_to_languages_without_labels(tmp_path):
    """multilingual-e5-small, three epochs on 240 English messages: far above chance (12.5 %) in Swahili and Hindi."""
    encoder = tmp_path / "e5-small"
    made = run_command("robust-xlt", "encoder", "make", "e5-small", encoder)
    assert made.returncode == 0, made.stderr
    flags = run_command("robust-xlt", "encoder", "check", "--flags", encoder).stdout.split()
    common = ["--user-dir", str(REPOSITORY / "fairseq_robust_xlt"), "--task", "cross_lingual", "--cpu"]
    trained = run_command(
        "fairseq-train",
        *(str(FOLDER / "data"), *common, "--benchmark", str(FOLDER / "needs.yaml"), *flags),
        *("--pooling", "mean", "--freeze-embeddings", "--criterion", "robust_classification", "--method", "rs-rp"),
        *("--optimizer", "adam", "--lr", "2e-4", "--batch-size", "8", "--max-epoch", "3", "--attention-dropout", "0"),
        *("--clip-norm", "1.0", "--validate-interval", "3", "--save-interval", "3", "--no-epoch-checkpoints"),
        *("--no-save-optimizer-state", "--save-dir", str(tmp_path / "run")),
        timeout=1500,
    )
    assert trained.returncode == 0, trained.stderr
    scored = run_command(
        "fairseq-validate",
        *(str(FOLDER / "data"), *common, "--path", str(tmp_path / "run/checkpoint_last.pt")),
        *("--valid-subset", "test-sw,test-hi", "--batch-size", "50", "--scores", str(tmp_path / "scores")),
        timeout=600,
    )
    assert scored.returncode == 0, scored.stderr
    subsets = scoring.read(tmp_path / "scores")["subsets"]
    assert subsets["test-sw"]["languages"]["sw"]["accuracy"] > 0.25
    assert subsets["test-hi"]["languages"]["hi"]["accuracy"] > 0.35
