"""Multiple choice: trained on questions with five options, scored on two in other languages, labels for new ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import sentence
from driving import (
    Training,
    json_lines,
    mistake,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import inference


def question(rng: random.Random, language: str, options: int) -> tuple[str, list[str], int]:
    """A stem, options of which one is about its own kind of things, and which one that is."""
    right = rng.randrange(options)
    texts = []
    for number in range(options):
        kind = 0 if number == right else rng.randint(1, 4)
        texts.append(sentence(rng.sample([m for m in range(60) if m % 5 == kind], rng.randint(2, 4)), language))
    return sentence(rng.sample(range(60), rng.randint(2, 6)), language), texts, right


def write_csqa(path: Path, count: int, seed: int, answers: bool = True) -> None:
    """CommonsenseQA's format."""
    rng, lines = random.Random(seed), []
    for number in range(count):
        stem, options, right = question(rng, "en", 5)
        choices = [{"label": label, "text": text} for label, text in zip("ABCDE", options, strict=True)]
        row = {"id": f"q{number}", "question": {"question_concept": "it", "choices": choices, "stem": stem}}
        lines.append(json.dumps(row | ({"answerKey": "ABCDE"[right]} if answers else {})))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_xcopa(path: Path, language: str, count: int, seed: int) -> None:
    """XCOPA's format."""
    rng, lines = random.Random(seed), []
    for number in range(count):
        stem, (first, second), right = question(rng, language, 2)
        row = {"premise": stem, "choice1": first, "choice2": second, "question": rng.choice(["cause", "effect"])}
        lines.append(json.dumps(row | {"label": right, "idx": number, "changed": False}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    (folder / "csqa").mkdir()
    write_csqa(folder / "csqa/train.jsonl", 160, 0)
    write_csqa(folder / "csqa/valid.jsonl", 45, 1)
    write_csqa(folder / "csqa/test.jsonl", 13, 2, answers=False)
    (folder / "xcopa").mkdir()
    for language in ("sw", "zh"):
        write_xcopa(folder / f"xcopa/val.{language}.jsonl", "sw" if language == "sw" else "ur", 41, 3)
    return folder


@pytest.fixture(scope="module")
def run(folder, encoder_dir, tmp_path_factory):
    """The checkpoint of a run by command, and its log."""
    save_dir = tmp_path_factory.mktemp("run")
    more = ("--max-epoch", "4", "--batch-size", "8", "--lr", "3e-3")
    done = run_command("fairseq-train", *train_arguments(folder / "csqa", encoder_dir, save_dir, *more, task="csqa"))
    assert done.returncode == 0, done.stderr[-2000:]
    return save_dir / "checkpoint_best.pt", done.stdout


def scores_of(out: Path) -> dict:
    return json.loads((out / "scores.json").read_text(encoding="utf-8"))["subsets"]


def test_it_learns_and_every_question_counts_once(run):
    valid = json_lines(run[1], "valid")
    assert float(valid[-1]["valid_accuracy"]) > 60  # chance is 20
    train = json_lines(run[1], "train")[-1]
    assert train["train_bsz"] == "8"  # questions; each has five rows


def test_a_checkpoint_of_five_options_is_scored_on_two_in_other_languages(run, folder, tmp_path):
    """By the name of another task, and by --benchmark, with the same predictions."""
    done = run_command(
        "fairseq-validate",
        *score_arguments(folder / "xcopa", run[0], "--scores", str(tmp_path / "a"), task="xcopa"),
        *("--valid-subset", "dev"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = scores_of(tmp_path / "a")["dev"]
    assert {language: one["n"] for language, one in found["languages"].items()} == {"sw": 41, "zh": 41}
    assert found["mean"].keys() == {"accuracy", "languages"}  # the number of an option is no class: no macro-F1
    assert "dev | mean of 2 languages: " in done.stdout + done.stderr
    validate_in_process(
        *score_arguments(folder / "xcopa", run[0], "--scores", str(tmp_path / "b"), task="csqa"),
        *("--valid-subset", "dev", "--benchmark", "xcopa", "--batch-size", "7"),
    )
    one, other = ((tmp_path / name / "predictions.tsv").read_text(encoding="utf-8") for name in "ab")
    assert [line.split("\t")[:5] for line in one.splitlines()] == [line.split("\t")[:5] for line in other.splitlines()]


@pytest.mark.parametrize(("flags", "radius"), [((), 0.003), (("--radius", "0.02"), 0.02)])
def test_a_choice_takes_the_radius_that_its_recipe_has_for_it(folder, sib_folder, encoder_dir, tmp_path, flags, radius):
    method = ("--method", "adv", *flags)
    for data, task, wanted in ((folder / "csqa", "csqa", radius), (sib_folder, "sib200", radius if flags else 0.01)):
        training = Training(*train_arguments(data, encoder_dir, tmp_path / task, *method, task=task))
        assert training.criterion.recipe.radius == wanted
        assert training.task.record.recipe["radius"] == wanted


def test_hidden_answers_are_predicted_and_not_scored(run, folder, encoder_dir, tmp_path):
    arguments = score_arguments(folder / "csqa", run[0], "--scores", str(tmp_path / "scores"), task="csqa")
    validate_in_process(*arguments, "--valid-subset", "test,valid")
    found = scores_of(tmp_path / "scores")
    assert found["test"]["languages"]["en"] == {"n": 13, "correct": None, "accuracy": None, "interval": None}
    assert found["valid"]["languages"]["en"]["accuracy"] > 0.6
    lines = (tmp_path / "scores/predictions.tsv").read_text(encoding="utf-8").splitlines()[1:14]
    assert all(line.split("\t")[3] == "" and line.split("\t")[4] in "ABCDE" for line in lines)
    more = train_arguments(folder / "csqa", encoder_dir, tmp_path, "--valid-subset", "valid,test", task="csqa")
    assert "test.jsonl:1: no gold label, so test cannot be validated in training" in mistake(train_in_process, *more)


def test_new_questions_have_any_number_of_options(run, folder):
    rows = [json.loads(line) for line in (folder / "csqa/valid.jsonl").read_text(encoding="utf-8").splitlines()]
    given = [
        {"stem": row["question"]["stem"], "options": [choice["text"] for choice in row["question"]["choices"]]}
        for row in rows
    ]
    classifier = inference.open(str(run[0]), cpu=True)
    results = classifier.predict(given)
    right = [result.label == row["answerKey"] for result, row in zip(results, rows, strict=True)]
    assert sum(right) > 0.6 * len(rows)
    assert list(results[0].probabilities) == list("ABCDE")
    fewer = {"stem": given[0]["stem"], "options": given[0]["options"][1:4]}
    (done,) = classifier.predict([fewer])
    assert list(done.probabilities) == ["1", "2", "3"]
    assert sum(done.probabilities.values()) == pytest.approx(1)
    # An option's score depends on nothing but the stem and itself.
    wanted = torch.tensor([results[0].probabilities[label] for label in "BCD"])
    assert list(done.probabilities.values()) == pytest.approx((wanted / wanted.sum()).tolist(), abs=1e-5)


def test_the_command_reads_json_lines(run, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '{"stem": "ba", "options": ["bo", "be"], "id": 7}\n{"options": ["bo", "be", "bi"]}\n', encoding="utf-8"
    )
    done = run_command("robust-xlt", "predict", "--path", str(run[0]), "--cpu", str(path))
    assert done.returncode == 0, done.stderr
    first, second = (line.split("\t") for line in done.stdout.splitlines())
    assert first[0] in "12"
    assert [part.split("=")[0] for part in second[1].split()] == ["1", "2", "3"]
    path.write_text('{"stem": "ba", "options": ["bo", "be"]}\n{"stem": "ba", "options": ["bo"]}\n', encoding="utf-8")
    done = run_command("robust-xlt", "predict", "--path", str(run[0]), "--cpu", str(path))
    assert done.returncode == 1
    assert f"error: {path}:2: expected " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a text", "input 1: expected"),
        ({"stem": "ba", "options": ["bo"]}, "input 1: expected"),
        ({"stem": "ba", "options": ["bo", " "]}, "input 1: the text is empty"),
        ({"stem": 3, "options": ["bo", "be"]}, "input 1: expected"),
    ],
)
def test_inputs_that_are_no_choice(run, given, message):
    assert message in mistake(inference.open(str(run[0]), cpu=True).predict, [given])


def test_a_checkpoint_of_another_kind_is_refused(run, standard_run, xnli_folder, folder):
    message = mistake(validate_in_process, *score_arguments(xnli_folder, run[0], task="xnli"))
    assert message == "the checkpoint was trained on a benchmark of kind choice and xnli is of kind pair"
    message = mistake(
        validate_in_process,
        *score_arguments(folder / "xcopa", standard_run / "checkpoint_best.pt", task="xcopa"),
        *("--valid-subset", "dev"),
    )
    assert message == "the checkpoint was trained on a benchmark of kind pair and xcopa is of kind choice"


@pytest.mark.parametrize("method", ["standard", "rs-rp", "adv", "fgm"])
def test_the_loss_is_a_softmax_over_the_options(method, folder, encoder_dir, tmp_path):
    """At radius 0 every method's loss is the cross-entropy of scores that are computed option by option."""
    radius = () if method == "standard" else ("--radius", "0")
    no_dropout = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0", "--batch-size", "6")
    run = Training(
        *train_arguments(folder / "csqa", encoder_dir, tmp_path, "--method", method, *radius, *no_dropout, task="csqa")
    )
    run.model.keep_embedding_norm()
    batch = next(iter(run.groups()))[0]
    run.model.train()
    run.criterion.train()
    loss, size, log = run.criterion(run.model, batch)
    assert (size, len(batch["net_input"]["src_tokens"]), log["nsentences"]) == (6, 30, 6)
    pad, wanted = run.task.vocabulary.pad, 0.0
    examples = run.task.datasets["train"].examples
    for index, target in zip(batch["id"].tolist(), batch["target"].tolist(), strict=True):
        rows = [run.task.datasets["train"][index]["tokens"][option] for option in range(5)]
        assert len(examples[index].sequences) == 5
        scores = [
            run.model(row[row != pad][None], classification_head_name="sentence_classification_head")[0] for row in rows
        ]
        wanted += float(F.cross_entropy(torch.cat(scores).detach().view(1, 5), torch.tensor([target])))
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "method", ["rs-rp", "adv", "fgm", "freelb", "r3f", "smart", "rs-da", "mixup", "xtune", "ear --attention-layer 2"]
)
def test_every_method_trains(method, folder, encoder_dir, synonyms, tmp_path):
    method, *flags = method.split()
    flags += ["--synonyms", str(synonyms)] if method in ("rs-da", "xtune", "ear") else []
    run = Training(*train_arguments(folder / "csqa", encoder_dir, tmp_path, "--method", method, *flags, task="csqa"))
    logs = run.train(12)
    assert sum(log["loss"] for log in logs[-3:]) < sum(log["loss"] for log in logs[:3])
    if method in ("rs-rp", "adv", "fgm", "r3f", "smart"):  # FreeLB's ball is the whole sequence's
        radius = run.criterion.recipe.radius * float(run.model.embedding_norm)
        assert all(0.5 * radius < log["perturb_norm"] <= radius * 1.001 + 1e-5 for log in logs)


def test_max_tokens_counts_every_option(folder, encoder_dir, tmp_path):
    arguments = train_arguments(folder / "csqa", encoder_dir, tmp_path, "--max-tokens", "400", task="csqa")
    run = Training(*[a for i, a in enumerate(arguments) if "--batch-size" not in (a, arguments[max(i - 1, 0)])])
    sizes = [batch["net_input"]["src_tokens"].numel() for (batch,) in run.groups()]
    assert max(sizes) <= 400
    assert sum(sizes) / len(sizes) > 200


def test_max_tokens_that_no_question_fits(folder, encoder_dir, tmp_path):
    arguments = train_arguments(folder / "csqa", encoder_dir, tmp_path, "--max-tokens", "30", task="csqa")
    message = mistake(train_in_process, *arguments)
    assert message.startswith("--max-tokens 30: the longest example of train has ")
    assert "(5 options, each as long as the longest)" in message
