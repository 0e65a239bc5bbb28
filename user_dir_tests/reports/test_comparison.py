"""Comparing scored runs, against scikit-learn and a count by hand."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fairseq_robust_xlt import reports, scoring
from fairseq_robust_xlt.cli.main import main
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.scoring import Prediction

LANGUAGES = ("en", "sw", "ur")


def scores(folder, right: float, seed: int, languages=LANGUAGES, n=80, source="en", method=None):
    """A scores folder whose predictions are right with the given probability."""
    rng = random.Random(seed)
    rows = []
    for language in languages:
        for i in range(n):
            gold = i % 3
            predicted = gold if rng.random() < right else (gold + 1) % 3
            rows.append(Prediction("test", language, str(i), gold, predicted, (0.5, 0.3, 0.2)))
    signature = {"checkpoint_sha256": f"{seed}", "benchmark": {"name": "made"}, "method": method}
    scoring.add(folder, signature, rows, ["a", "b", "c"], source=source)
    return rows


def test_accuracies_means_and_differences(tmp_path):
    rows = {
        (name, seed): scores(tmp_path / f"{name}{seed}", right, 10 * seed + i)
        for i, (name, right) in enumerate({"standard": 0.5, "fgm": 0.75}.items())
        for seed in (1, 2)
    }
    found = reports.compare({n: [tmp_path / f"{n}{s}" for s in (1, 2)] for n in ("standard", "fgm")}, "test")
    assert found.languages == ("en", "sw", "ur")
    assert found.others == ("sw", "ur")
    for name in ("standard", "fgm"):
        for language in LANGUAGES:
            both = [
                accuracy_score(
                    [p.gold for p in rows[name, seed] if p.languages == language],
                    [p.predicted for p in rows[name, seed] if p.languages == language],
                )
                for seed in (1, 2)
            ]
            assert found.accuracy[name][language] == pytest.approx(np.mean(both))
        f1 = []
        for seed in (1, 2):
            for language in ("sw", "ur"):
                own = [p for p in rows[name, seed] if p.languages == language]
                f1.append(f1_score([p.gold for p in own], [p.predicted for p in own], average="macro"))
        assert found.macro_f1[name] == pytest.approx(np.mean(f1))
        assert found.mean[name] == pytest.approx(np.mean([found.accuracy[name][lang] for lang in ("sw", "ur")]))
    difference = found.difference["fgm"]
    assert difference.estimate == pytest.approx(found.mean["fgm"] - found.mean["standard"])
    assert 0 < difference.low < difference.estimate < difference.high
    assert "standard" not in found.difference
    text = found.text()
    assert "Significant: fgm" in text
    assert "Nulls (p above 0.05): none" in text
    assert text.splitlines()[2].split()[-1] == "macro-F1"
    assert text.splitlines()[5].split()[-1] == f"{100 * found.macro_f1['fgm']:.1f}"


def test_some_of_the_languages(tmp_path):
    rows = {
        name: scores(tmp_path / name, right, seed) for seed, (name, right) in enumerate({"a": 0.5, "b": 0.6}.items())
    }
    found = reports.compare({name: [tmp_path / name] for name in "ab"}, "test", languages=["ur"])
    shares = {name: np.mean([p.gold == p.predicted for p in rows[name] if p.languages == "ur"]).item() for name in "ab"}
    assert found.mean == pytest.approx(shares)
    assert found.difference["b"].estimate == pytest.approx(shares["b"] - shares["a"])
    assert (found.languages, found.others, found.macro_f1) == (LANGUAGES, ("ur",), {})
    assert "mean = over 1 languages without training labels (ur)" in found.text()


def test_a_method_compared_with_itself_is_a_null(tmp_path):
    scores(tmp_path / "a", 0.6, 1)
    found = reports.compare({"one": [tmp_path / "a"], "other": [tmp_path / "a"]}, "test")
    assert found.difference["other"] == (0.0, 0.0, 0.0, 1.0)
    assert "Nulls (p above 0.05): other" in found.text()


def test_the_order_of_rows_does_not_matter(tmp_path):
    rows = scores(tmp_path / "a", 0.6, 1)
    signature = {"checkpoint_sha256": "1", "benchmark": {"name": "made"}}
    scoring.add(tmp_path / "b", signature, rows[::-1], ["a", "b", "c"], source="en")
    assert reports.compare({"one": [tmp_path / "a"], "other": [tmp_path / "b"]}, "test").difference["other"][0] == 0


def test_other_examples_are_refused(tmp_path):
    rows = scores(tmp_path / "a", 0.6, 1)
    scores(tmp_path / "b", 0.6, 2, n=70)
    scores(tmp_path / "c", 0.6, 3, languages=("en", "sw"))
    signature = {"checkpoint_sha256": "1", "benchmark": {"name": "made"}}
    relabelled = [replace(p, gold=2 - p.gold) if (p.languages, p.id) == ("sw", "3") else p for p in rows]
    scoring.add(tmp_path / "d", signature, relabelled, ["a", "b", "c"], source="en")
    for other, says in (
        ("b", "was not scored on the languages and examples of"),
        ("c", "was not scored on the languages and examples of"),
        ("d", "the label of 3 in sw is c here and a there"),
    ):
        with pytest.raises(UserError, match=says):
            reports.compare({"one": [tmp_path / "a"], "other": [tmp_path / other]}, "test")


def test_the_command(tmp_path, capsys):
    scores(tmp_path / "a", 0.5, 1)
    scores(tmp_path / "b", 0.9, 2)
    runs = [f"standard={tmp_path / 'a'}", f"fgm={tmp_path / 'b'}"]
    assert main(["report", *runs, "--json", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert "mean - standard" in printed
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["methods"]["standard"]["baseline"] is True
    assert written["methods"]["fgm"]["difference"][0] > 0.2
    assert written["methods"]["fgm"]["p"] == written["methods"]["fgm"]["p_holm"] < 0.01


def test_another_baseline_and_correction_over_the_methods(tmp_path):
    for seed, (name, right) in enumerate({"a": 0.5, "b": 0.6, "c": 0.7}.items()):
        scores(tmp_path / name, right, seed)
    found = reports.compare({name: [tmp_path / name] for name in "abc"}, "test", baseline="b")
    assert list(found.difference) == ["a", "c"]
    assert found.p_holm == dict(zip("ac", scoring.holm([found.difference[name].p for name in "ac"]), strict=True))
    assert "mean - b" in found.text()
    assert found.asdict()["methods"]["b"]["baseline"] is True


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["standard"], "expected NAME=FOLDER"),
        (["=x"], "expected NAME=FOLDER"),
        (["a={a}", "a={a}"], "given twice"),
        (["a={a},"], "expected NAME=FOLDER"),
        (["a={a}/nothing"], "cannot read"),
        (["a={a}", "--languages", "ur,swa"], "unknown language 'swa'; did you mean sw?"),
        (["a={a}", "--languages", "en"], "unknown language 'en'"),
        (["a={a}", "--subset", "tset"], "unknown subset 'tset'; did you mean test?"),
    ],
)
def test_mistakes_are_one_message(tmp_path, capsys, runs, message):
    scores(tmp_path / "a", 0.5, 1)
    assert main(["report", *[run.format(a=tmp_path / "a") for run in runs]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_languages_with_other_examples(tmp_path):
    """As PAWS-X has them: each language counts the same, and what it has is said."""
    for name, right, seed in (("a", 0.5, 1), ("b", 0.7, 2)):
        rows = scores(tmp_path / "whole", right, seed, languages=("en", "de", "fr"), n=90)
        kept = [p for p in rows if p.languages != "fr" or int(p.id) >= 20]
        signature = {"checkpoint_sha256": name, "benchmark": {"name": "made"}}
        scoring.add(tmp_path / name, signature, kept, ["a", "b", "c"], source="en")
        shutil.rmtree(tmp_path / "whole")
    found = reports.compare({"a": [tmp_path / "a"], "b": [tmp_path / "b"]}, "test")
    assert found.examples == {"en": 90, "de": 90, "fr": 70}
    assert found.mean["b"] == pytest.approx((found.accuracy["b"]["de"] + found.accuracy["b"]["fr"]) / 2)
    assert found.difference["b"].estimate == pytest.approx(found.mean["b"] - found.mean["a"])
    assert found.text().splitlines()[4].split() == ["rows", "90", "90", "70"]
    assert "rows a language" not in reports.compare({"a": [tmp_path / "a"]}, "test").text()


def without(folder, rows, language: str, ids: set[str], rename=lambda i: i):
    """A scores folder that lacks some rows in one language."""
    kept = [p for p in rows if p.languages != language or p.id not in ids]
    kept = [replace(p, id=rename(p.id)) if p.languages == language else p for p in kept]
    scoring.add(
        folder, {"checkpoint_sha256": str(folder), "benchmark": {"name": "made"}}, kept, ["a", "b", "c"], source="en"
    )


def test_a_row_that_one_language_lacks_leaves_the_interval_as_it_is(tmp_path):
    """Rows with the same id are translations of each other: drawn by themselves, they would look like more examples."""
    runs = {}
    for name, right, seed in (("a", 0.5, 1), ("b", 0.6, 2)):
        rng, rows = random.Random(seed), []
        for i in range(200):
            hit = rng.random() < right  # the same in all languages
            rows += [Prediction("test", x, f"q{i}", 0, 0 if hit else 1, (0.5, 0.3, 0.2)) for x in ("en", *"stuvwz")]
        signature = {"checkpoint_sha256": name, "benchmark": {"name": "made"}}
        scoring.add(tmp_path / name, signature, rows, ["a", "b", "c"], source="en")
        without(tmp_path / f"{name}-less", rows, "s", {"q7"})
        numbered = [replace(p, id=p.id[1:]) for p in rows]
        without(tmp_path / f"{name}-numbered", numbered, "s", {"7"}, lambda i: str(int(i) - (int(i) > 7)))
        runs[name] = tmp_path / name
    whole, less, numbered = (
        reports.compare({name: [f"{run}{suffix}"] for name, run in runs.items()}, "test")
        for suffix in ("", "-less", "-numbered")
    )
    widths = [found.difference["b"].high - found.difference["b"].low for found in (whole, less, numbered)]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] < 0.6 * widths[0]
    assert (whole.aligned, less.aligned, numbered.aligned) == (True, True, False)
    assert "intervals are too short" in numbered.text()
    assert "intervals are too short" not in less.text()
    assert numbered.asdict()["aligned"] is False


def test_few_seeds_are_said(tmp_path):
    folders = {seed: tmp_path / f"{seed}" for seed in range(12)}
    for seed, folder in folders.items():
        scores(folder, 0.6, seed)
    one, three, five = (
        reports.compare({"a": [folders[i] for i in range(n)], "b": [folders[6 + i] for i in range(n)]}, "test").text()
        for n in (1, 3, 5)
    )
    assert "seeds resampled" not in one
    assert "One seed: " in one
    assert "3 seeds: their spread is underestimated" in three
    assert "underestimated" not in five


def test_the_source_language_alone(tmp_path):
    for seed, (name, right) in enumerate({"a": 0.5, "b": 0.6}.items()):
        scores(tmp_path / name, right, seed, languages=("en",))
    found = reports.compare({name: [tmp_path / name] for name in "ab"}, "test")
    assert found.others == ()
    assert found.difference["b"].estimate == pytest.approx(found.accuracy["b"]["en"] - found.accuracy["a"]["en"])
    first, _, head, *_ = found.text().splitlines()
    assert first == "Accuracy in percent on test, mean over 1 seed"
    assert head.split()[:4] == ["en", "-", "a", "p"]


def test_what_a_single_language_can_show(tmp_path):
    rows = {name: scores(tmp_path / name, right, seed) for name, right, seed in (("a", 0.9, 1), ("b", 0.92, 2))}
    found = reports.compare({name: [tmp_path / name] for name in rows}, "test")
    widths = []
    for language in ("sw", "ur"):
        a, b = ([p.gold == p.predicted for p in rows[name] if p.languages == language] for name in "ab")
        widths.append(1.96 * np.std(np.subtract(a, b, dtype=float)) / 80**0.5)
    assert found.single == pytest.approx(np.median(widths))
    assert f"in a single language {100 * found.single:.1f} (not corrected)" in found.text()


def test_runs_of_one_name_are_seeds_of_one_method(tmp_path):
    for name, seed, method in (
        ("a", 1, {"method": "adv", "radius": 0.01}),
        ("b", 2, {"method": "/there/adv.yaml", "radius": 0.01}),
        ("c", 3, {"method": "adv", "radius": 0.03}),
    ):
        scores(tmp_path / name, 0.6, seed, method=method)
    a, b, c = (tmp_path / name for name in "abc")
    reports.compare({"one": [a, b], "other": [a]}, "test")
    with pytest.raises(UserError, match=f"one: {a} and {a} have scores of the same checkpoint"):
        reports.compare({"one": [a, b, a]}, "test")
    with pytest.raises(UserError, match="no seeds of one method: radius is 0.03 in the first and 0.01 in the second"):
        reports.compare({"one": [a, c]}, "test")


def test_numbers_of_rows_are_told_from_ids_where_some_have_no_label(tmp_path):
    for name, right, seed in (("a", 0.5, 1), ("b", 0.7, 2)):
        rows = scores(tmp_path / "whole", right, seed)
        kept = [p for p in rows if p.languages != "ur" or int(p.id) < 60]
        kept[0] = replace(kept[0], gold=None)
        kept[100] = replace(kept[100], gold=None)
        scoring.add(tmp_path / name, signature(name), kept, ["a", "b", "c"], source="en")
        shutil.rmtree(tmp_path / "whole")
    found = reports.compare({name: [tmp_path / name] for name in "ab"}, "test")
    assert found.examples == {"en": 79, "sw": 79, "ur": 60}
    assert not found.aligned
    assert "60 rows a language" in found.text()
    assert found.asdict()["others"] == ["sw", "ur"]


def signature(checkpoint: str) -> dict:
    return {"checkpoint_sha256": checkpoint, "benchmark": {"name": "made"}}


def test_the_spread_of_seeds_is_in_the_interval_of_a_language(tmp_path):
    for seed, right in enumerate((0.2, 0.5, 0.8)):
        scores(tmp_path / f"a{seed}", right, seed, n=600)
        scores(tmp_path / f"b{seed}", 0.5, seed + 3, n=600)
    runs = {name: [tmp_path / f"{name}{seed}" for seed in range(3)] for name in "ab"}
    assert reports.compare(runs, "test").single > 0.25
    runs = {name: folders[:1] for name, folders in runs.items()}
    assert reports.compare(runs, "test").single < 0.1


def test_what_was_trained_on_another_language(tmp_path):
    scores(tmp_path / "a", 0.5, 1)
    scores(tmp_path / "b", 0.5, 2, source="sw")
    with pytest.raises(UserError, match="b: was trained on sw and .*a on en"):
        reports.compare({"one": [tmp_path / "a"], "other": [tmp_path / "b"]}, "test")


def test_a_baseline_that_is_not_there(tmp_path):
    scores(tmp_path / "a", 0.5, 1)
    with pytest.raises(UserError, match="unknown baseline 'standrad'; did you mean standard"):
        reports.compare({"standard": [tmp_path / "a"]}, "test", baseline="standrad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[:1],
            "predictions.tsv: 0 labelled examples in en of test, of which scores.json has scored 80",
        ),
        (lambda lines: lines[:-1], "predictions.tsv: 79 labelled examples in ur of test, of which"),
        (lambda lines: [*lines, lines[-1]], "predictions.tsv:242: example 79 of test, ur is in line 241 already"),
        (lambda lines: [*lines[:-1], lines[-1].replace("0.5", "nan")], "predictions.tsv:241: probabilities nan,"),
    ],
)
def test_predictions_that_are_not_those_of_the_scores(tmp_path, change, message):
    scores(tmp_path / "a", 0.5, 1)
    file = tmp_path / "a/predictions.tsv"
    file.write_text("\n".join(change(file.read_text("utf-8").splitlines())) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        reports.compare({"one": [tmp_path / "a"]}, "test")
