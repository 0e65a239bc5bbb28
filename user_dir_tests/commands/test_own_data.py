"""One's own data, from the files alone: a drafted table, a training, scores, new labels; and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import sklearn.metrics
from driving import run_command, score_arguments, train_arguments, train_in_process, validate_in_process
from own_data import WRITERS, draft_tables, write_own

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.cli.main import main

NEW = {
    "sentence": ("dabo keni\n", ["dabo keni"]),
    "pair": ("dabo keni\tkeni\n", [("dabo keni", "keni")]),
    "choice": (
        '{"stem": "dabo", "options": ["keni", "lu", "va"]}\n',
        [{"stem": "dabo", "options": ["keni", "lu", "va"]}],
    ),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> dict[str, Path]:
    return write_own(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def tables(own, tmp_path_factory) -> dict[str, Path]:
    return draft_tables(own, tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("kind", WRITERS)
def test_draft_train_score_predict(kind, own, tables, encoder_dir, tmp_path, capfd):
    """No line of the draft is changed."""
    data, table = own[kind], tables[kind]
    benchmark = benchmarks.load(table)
    assert (benchmark.kind, benchmark.languages) == (kind, ("en", "sw"))
    use = ("--benchmark", str(table))
    more = (*use, "--max-update", "3")
    train_in_process(*train_arguments(data, encoder_dir, tmp_path / "run", *more, task="cross_lingual"))
    checkpoint = tmp_path / "run/checkpoint_best.pt"
    scores = ("--scores", str(tmp_path / "scores"))
    validate_in_process(*score_arguments(data, checkpoint, *scores, *use, task="cross_lingual"))
    found = json.loads((tmp_path / "scores/scores.json").read_text(encoding="utf-8"))
    with open(tmp_path / "scores/predictions.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert found["benchmark"]["name"] == kind
    for language in ("en", "sw"):
        mine = [row for row in rows if language in row.values()]
        one = found["subsets"]["test"]["languages"][language]
        assert one["n"] == len(mine) == 24
        if kind == "choice":
            assert "macro_f1" not in one
            continue
        gold, predicted = ([row[column] for row in mine] for column in ("gold", "predicted"))
        wanted = sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0)
        assert one["macro_f1"] == pytest.approx(wanted)
    text, _ = NEW[kind]
    (tmp_path / "new.txt").write_text(text, encoding="utf-8")
    capfd.readouterr()
    assert main(["predict", "--path", str(checkpoint), "--cpu", str(tmp_path / "new.txt")]) == 0
    label, probabilities = capfd.readouterr().out.strip().split("\t")
    assert label in benchmark.labels
    assert [part.rpartition("=")[0] for part in probabilities.split(" ")] == list(benchmark.labels)


# ---- the command ---------------------------------------------------------------------------------------------------


def said(capfd, *arguments) -> str:
    """The message with which our command ends."""
    assert main(list(map(str, arguments))) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_the_command_writes_a_table_and_says_what_it_found(own, tmp_path, capfd):
    done = run_command("robust-xlt", "benchmark", "new", own["pair"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = tmp_path / "pair.yaml"
    assert "train en        70 rows: contradiction" in done.stdout
    assert "test  sw        24 rows: contradiction" in done.stdout
    assert "--task cross_lingual --benchmark pair.yaml" in done.stdout
    before = table.read_text(encoding="utf-8")
    assert "label: gold    # 3 values in" in before
    message = said(capfd, "benchmark", "new", own["pair"], "--out", table)
    assert message == f"error: --out {table}: is there already, and is not overwritten; give another name"
    assert table.read_text(encoding="utf-8") == before
    assert main(["benchmark", "check", str(table), str(own["pair"])]) == 0
    assert "test  sw        24 rows: contradiction" in capfd.readouterr().out


def test_a_file_to_mend(own, tmp_path, capfd):
    data = shutil.copytree(own["sentence"], tmp_path / "data")
    with open(data / "dev_sw.csv", "a", encoding="utf-8") as file:
        file.write("99,only two\n")
    table = tmp_path / "own.yaml"
    message = said(capfd, "benchmark", "new", data, "--out", table)
    assert f"{data / 'dev_sw.csv'}:50: 2 columns, but line 1 has 3 ({table} is written; mend the file" in message
    assert benchmarks.load(table).languages == ("en", "sw")
    assert f"{data / 'dev_sw.csv'}:50: 2 columns" in said(capfd, "benchmark", "check", table, data)


def test_all_faulty_files_are_said(own, tables, tmp_path, capfd):
    data = shutil.copytree(own["sentence"], tmp_path / "data")
    for name in ("dev_sw.csv", "test_en.csv"):
        with open(data / name, "a", encoding="utf-8") as file:
            file.write("99,only two\n")
    assert main(["benchmark", "check", str(tables["sentence"]), str(data)]) == 1
    printed = capfd.readouterr()
    assert printed.err.splitlines() == [
        "error: 2 faults:",
        f"  {data / 'dev_sw.csv'}:50: 2 columns, but line 1 has 3",
        f"  {data / 'test_en.csv'}:50: 2 columns, but line 1 has 3",
    ]
    assert "test  sw        24 rows" in printed.out
    assert "dev   sw" not in printed.out


@pytest.fixture
def checked(own, tables, tmp_path, capfd):
    """A copy of a folder and its table that a test may spoil, and what `benchmark check` then says."""
    data = shutil.copytree(own["pair"], tmp_path / "data")
    table = Path(shutil.copy(tables["pair"], tmp_path / "own.yaml"))

    def check(name: str | Path = table) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(["benchmark", "check", str(name), str(data)])
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return data, table, check


def test_a_pattern_that_finds_nothing_is_a_fault(checked):
    data, table, check = checked
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace('test: "test_', 'test: "tset_'), encoding="utf-8")
    status, printed, errors = check()
    assert (status, errors) == (
        1,
        f"error: layout 'found': test: tset_{{lang}}.jsonl finds no file in {data}, in any language\n",
    )
    assert "dev   sw        24 rows" in printed
    table.write_text(text.replace("train: train.jsonl", "train: trian.jsonl"), encoding="utf-8")
    assert check()[2] == f"error: layout 'found': train: trian.jsonl finds no file in {data}, in any language\n"


def test_no_dev_data_of_the_source_language_is_a_fault(checked):
    data, _, check = checked
    (data / "dev_en.jsonl").unlink()
    assert check()[::2] == (1, "error: no dev file for en; looked for: dev_{lang}.jsonl\n")
    (data / "dev_sw.jsonl").rename(data / "dev_en.jsonl")
    status, printed, errors = check()
    assert (status, errors) == (0, "")
    assert "no dev file for sw; looked for: dev_{lang}.jsonl" in printed


def test_a_benchmark_of_the_package_has_layouts_that_others_use(checked, xnli_folder, capfd):
    assert main(["benchmark", "check", "xnli", str(xnli_folder)]) == 0
    assert "no test file for ar, bg, " in capfd.readouterr().out


def test_files_of_languages_that_the_table_has_not_are_said(checked):
    data, _, check = checked
    assert "not in the table" not in check()[1]
    for name in ("test_fr.jsonl", "dev_zh-CN.jsonl", "dev_notes.txt"):
        shutil.copy(data / "test_sw.jsonl", data / name)
    status, printed, _ = check()
    assert status == 0
    assert "not in the table: dev_zh-CN.jsonl, test_fr.jsonl\n" in printed


def test_what_the_command_refuses(own, tables, tmp_path, capfd):
    assert "no such data folder" in said(capfd, "benchmark", "new", tmp_path / "none")
    message = said(capfd, "benchmark", "new", own["pair"], "--out", tmp_path / "own.txt")
    assert "ends in .yaml or .yml" in message
    assert "cannot write" in said(capfd, "benchmark", "new", own["pair"], "--out", tmp_path / "none/own.yaml")
    (tmp_path / "empty").mkdir()
    message = said(capfd, "benchmark", "check", tables["pair"], tmp_path / "empty")
    assert "no file of benchmark 'pair'" in message
    assert "train.jsonl" in message
    message = said(capfd, "benchmark", "check", "pears", own["pair"])
    assert message.startswith("error: unknown benchmark 'pears'; ")
    message = said(capfd, "benchmark", "check", tmp_path / "none.yaml", own["pair"])
    assert message == f"error: cannot read the benchmark table {tmp_path / 'none.yaml'}: No such file or directory"
    message = said(capfd, "benchmark", "check", tables["pair"], tmp_path / "none")
    assert message == f"error: no such data folder: {tmp_path / 'none'}"
    message = said(capfd, "benchmark", "new", own["pair"], "--out", tmp_path / "own.yaml", "--name", "a b")
    assert "--name a b: expected a name of letters" in message
    assert not list(tmp_path.glob("*.yaml"))
