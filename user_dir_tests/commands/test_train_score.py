"""From fairseq-train over fairseq-validate to labels for new texts, with the commands that a user types."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import LANGUAGES
from driving import (
    PACKAGE,
    mistake,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)
from sklearn.metrics import accuracy_score

from fairseq_robust_xlt import inference


def rows(scores: Path) -> list[dict[str, str]]:
    """predictions.tsv as written, read by nothing of the package."""
    lines = (scores / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]


def counts(scores: Path) -> dict:
    """(n, correct) of each subset and language according to scores.json."""
    subsets = json.loads((scores / "scores.json").read_text(encoding="utf-8"))["subsets"]
    return {
        (name, language): (found["n"], found["correct"])
        for name, subset in subsets.items()
        for language, found in subset["languages"].items()
    }


def labels(scores: Path) -> dict:
    return {(row["subset"], row["languages"], row["id"]): row["predicted"] for row in rows(scores)}


@pytest.fixture(scope="module")
def scored(tmp_path_factory, xnli_folder, encoder_dir):
    """Trained by command with relative paths; then the run was moved, the encoder deleted, and it was scored elsewhere.

    Returns (run folder, scores folder, output of fairseq-validate).
    """
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(encoder_dir, workspace / "encoder")
    shutil.copytree(xnli_folder, workspace / "data")
    arguments = train_arguments(Path("data"), Path("encoder"), Path("run"), "--max-epoch", "2", "--lr", "3e-3")
    trained = run_command("fairseq-train", *arguments, cwd=workspace)
    assert trained.returncode == 0, trained.stderr[-2000:]

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(workspace / "run", elsewhere / "moved")
    shutil.rmtree(workspace)
    done = run_command(
        "fairseq-validate",
        *score_arguments(xnli_folder, Path("moved/checkpoint_best.pt"), "--scores", "scores"),
        *("--valid-subset", "test,dev-sw"),
        cwd=elsewhere,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return elsewhere / "moved", elsewhere / "scores", done.stdout


def test_the_run_scores_in_another_folder_after_its_encoder_is_gone(scored):
    run, scores, _ = scored
    for name in ("dict.txt", "sentencepiece.bpe.model", "benchmark.yaml", "run.json"):
        assert (run / name).is_file()
    assert sorted(path.name for path in scores.iterdir()) == ["predictions.tsv", "scores.json"]


def test_counts_equal_an_independent_recount(scored):
    _, scores, _ = scored
    found = json.loads((scores / "scores.json").read_text(encoding="utf-8"))
    groups = defaultdict(list)
    for row in rows(scores):
        groups[row["subset"], row["languages"]].append(row)
    assert {key: len(group) for key, group in groups.items()} == dict.fromkeys(
        [*(("test", language) for language in LANGUAGES), ("dev-sw", "sw")], 45
    )
    for (subset, language), group in groups.items():
        said = found["subsets"][subset]["languages"][language]
        accuracy = accuracy_score([row["gold"] for row in group], [row["predicted"] for row in group])
        assert said["accuracy"] == pytest.approx(accuracy, abs=1e-12)
        assert said["correct"] == round(accuracy * 45)
    test = found["subsets"]["test"]
    assert test["mean"]["languages"] == list(LANGUAGES)
    expected = sum(test["languages"][language]["accuracy"] for language in LANGUAGES) / 3
    assert test["mean"]["accuracy"] == pytest.approx(expected, abs=1e-12)


def test_gold_labels_are_those_of_the_published_files(scored, xnli_folder):
    _, scores, _ = scored
    for row in rows(scores):
        split = row["subset"].partition("-")[0]
        lines = (xnli_folder / f"{split}-{row['languages']}.tsv").read_text(encoding="utf-8").splitlines()
        assert lines[int(row["id"])].split("\t")[2] == row["gold"]


def test_predicted_is_the_most_probable_label(scored):
    _, scores, _ = scored
    order = json.loads((scores / "scores.json").read_text(encoding="utf-8"))["labels"]
    for row in rows(scores):
        probabilities = [float(p) for p in row["probabilities"].split(",")]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert probabilities[order.index(row["predicted"])] == max(probabilities)


def test_a_line_per_language_and_a_mean_that_names_its_languages(scored):
    _, scores, output = scored
    for (subset, language), (n, correct) in counts(scores).items():
        said = [line.split("| ")[-1].split() for line in output.splitlines() if f" | {subset} | {language} " in line]
        assert [line[:3] for line in said] == [[language, str(n), str(correct)]]
    assert "test | mean of 3 languages: " in output
    assert "(en, sw, ur)" in output
    assert "no file for ar bg de el es fr hi ru th tr vi zh of the benchmark's languages" in output


def test_batch_size_and_order_change_nothing(scored, xnli_folder, tmp_path):
    run, scores, _ = scored
    arguments = score_arguments(xnli_folder, run / "checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    validate_in_process(*arguments, "--valid-subset", "dev-sw,test", "--batch-size", "7", "--num-workers", "2")
    assert counts(tmp_path / "scores") == counts(scores)
    assert labels(tmp_path / "scores") == labels(scores)
    assert [row["id"] for row in rows(tmp_path / "scores")] == [row["id"] for row in rows(scores)]


def test_a_second_subset_adds_to_the_folder(scored, xnli_folder, tmp_path):
    run, scores, _ = scored
    arguments = score_arguments(xnli_folder, run / "checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    validate_in_process(*arguments, "--valid-subset", "dev-sw")
    assert set(counts(tmp_path / "scores")) == {("dev-sw", "sw")}
    validate_in_process(*arguments, "--valid-subset", "test")
    assert (tmp_path / "scores/predictions.tsv").read_bytes() == (scores / "predictions.tsv").read_bytes()
    assert (tmp_path / "scores/scores.json").read_bytes() == (scores / "scores.json").read_bytes()


def test_a_scores_folder_of_another_checkpoint_is_refused(scored, standard_run, xnli_folder, tmp_path):
    run, scores, _ = scored
    shutil.copytree(scores, tmp_path / "scores")
    before = {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()}
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    assert "belongs to another checkpoint" in mistake(validate_in_process, *arguments)
    assert {path.name: path.read_bytes() for path in (tmp_path / "scores").iterdir()} == before


def test_predict_reads_a_file(scored, xnli_folder, tmp_path):
    run, scores, _ = scored
    pairs = [line.split("\t")[:2] for line in (xnli_folder / "test-ur.tsv").read_text("utf-8").splitlines()]
    texts = tmp_path / "new.tsv"
    texts.write_text("".join("\t".join(pair) + "\n" for pair in pairs), encoding="utf-8")
    done = run_command("robust-xlt", "predict", "--path", run / "checkpoint_best.pt", "--cpu", texts)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [labels(scores)["test", "ur", str(i)] for i in range(45)]
    assert [label for label, _ in said] == expected
    shares = dict(part.split("=") for part in said[0][1].split())
    assert set(shares) == {"contradiction", "entailment", "neutral"}
    assert sum(map(float, shares.values())) == pytest.approx(1, abs=1e-3)

    classifier = inference.open(str(run / "checkpoint_best.pt"), cpu=True)
    results = classifier.predict(pairs)
    assert [result.label for result in results] == expected
    assert [f"{result.probabilities['neutral']:.4f}" for result in results] == [
        dict(part.split("=") for part in line[1].split())["neutral"] for line in said
    ]


def test_predict_answers_each_line_of_an_open_pipe(scored, xnli_folder):
    """A program that asks line by line gets its answers before it closes its end."""
    run, scores, _ = scored
    lines = (xnli_folder / "test-sw.tsv").read_text("utf-8").splitlines()[:7]
    program = Path(sys.executable).parent / "robust-xlt"
    with subprocess.Popen(
        [program, "predict", "--path", run / "checkpoint_best.pt", "--cpu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = []
        try:
            for some in (lines[:3], lines[3:4], lines[4:5], lines[5:]):
                for line in some:
                    process.stdin.write(("\t".join(line.split("\t")[:2]) + "\n").encode())
                process.stdin.flush()
                said += answers(process.stdout.fileno(), len(some))
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert said == [labels(scores)["test", "sw", str(i)] for i in range(7)]


def answers(pipe: int, count: int, seconds: float = 90) -> list[str]:
    """The labels of the next `count` lines of a pipe."""
    deadline, data = time.monotonic() + seconds, b""
    while data.count(b"\n") < count:
        ready, _, _ = select.select([pipe], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{data.count(10)} of {count} answers came while the pipe was open"
        block = os.read(pipe, 1 << 16)
        assert block, "the command ended"
        data += block
    return [line.split("\t")[0] for line in data.decode().splitlines()]


def test_sib200_trains_scores_and_predicts(tmp_path, sib_folder, encoder_dir):
    """One sentence instead of two; this run learns, so that scores far above chance are at stake too."""
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", task="sib200")
    train_in_process(*arguments, "--max-epoch", "12", "--lr", "3e-3")
    checkpoint, scores = tmp_path / "run/checkpoint_best.pt", tmp_path / "scores"
    validate_in_process(
        *score_arguments(sib_folder, checkpoint, "--scores", str(scores), task="sib200"), "--valid-subset", "dev"
    )
    found = counts(scores)
    assert {key: n for key, (n, _) in found.items()} == {("dev", language): 45 for language in LANGUAGES}
    assert found["dev", "en"][1] > 22  # chance is 6 of 45
    texts = [line.split("\t")[2] for line in (sib_folder / "dev-en.tsv").read_text("utf-8").splitlines()[1:]]
    results = inference.open(str(checkpoint), cpu=True).predict(texts)
    said = labels(scores)
    assert [result.label for result in results] == [said["dev", "en", str(i)] for i in range(45)]
    assert str(PACKAGE) not in (scores / "scores.json").read_text(encoding="utf-8")
