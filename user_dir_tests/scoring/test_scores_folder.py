"""A scores folder: merged by subset, of one checkpoint, never half written, the same bytes every time."""

import json
import logging
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.scoring import Prediction, add, lines, read
from fairseq_robust_xlt.scoring.predictions import read as read_predictions

LABELS = ("entailment", "neutral", "contradiction")
SIGNATURE = {"checkpoint_sha256": "ab" * 32, "benchmark": "xnli", "seed": 1, "versions": {"torch": "2"}}


def some(subset: str, languages: str = "en sw ur", n: int = 40, seed: int = 0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    out = []
    for language in languages.split():
        for index in range(n):
            p = rng.dirichlet([1, 1, 1])
            out.append(Prediction(subset, language, str(index), int(rng.integers(3)), int(p.argmax()), tuple(p)))
    return out


def put(folder: Path, predictions: list[Prediction], **changed: Any) -> dict[str, Any]:
    return add(folder, SIGNATURE | changed, predictions, LABELS, source="en")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_against_scikit_learn(tmp_path: Path) -> None:
    predictions = some("test")
    scores = put(tmp_path / "out" / "deep", predictions)
    assert scores == read(tmp_path / "out" / "deep")
    subset = scores["subsets"]["test"]
    assert subset["signature"] == SIGNATURE
    accuracies = {}
    for language in ("en", "sw", "ur"):
        own = [p for p in predictions if p.languages == language]
        accuracies[language] = accuracy_score([p.gold for p in own], [p.predicted for p in own])
        found = subset["languages"][language]
        assert (found["n"], found["accuracy"]) == (40, pytest.approx(accuracies[language]))
        f1 = f1_score([p.gold for p in own], [p.predicted for p in own], average="macro")
        assert found["macro_f1"] == pytest.approx(f1)
        interval = binomtest(found["correct"], 40).proportion_ci(method="wilson")
        assert found["interval"] == pytest.approx([interval.low, interval.high])
    assert subset["mean"]["languages"] == ["en", "sw", "ur"]
    assert subset["mean"]["accuracy"] == pytest.approx(np.mean(list(accuracies.values())))
    assert subset["mean_without_source"]["languages"] == ["sw", "ur"]
    assert subset["mean_without_source"]["accuracy"] == pytest.approx((accuracies["sw"] + accuracies["ur"]) / 2)
    kept = read_predictions(tmp_path / "out" / "deep" / "predictions.tsv", LABELS)
    assert [(p.languages, p.id) for p in kept] == [(p.languages, p.id) for p in predictions]


def test_order_of_rows_and_runs_changes_no_byte(tmp_path: Path) -> None:
    put(tmp_path / "a", some("dev"))
    put(tmp_path / "a", some("test"))
    shuffled = some("test") + some("dev")
    random.Random(0).shuffle(shuffled)
    put(tmp_path / "b", some("test", n=3, seed=5))
    put(tmp_path / "b", shuffled)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert set(content(tmp_path / "a")) == {"predictions.tsv", "scores.json"}


def test_a_second_subset_adds_and_the_same_one_replaces(tmp_path: Path) -> None:
    first = put(tmp_path, some("dev"))["subsets"]["dev"]
    both = put(tmp_path, some("test", "sw"), versions={"torch": "3"})
    assert both["subsets"]["dev"] == first
    assert both["subsets"]["test"]["signature"]["versions"] == {"torch": "3"}
    again = put(tmp_path, some("dev", "en", n=7, seed=2))
    assert again["subsets"]["test"] == both["subsets"]["test"]
    assert again["subsets"]["dev"]["languages"]["en"]["n"] == 7
    assert again["subsets"]["dev"]["mean_without_source"] is None
    assert len(read_predictions(tmp_path / "predictions.tsv", LABELS)) == 47


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"checkpoint_sha256": "cd" * 32}, "another checkpoint"), ({"benchmark": "sib200"}, "sib200")],
)
def test_another_checkpoint_or_benchmark_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    put(tmp_path, some("dev"))
    before = content(tmp_path)
    with pytest.raises(UserError, match=message):
        put(tmp_path, some("test"), **changed)
    with pytest.raises(UserError, match="label set"):
        add(tmp_path, SIGNATURE, some("test"), LABELS[::-1], source="en")
    assert content(tmp_path) == before


@pytest.mark.parametrize("second", ["dev", "test"])
def test_the_next_run_repairs_a_crash_between_the_files(tmp_path: Path, second: str, caplog: Any) -> None:
    """The state a crash leaves: the new predictions beside the old scores.json."""
    put(tmp_path / "out", some("dev"))
    old_scores = (tmp_path / "out" / "scores.json").read_bytes()
    put(tmp_path / "out", some(second, seed=7))
    (tmp_path / "out" / "scores.json").write_bytes(old_scores)
    with caplog.at_level(logging.WARNING):
        put(tmp_path / "out", some("dev-sw", "sw"))
    assert ("unfinished" in caplog.text) == (second == "test")
    put(tmp_path / "clean", some("dev", seed=7 if second == "dev" else 0))
    put(tmp_path / "clean", some("dev-sw", "sw"))
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_a_crash_in_the_first_run_is_repaired(tmp_path: Path, caplog: Any) -> None:
    put(tmp_path / "out", some("dev"))
    (tmp_path / "out" / "scores.json").unlink()
    with caplog.at_level(logging.WARNING):
        put(tmp_path / "out", some("test"), checkpoint_sha256="cd" * 32)
    assert "unknown origin" in caplog.text
    assert list(read(tmp_path / "out")["subsets"]) == ["test"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": 2}',
        lambda b: b[: len(b) // 2],
        lambda b: b.replace(b"interval", b"x"),
    ],
)
def test_damaged_scores_are_refused_and_kept(tmp_path: Path, damage: Any) -> None:
    put(tmp_path, some("dev"))
    path = tmp_path / "scores.json"
    path.write_bytes(damage(path.read_bytes()) if callable(damage) else damage)
    before = content(tmp_path)
    with pytest.raises(UserError, match="damaged"):
        put(tmp_path, some("test"))
    assert content(tmp_path) == before


def test_lost_or_damaged_predictions_are_refused(tmp_path: Path) -> None:
    put(tmp_path, some("dev"))
    path = tmp_path / "predictions.tsv"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"predictions.tsv:121"):
        put(tmp_path, some("test"))
    path.unlink()
    with pytest.raises(UserError, match="lacks the rows of subset dev"):
        put(tmp_path, some("test"))


def test_what_cannot_be_scored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    twice = some("test")
    twice.append(twice[0])
    for predictions, message in ((twice, "twice"), ([], "no predictions")):
        with pytest.raises(UserError, match=message):
            put(tmp_path / "out", predictions)
    assert not (tmp_path / "out").exists()


def test_places_that_hold_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot make the scores folder"):
        put(tmp_path / "file", some("test"))
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path)


def test_a_full_disk_between_the_files(tmp_path: Path) -> None:
    """The predictions still fit, the scores do not: one message, and the next run with room puts it right."""
    put(tmp_path / "out", some("dev", "en", n=1))
    scores = (tmp_path / "out" / "scores.json").read_bytes()
    room = (tmp_path / "out" / "predictions.tsv").stat().st_size + 100
    assert room < len(scores)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(UserError, match="cannot write .*scores.json"):
            put(tmp_path / "out", some("test", "sw", n=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert set(content(tmp_path / "out")) == {"predictions.tsv", "scores.json"}
    assert content(tmp_path / "out")["scores.json"] == scores
    put(tmp_path / "out", some("test", "sw", n=1))
    put(tmp_path / "clean", some("dev", "en", n=1) + some("test", "sw", n=1))
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_lines_for_the_log(tmp_path: Path) -> None:
    predictions = [Prediction("test", "en", str(i), 0, 0, (1.0, 0.0, 0.0)) for i in range(100)]
    predictions += [Prediction("test", "sw", str(i), int(i < 5), 0, (1.0, 0.0, 0.0)) for i in range(8)]
    scores = put(tmp_path, predictions)
    assert lines(scores, "test") == [
        "test | language    n  correct  accuracy    95 % interval  macro-F1",
        "test | en        100      100  100.00 %  [96.30, 100.00]  100.00 %",
        "test | sw          8        3   37.50 %   [13.68, 69.43]   27.27 %",
        "test | mean of 2 languages: 68.75 %, macro-F1 63.64 % (en, sw)",
        "test | mean without the source of 1 language: 37.50 %, macro-F1 27.27 % (sw)",
    ]
    assert json.loads((tmp_path / "scores.json").read_bytes()) == scores
    with pytest.raises(UserError, match="did you mean test"):
        lines(scores, "tets")


def test_a_choice_has_no_f1_and_a_test_set_may_have_no_labels(tmp_path: Path) -> None:
    hidden = [Prediction("test", "sw", str(i), None, i % 3, (0.2, 0.3, 0.5)) for i in range(5)]
    scores = add(tmp_path, SIGNATURE, hidden + some("test", "en ur"), LABELS, source="en", f1=False)
    subset = read(tmp_path)["subsets"]["test"]
    assert subset["languages"]["sw"] == {"n": 5, "correct": None, "accuracy": None, "interval": None}
    assert subset["mean"]["languages"] == ["en", "ur"]
    assert subset["mean"].keys() == {"accuracy", "languages"}
    assert lines(scores, "test")[2] == "test | sw         5        -  no labels               -"
    add(tmp_path, SIGNATURE, [replace(p, subset="dev") for p in hidden], LABELS, source="en")
    assert read(tmp_path)["subsets"]["dev"]["mean"] is None
    assert lines(read(tmp_path), "dev")[1:] == ["dev | sw        5        -  no labels              -         -"]
    assert [p.gold for p in read_predictions(tmp_path / "predictions.tsv", LABELS)][:5] == [None] * 5
    some_hidden = [*hidden, Prediction("test", "sw", "9", 1, 1, (0.0, 1.0, 0.0))]
    scores = put(tmp_path, some_hidden)
    found = scores["subsets"]["test"]["languages"]["sw"]
    assert (found["n"], found["correct"], found["unlabelled"], found["macro_f1"]) == (1, 1, 5, 1.0)
    assert lines(scores, "test")[-1] == "test | sw: 5 rows without a gold label were not scored"


def test_pairs_of_languages(tmp_path: Path) -> None:
    """The generalized setting: a score for each pair; only the source with itself is not zero-shot."""
    scores = put(tmp_path, some("test-pairs", "en-en en-sw sw-en sw-sw"))
    subset = scores["subsets"]["test-pairs"]
    assert subset["mean_without_source"]["languages"] == ["en-sw", "sw-en", "sw-sw"]
    assert lines(scores, "test-pairs")[-2].startswith("test-pairs | mean of 4 language pairs: ")


def test_a_folder_can_be_moved(tmp_path: Path) -> None:
    put(tmp_path / "a", some("dev"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert list(put(tmp_path / "b", some("test"))["subsets"]) == ["dev", "test"]
