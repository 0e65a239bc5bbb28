"""Tables and files of one's own with a fault, at fairseq's commands: what is refused, and how it is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from driving import mistake, score_arguments, train_arguments, train_in_process, validate_in_process
from own_data import draft_tables, write_own


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> dict[str, Path]:
    return write_own(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def tables(own, tmp_path_factory) -> dict[str, Path]:
    return draft_tables(own, tmp_path_factory.mktemp("tables"))


@pytest.fixture
def copy(own, tables, tmp_path, encoder_dir):
    """Data and table of a kind that a test may spoil, and what a training with them then says."""

    class Copy:
        def __init__(self, kind: str):
            self.data = shutil.copytree(own[kind], tmp_path / kind)
            self.table = Path(shutil.copy(tables[kind], tmp_path / f"{kind}.yaml"))

        def change(self, path: Path, old: str, new: str) -> None:
            text = path.read_text(encoding="utf-8")
            assert old in text
            path.write_text(text.replace(old, new, 1), encoding="utf-8")

        def training(self, *more: str) -> str:
            use = ("--benchmark", str(self.table), *more)
            arguments = train_arguments(self.data, encoder_dir, tmp_path / "run", *use, task="cross_lingual")
            message = mistake(train_in_process, *arguments)
            assert not list(tmp_path.glob("run/*"))
            return message

    return Copy


TABLES = [
    pytest.param("kind: pair", "kin: pair", ": unknown key 'kin'; did you mean kind", id="unknown key"),
    pytest.param("kind: pair", "kind: pairs", ": kind: given 'pairs', expected one of", id="unknown kind"),
    pytest.param("first: q.a", "frist: q.a", "columns: unknown field 'frist'; did you mean first", id="unknown field"),
    pytest.param("first: q.a", "first: q.c", "dev_en.jsonl:1: no field 'q.c'; the object has: meta.id", id="field"),
    pytest.param("train: train", "train: trian", "no train file for language 'en' in", id="pattern of nothing"),
    pytest.param("dev: \"dev_", "dev: \"dve_", "no dev file for language 'en' in", id="dev pattern of nothing"),
    pytest.param("[contradiction, ", "[", ": unknown label 'contradiction' in field 'gold'", id="a label too few"),
    pytest.param("source: en", "source: eng", ": source: unknown language 'eng'; did you mean en", id="source"),
    pytest.param("[en, sw]", "[en, sw, zh-CN]", "languages[2]: given 'zh-CN', expected a language code", id="code"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), TABLES)
def test_a_faulty_table_stops_a_training(copy, old, new, message):
    pair = copy("pair")
    pair.change(pair.table, old, new)
    assert message in pair.training()


ROWS = [
    pytest.param("\tA\n", "\tD\n", "unknown label 'D' in column 5; allowed: A, B, C", id="answer outside the options"),
    pytest.param("\tA\n", "\n", "4 columns, but line 1 has 5", id="no answer"),
]


@pytest.mark.parametrize(("old", "new", "message"), ROWS)
def test_a_faulty_choice_stops_a_training(copy, old, new, message):
    choice = copy("choice")
    path = choice.data / "train.tsv"
    choice.change(path, old, new)
    line = path.read_text(encoding="utf-8").split(new)[0].count("\n") + 1
    if new == "\n":
        line = next(i for i, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if row.count("\t") == 3)
    assert f"{path}:{line}: {message}" in choice.training()


def test_a_choice_without_one_of_its_options_stops_a_training(copy):
    choice = copy("choice")
    path = choice.data / "dev_en.tsv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    fields = lines[6].split("\t")
    lines[6] = "\t".join([*fields[:2], "", *fields[3:]])
    path.write_text("".join(lines), encoding="utf-8")
    assert f"{path}:7: the text in column 3 is empty" in choice.training()


def test_an_id_that_occurs_twice_stops_a_training(copy):
    pair = copy("pair")
    pair.change(pair.data / "train.jsonl", '"id": 6}', '"id": 3}')
    assert f"{pair.data / 'train.jsonl'}:7: the id '3' occurs before, in line 4" in pair.training()


def test_a_language_that_the_table_does_not_have(copy, standard_run, xnli_folder):
    message = copy("pair").training("--valid-subset", "valid,dev-ur")
    assert message == "subset dev-ur: unknown language 'ur'; known: en, sw"
    arguments = score_arguments(xnli_folder, standard_run / "checkpoint_best.pt", "--valid-subset", "test-en-swa")
    assert "subset test-en-swa: unknown language 'swa'; did you mean sw" in mistake(validate_in_process, *arguments)


def test_pairs_of_languages_that_are_not_aligned(standard_run, xnli_folder, tmp_path):
    data = shutil.copytree(xnli_folder, tmp_path / "data")
    lines = (data / "test-sw.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    scores = ("--scores", str(tmp_path / "scores"))
    for subset in ("test-en-sw", "test-pairs"):
        arguments = score_arguments(data, standard_run / "checkpoint_best.pt", *scores, "--valid-subset", subset)
        (data / "test-sw.tsv").write_text("".join(lines[:-1]), encoding="utf-8")
        assert f"sw has 44 rows ({data}/test-sw.tsv) and en 45" in mistake(validate_in_process, *arguments)
        (data / "test-sw.tsv").write_text("".join(lines[1:] + lines[:1]), encoding="utf-8")
        message = mistake(validate_in_process, *arguments)
        assert (
            "have different labels: the files are not line-aligned, so texts of different examples would be" in message
        )
        assert f"{data}/test-sw.tsv:" in message
    assert not (tmp_path / "scores").exists()


def test_a_checkpoint_on_a_benchmark_of_another_kind_or_with_other_labels(own, tables, standard_run, tmp_path):
    for kind, what in (
        ("sentence", "the checkpoint was trained on a benchmark of kind pair and sentence is of kind sentence"),
        ("choice", "the checkpoint was trained on a benchmark of kind pair and choice is of kind choice"),
    ):
        use = ("--benchmark", str(tables[kind]))
        arguments = score_arguments(own[kind], standard_run / "checkpoint_best.pt", *use, task="cross_lingual")
        assert mistake(validate_in_process, *arguments) == what
    table = tmp_path / "other.yaml"
    text = tables["pair"].read_text(encoding="utf-8")
    table.write_text(
        text.replace("[contradiction, entailment, neutral]", "[entailment, contradiction, neutral]"), "utf-8"
    )
    use = ("--benchmark", str(table))
    arguments = score_arguments(own["pair"], standard_run / "checkpoint_best.pt", *use, task="cross_lingual")
    message = mistake(validate_in_process, *arguments)
    assert "with the labels contradiction, entailment, neutral and the benchmark pair has entailment, contr" in message
