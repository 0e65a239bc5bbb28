"""Every mistake ends in one message that says what is wrong and where, and leaves nothing half-written behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import write_encoder
from driving import (
    PACKAGE,
    mistake,
    one_message,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)


def change(path: Path, line: int, new: bytes) -> None:
    """Put other bytes in the place of a line (counted from 1)."""
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = new
    path.write_bytes(b"\n".join(lines))


@pytest.fixture
def data(tmp_path, xnli_folder) -> Path:
    """A copy of the data that a test may spoil."""
    return shutil.copytree(xnli_folder, tmp_path / "data")


@pytest.fixture
def encoder(tmp_path, encoder_dir) -> Path:
    """A copy of the encoder directory that a test may spoil."""
    return shutil.copytree(encoder_dir, tmp_path / "encoder")


def refused(tmp_path: Path, data: Path, encoder: Path, *more: str) -> str:
    """The message with which a training is refused; its folder holds nothing then."""
    run = tmp_path / "run"
    message = mistake(train_in_process, *train_arguments(data, encoder, run, *more))
    assert not run.exists() or not list(run.iterdir())
    return message


# ---- data ----------------------------------------------------------------------------------------------------------

ROWS = [
    pytest.param(b"only one column", "1 column", id="wrong column count"),
    pytest.param(b"a\tb\tneutral\tmore", "4 columns", id="too many columns"),
    pytest.param(b"a\tb\tentailed", "'entailed'", id="unknown label"),
    pytest.param(b"a\t \tneutral", "is empty", id="empty text"),
    pytest.param(b"a\tb\xff\tneutral", "0xff", id="invalid UTF-8"),
]


@pytest.mark.parametrize(("row", "says"), ROWS)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, data, encoder_dir, row, says):
    for name in ("train-en.tsv", "dev-en.tsv"):
        whole = (data / name).read_bytes()
        change(data / name, 17, row)
        message = refused(tmp_path, data, encoder_dir)
        assert f"{data / name}:17: " in message
        assert says in message
        (data / name).write_bytes(whole)


def test_a_bad_row_as_a_command(tmp_path, data, encoder_dir):
    change(data / "train-en.tsv", 203, b"a\tb\tentailed")
    done = run_command("fairseq-train", *train_arguments(data, encoder_dir, tmp_path / "run"))
    assert f"{data / 'train-en.tsv'}:203: unknown label 'entailed'" in one_message(done)
    assert not list((tmp_path / "run").glob("*"))


def test_a_bad_row_met_while_scoring_leaves_no_scores(tmp_path, data, standard_run):
    change(data / "test-sw.tsv", 45, b"a\tb\tentailed")
    scores = tmp_path / "scores"
    arguments = score_arguments(data, standard_run / "checkpoint_best.pt", "--scores", str(scores))
    assert f"{data / 'test-sw.tsv'}:45: " in mistake(validate_in_process, *arguments)
    assert not scores.exists()


def test_a_missing_file(tmp_path, data, encoder_dir):
    (data / "train-en.tsv").unlink()
    message = refused(tmp_path, data, encoder_dir)
    assert str(data) in message
    assert "train-en.tsv" in message


def test_a_missing_folder(tmp_path, encoder_dir):
    assert str(tmp_path / "nowhere") in refused(tmp_path, tmp_path / "nowhere", encoder_dir)


# ---- encoder -------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_encoder(tmp_path, data, encoder_dir):
    weights = ("--finetune-from-model", str(encoder_dir / "model.pt"))
    assert str(tmp_path / "data" / "dict.txt") in refused(tmp_path, data, data, *weights)


def test_weights_that_are_not_there(tmp_path, data, encoder):
    (encoder / "model.pt").unlink()
    assert f"--finetune-from-model {encoder}/model.pt" in refused(tmp_path, data, encoder)


def test_a_dictionary_with_more_symbols_than_the_encoder_has_rows(tmp_path, data, encoder):
    with open(encoder / "dict.txt", "a", encoding="utf-8") as file:
        file.write("another 1\n")
    message = refused(tmp_path, data, encoder)
    assert "symbols" in message
    assert "rows" in message
    assert "--encoder" in message


def test_a_dictionary_without_the_pieces(tmp_path, data, encoder):
    lines = (encoder / "dict.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (encoder / "dict.txt").write_text("".join(lines[:100]), encoding="utf-8")
    assert "belong to different encoders" in refused(tmp_path, data, encoder)


def test_weights_of_another_shape(tmp_path, data, encoder):
    rows = len((encoder / "dict.txt").read_text(encoding="utf-8").splitlines()) + 5
    write_encoder(encoder, rows, layers=3)
    message = refused(tmp_path, data, encoder)
    assert "does not fit --arch xlmr_nano" in message
    assert "layers.2" in message


# ---- settings ------------------------------------------------------------------------------------------------------

SETTINGS = [
    pytest.param(("--method", "advv"), ("'advv'", "did you mean adv"), id="unknown method"),
    pytest.param(("--method", "none.yaml"), ("none.yaml",), id="missing recipe"),
    pytest.param(("--valid-subset", "vallid"), ("'vallid'", "did you mean valid"), id="unknown subset"),
    pytest.param(("--valid-subset", "valid,dev-urr"), ("'urr'", "did you mean ur"), id="unknown language"),
    pytest.param(("--train-subset", "train-xx"), ("'xx'", "known: ar, bg"), id="unknown training language"),
    pytest.param(("--method", "adv", "--radius", "-0.1"), ("--radius -0.1", "0 or larger"), id="negative radius"),
    pytest.param(("--method", "adv", "--radius", "nan"), ("--radius nan",), id="radius not a number"),
    pytest.param(("--radius", "0.1"), ("--radius 0.1", "no meaning for --method standard"), id="useless radius"),
    pytest.param(("--method", "adv", "--perturb-norm", "l3"), ("'l3'", "l2, linf"), id="unknown norm"),
    pytest.param(("--method", "adv", "--perturb-steps", "0"), ("--perturb-steps 0",), id="no steps"),
    pytest.param(("--method", "rs-da"), ("--synonyms",), id="noise without its table"),
    pytest.param(("--noise", "synonims", "--synonyms", "x"), ("'synonims'", "synonyms"), id="unknown noise"),
    pytest.param(("--method", "rs-da", "--synonyms", "none.json"), ("none.json",), id="missing table"),
    pytest.param(("--synonyms", "none.json"), ("no effect",), id="table without noise"),
    pytest.param(("--synonym-match", "exact"), ("--synonym-match exact", "no effect"), id="match without noise"),
    pytest.param(
        ("--method", "adv", "--perturb-layer", "3"), ("--perturb-layer 3", "2 layers"), id="layer that is not there"
    ),
    pytest.param(("--method", "ear"), ("--attention-layer 6", "2 layers"), id="attention that is not there"),
    pytest.param(("--max-length", "3"), ("--max-length", "3"), id="too short a limit"),
    pytest.param(("--max-length", "600"), ("--max-length 600", "512"), id="too long a limit"),
]


@pytest.mark.parametrize(("flags", "says"), SETTINGS)
def test_a_bad_setting(tmp_path, xnli_folder, encoder_dir, flags, says):
    message = refused(tmp_path, xnli_folder, encoder_dir, *flags)
    for part in says:
        assert part in message


def without_batch_size(arguments: list[str]) -> list[str]:
    at = arguments.index("--batch-size")
    return arguments[:at] + arguments[at + 2 :]


def test_no_batch_size_as_commands(tmp_path, xnli_folder, encoder_dir, standard_run):
    training = train_arguments(xnli_folder, encoder_dir, tmp_path / "run")
    scoring = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt")
    for command, arguments in (("fairseq-train", training), ("fairseq-validate", scoring)):
        message = one_message(run_command(command, *without_batch_size(arguments)))
        assert message.startswith("no batch size is given: say --batch-size N (examples) or --max-tokens N (tokens")


def test_an_unknown_benchmark(tmp_path, xnli_folder, encoder_dir):
    for name in ("xnly", "none.yaml"):
        arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", task="cross_lingual")
        message = mistake(train_in_process, *arguments, "--benchmark", name)
        assert name in message
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path / "run", task="cross_lingual")
    assert "--benchmark" in mistake(train_in_process, *arguments)


def test_an_unknown_subset_of_a_checkpoint(standard_run, xnli_folder, tmp_path):
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--scores", str(tmp_path / "scores"))
    assert "did you mean test" in mistake(validate_in_process, *arguments, "--valid-subset", "tset")
    message = mistake(validate_in_process, *arguments, "--valid-subset", "test-swa")
    assert "unknown language 'swa'; did you mean sw" in message
    assert "no test file for language 'fr'" in mistake(validate_in_process, *arguments, "--valid-subset", "test-fr")
    assert not (tmp_path / "scores").exists()


# ---- new texts -----------------------------------------------------------------------------------------------------

LINES = [
    pytest.param(b"one text and no tab\n", ":2: expected 2 texts with a tab between them, found 1", id="fields"),
    pytest.param(b"a\t \n", ":2: the text is empty", id="empty"),
    pytest.param(b"a\tb\xff\n", ":2: invalid UTF-8 (byte 0xff)", id="encoding"),
]


@pytest.mark.parametrize(("line", "says"), LINES)
def test_bad_lines_to_predict(standard_run, tmp_path, capfd, line, says):
    from fairseq_robust_xlt.cli.main import main

    (tmp_path / "texts.tsv").write_bytes(b"a\tb\n" + line)
    status = main(["predict", "--path", str(standard_run / "checkpoint_best.pt"), "--cpu", str(tmp_path / "texts.tsv")])
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert len(errors) == 1
    assert f"{tmp_path / 'texts.tsv'}{says}" in errors[0]


def test_a_missing_file_to_predict(standard_run, tmp_path):
    checkpoint = standard_run / "checkpoint_best.pt"
    done = run_command("robust-xlt", "predict", "--path", checkpoint, tmp_path / "none.tsv")
    assert str(tmp_path / "none.tsv") in one_message(done)
    assert done.stdout == ""
    assert str(PACKAGE) not in done.stderr
