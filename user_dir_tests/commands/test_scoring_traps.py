"""What fairseq alone does wrong in scoring, with exit status 0: each test's name says what holds here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from conftest import LANGUAGES, nli_rows, write_tsv
from driving import logged, mistake, score_arguments, train_arguments, train_in_process, validate_in_process

from fairseq_robust_xlt import inference


def messages(call, *arguments) -> str:
    with logged() as records:
        call(*arguments)
    return "\n".join(f"{record.levelname} | {record.name} | {record.getMessage()}" for record in records)


def scores(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_the_tail_of_a_data_set_is_scored(standard_run, tmp_path):
    """fairseq drops the last batch unless its size is a multiple of 8: of these five rows it would score none."""
    write_tsv(tmp_path / "test-sw.tsv", nli_rows("sw", 5, 3))
    arguments = score_arguments(tmp_path, standard_run / "checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    validate_in_process(*arguments)
    assert scores(tmp_path / "scores")["subsets"]["test"]["languages"]["sw"]["n"] == 5


def test_another_head_name_at_validation_is_refused(standard_run, xnli_folder):
    """fairseq would score a random head."""
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--classification-head-name", "other")
    message = mistake(validate_in_process, *arguments)
    assert "other" in message
    assert "sentence_classification_head" in message


def test_a_head_of_another_size_is_refused(standard_run, sib_folder, encoder_dir, tmp_path):
    """fairseq would drop the checkpoint's head and go on with a random one."""
    start = ("--finetune-from-model", str(standard_run / "checkpoint_best.pt"))
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", *start, task="sib200")
    message = mistake(train_in_process, *arguments)
    assert "has 3 classes, this task has 7" in message
    name = message.split("--classification-head-name ")[1]
    assert name == "sentence_classification_head_7"
    train_in_process(*arguments, "--classification-head-name", name, "--max-update", "1")
    assert (tmp_path / "run/checkpoint_last.pt").is_file()


def test_an_explicit_task_with_other_labels_or_of_another_kind_is_refused(standard_run, sib_folder, xnli_folder):
    """fairseq takes the task from the checkpoint and drops the flag."""
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", task="pawsx")
    message = mistake(validate_in_process, *arguments, "--valid-subset", "dev")
    assert "labels contradiction, entailment, neutral and the benchmark pawsx has 0, 1" in message
    arguments = score_arguments(sib_folder, standard_run / "checkpoint_best.pt", task="sib200")
    message = mistake(validate_in_process, *arguments, "--valid-subset", "dev")
    assert "of kind pair and sib200 is of kind sentence" in message


def test_an_explicit_stock_task_is_refused(standard_run, xnli_folder):
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", task="sentence_prediction")
    message = mistake(validate_in_process, *arguments, "--criterion", "sentence_prediction")
    assert "--task sentence_prediction" in message
    assert "xnli" in message


def test_an_explicit_benchmark_acts(standard_run, tmp_path):
    table = (standard_run / "benchmark.yaml").read_text(encoding="utf-8")
    own = table.replace("name: xnli", "name: own").replace("test-{lang}.tsv", "own_{lang}.txt")
    (tmp_path / "own.yaml").write_text(own, encoding="utf-8")
    write_tsv(tmp_path / "own_ur.txt", nli_rows("ur", 11, 4))
    arguments = score_arguments(tmp_path, standard_run / "checkpoint_best.pt", task="cross_lingual")
    benchmark = ("--benchmark", str(tmp_path / "own.yaml"))
    validate_in_process(*arguments, *benchmark, "--scores", str(tmp_path / "scores"))
    found = scores(tmp_path / "scores")
    assert found["benchmark"]["name"] == "own"
    assert found["subsets"]["test"]["languages"]["ur"]["n"] == 11


def test_validation_needs_no_criterion_and_no_task_flags(standard_run, xnli_folder, capsys):
    """With fairseq's own task it stops without --criterion; here benchmark, head and encoder come with the run."""
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt")
    assert not {"--criterion", "--encoder", "--classification-head-name"} & set(arguments)
    validate_in_process(*arguments)
    assert "test | mean of 3 languages" in capsys.readouterr().out


def test_too_long_examples_are_scored_and_counted(standard_run, tmp_path, xnli_folder, encoder_dir):
    """fairseq would stop, or with a flag skip them."""
    run = ("--max-length", "10")
    said = messages(train_in_process, *train_arguments(xnli_folder, encoder_dir, tmp_path / "run", *run))
    truncated = int(said.split("train: 203 examples in en")[1].split(" truncated to 10")[0].split()[-1])
    assert 0 < truncated < 203
    assert len(said.split("| train_inner |")) == 14  # every example is trained on
    arguments = score_arguments(xnli_folder, tmp_path / "run/checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    validate_in_process(*arguments)
    found = scores(tmp_path / "scores")["subsets"]["test"]
    assert {language: c["n"] for language, c in found["languages"].items()} == dict.fromkeys(LANGUAGES, 45)
    assert found["signature"]["max_length"] == 10


def test_scores_that_are_not_finite_are_no_predictions(standard_run, xnli_folder, tmp_path):
    """The first label would be the largest of them."""
    folder = tmp_path / "run"
    shutil.copytree(standard_run, folder)
    state = torch.load(folder / "checkpoint_last.pt")
    state["model"]["classification_heads.sentence_classification_head.out_proj.bias"][1] = float("nan")
    torch.save(state, folder / "checkpoint_last.pt")
    checkpoint = folder / "checkpoint_last.pt"
    said = mistake(validate_in_process, *score_arguments(xnli_folder, checkpoint))
    assert "are not finite; has the model diverged?" in said
    classifier = inference.open(str(checkpoint), cpu=True)
    said = mistake(classifier.predict, [("dabo", "keni")])
    assert said == f"{checkpoint}: its scores are not finite; has the model diverged?"
