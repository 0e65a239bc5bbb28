"""New texts are read as those of the training: a template words the stem, and what is no list of texts is refused."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from conftest import sentence
from driving import mistake, score_arguments, train_arguments, train_in_process, validate_in_process

from fairseq_robust_xlt import inference
from fairseq_robust_xlt.cli.main import main

TABLE = """
name: why
version: 1
kind: choice
source: en
languages: [en]
labels: ["1", "2"]
layouts:
  - name: columns
    header: true
    columns: {stem: premise, template: asks, options: [choice1, choice2], label: answer}
    templates: {cause: "{stem} keni lu?", effect: "va {stem}"}
    files: {train: train.tsv, dev: dev.tsv}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder_dir) -> Path:
    """A table with templates, its data, a checkpoint trained on them and its scores of the dev set."""
    folder, rng = tmp_path_factory.mktemp("why"), random.Random(0)
    (folder / "why.yaml").write_text(TABLE, encoding="utf-8")
    for split in ("train", "dev"):
        lines = ["premise\tasks\tchoice1\tchoice2\tanswer"]
        for _ in range(32):
            texts = [sentence(rng.sample(range(60), 3), "en") for _ in range(3)]
            lines.append("\t".join([texts[0], rng.choice(["cause", "effect"]), *texts[1:], rng.choice("12")]))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    use = ("--benchmark", str(folder / "why.yaml"))
    train_in_process(*train_arguments(folder, encoder_dir, folder / "run", *use, task="cross_lingual"))
    scoring = score_arguments(folder, folder / "run/checkpoint_best.pt", *use, task="cross_lingual")
    validate_in_process(*scoring, "--valid-subset", "valid", "--scores", str(folder / "scores"))
    return folder


@pytest.fixture(scope="module")
def rows(folder) -> list[dict]:
    """The dev set as new inputs."""
    with open(folder / "dev.tsv", encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    return [
        {"stem": row["premise"], "template": row["asks"], "options": [row["choice1"], row["choice2"]]} for row in found
    ]


def test_a_template_words_the_stem_of_new_choices_as_in_training(folder, rows):
    with open(folder / "scores/predictions.tsv", encoding="utf-8") as file:
        scored = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    results = inference.open(str(folder / "run/checkpoint_best.pt"), cpu=True).predict(rows)
    for result, row in zip(results, scored, strict=True):
        probabilities = list(map(float, row["probabilities"].split(",")))
        assert list(result.probabilities.values()) == pytest.approx(probabilities, abs=1e-5)
    other = [row | {"template": {"cause": "effect", "effect": "cause"}[row["template"]]} for row in rows]
    changed = inference.open(str(folder / "run/checkpoint_best.pt"), cpu=True).predict(other)
    differences = [abs(a.probabilities["1"] - b.probabilities["1"]) for a, b in zip(results, changed, strict=True)]
    assert max(differences) > 1e-3


REFUSED = [
    ({"template": None}, "unknown template 'None'; allowed: cause, effect"),
    ({"template": "reason"}, "unknown template 'reason'; allowed: cause, effect"),
    ({"stem": None}, "a template, and no stem that it could word"),
    ("template", 'no "template", by which why words the stem; give one of: cause, effect'),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_template_that_is_none(folder, rows, tmp_path, capfd, change, message):
    bad = rows[1] | change if isinstance(change, dict) else {k: v for k, v in rows[1].items() if k != change}
    checkpoint = str(folder / "run/checkpoint_best.pt")
    classifier = inference.open(checkpoint, cpu=True)
    assert mistake(classifier.predict, [rows[0], bad]) == f"input 2: {message}"
    path = tmp_path / "new.jsonl"
    path.write_text(f"{json.dumps(rows[0])}\n{json.dumps(bad)}\n", encoding="utf-8")
    assert main(["predict", "--path", checkpoint, "--cpu", str(path)]) == 1
    assert f"error: {path}:2: {message}" in capfd.readouterr().err.splitlines()


NO_INPUTS = [
    ("text", "inputs: given the text 'text', expected a list of texts"),
    (b"text", "inputs: given the text b'text', expected a list of texts"),
    ({"text": 1}, "inputs: given one mapping, expected a list of inputs"),
    (3, "inputs: given 3, expected a list of inputs"),
    ([("a", 3)], "input 1: expected 2 texts, given ('a', 3)"),
    ([("a", None)], "input 1: expected 2 texts, given ('a', None)"),
    ([("a", "b"), 7], "input 2: expected 2 texts, given 7"),
    ([{"a": "b", "c": "d"}], "input 1: expected 2 texts, given {'a': 'b', 'c': 'd'}"),
    (["ab"], "input 1: expected 2 texts, given 'ab'"),
]


@pytest.mark.parametrize(("given", "message"), NO_INPUTS)
def test_what_is_no_list_of_pairs(standard_run, given, message):
    classifier = inference.open(str(standard_run / "checkpoint_best.pt"), cpu=True)
    assert mistake(classifier.predict, given).startswith(message)
    assert mistake(lambda: list(classifier.stream(given))).startswith(message)
