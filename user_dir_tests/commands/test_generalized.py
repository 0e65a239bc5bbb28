"""The generalized setting through fairseq-validate: the two texts of a pair in two languages."""

from __future__ import annotations

import json

from driving import mistake, run_command, score_arguments, train_arguments, train_in_process, validate_in_process

from fairseq_robust_xlt import inference


def test_all_ordered_pairs_in_one_pass(standard_run, xnli_folder, tmp_path):
    done = run_command(
        "fairseq-validate",
        *score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--scores", str(tmp_path)),
        *("--valid-subset", "test-pairs,test-en-sw,test"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "test-pairs: 405 examples in 9 pairs of en sw ur" in done.stdout + done.stderr
    subsets = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["subsets"]
    pairs = subsets["test-pairs"]["languages"]
    assert list(pairs) == [f"{a}-{b}" for a in ("en", "sw", "ur") for b in ("en", "sw", "ur")]
    assert {one["n"] for one in pairs.values()} == {45}
    assert len(subsets["test-pairs"]["mean_without_source"]["languages"]) == 8
    assert subsets["test-en-sw"]["languages"] == {"en-sw": pairs["en-sw"]}
    for language, one in subsets["test"]["languages"].items():
        assert one == pairs[f"{language}-{language}"]
    # What was paired: the first texts of one file, the second texts of another.
    rows = [line.split("\t") for line in (tmp_path / "predictions.tsv").read_text(encoding="utf-8").splitlines()]
    said = {row[2]: row[4] for row in rows if row[:2] == ["test-pairs", "ur-en"]}
    texts = {
        language: [line.split("\t") for line in (xnli_folder / f"test-{language}.tsv").read_text("utf-8").splitlines()]
        for language in ("ur", "en")
    }
    mixed = [(first[0], second[1]) for first, second in zip(texts["ur"], texts["en"], strict=True)]
    results = inference.open(str(standard_run / "checkpoint_best.pt"), cpu=True).predict(mixed)
    assert [said[str(i)] for i in range(45)] == [result.label for result in results]


def test_pairs_can_be_watched_in_training(xnli_folder, encoder_dir, tmp_path):
    train_in_process(*train_arguments(xnli_folder, encoder_dir, tmp_path, "--valid-subset", "valid,dev-pairs"))
    message = mistake(
        train_in_process,
        *train_arguments(xnli_folder, encoder_dir, tmp_path / "new", "--valid-subset", "dev-pairs,valid"),
    )
    assert "selecting on other than source-language development data is not zero-shot" in message


def test_misaligned_languages_are_refused_and_nothing_is_written(standard_run, xnli_folder, tmp_path):
    (tmp_path / "data").mkdir()
    for language in ("en", "sw"):
        lines = (xnli_folder / f"test-{language}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = lines if language == "en" else lines[1:]
        (tmp_path / "data" / f"test-{language}.tsv").write_text("".join(kept), encoding="utf-8")
    arguments = score_arguments(
        tmp_path / "data", standard_run / "checkpoint_best.pt", "--scores", str(tmp_path / "out")
    )
    message = mistake(validate_in_process, *arguments, "--valid-subset", "test-en-sw")
    assert "sw has 44 rows" in message
    assert "not line-aligned" in message
    assert not (tmp_path / "out").exists()
