"""One's own data, from the files alone: a drafted table, a training, scores, new labels; and what is refused."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path

import pytest
import sklearn.metrics
from conftest import nli_rows, sentence, topic_rows
from driving import mistake, run_command, score_arguments, train_arguments, train_in_process, validate_in_process

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.cli.main import main


def write_csv(path: Path, language: str, count: int, seed: int) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("nr", "message", "need"))
        writer.writerows(
            (i, f'{text}, "{text[:4]}"\n{text}', topic) for i, topic, text in topic_rows(language, count, seed)
        )


def write_jsonl(path: Path, language: str, count: int, seed: int) -> None:
    rows = enumerate(nli_rows(language, count, seed))
    lines = [
        json.dumps({"meta": {"id": i}, "q": {"a": a, "b": b}, "gold": y}, ensure_ascii=False) for i, (a, b, y) in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_choices(path: Path, language: str, count: int, seed: int) -> None:
    rng, lines = random.Random(seed), ["stem\toption_a\toption_b\toption_c\tanswer"]
    for _ in range(count):
        texts = [sentence(rng.sample(range(60), rng.randint(2, 5)), language) for _ in range(4)]
        lines.append("\t".join([*texts, rng.choice("ABC")]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


WRITERS = {"sentence": (write_csv, "csv"), "pair": (write_jsonl, "jsonl"), "choice": (write_choices, "tsv")}
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
    """For each kind a folder with a user's files (train without a language in its name), its table not yet made."""
    folder = tmp_path_factory.mktemp("own")
    for kind, (write, suffix) in WRITERS.items():
        (folder / kind).mkdir()
        write(folder / kind / f"train.{suffix}", "en", 70, 0)
        for language in ("en", "sw"):
            write(folder / kind / f"dev_{language}.{suffix}", language, 24, 1)
            write(folder / kind / f"test_{language}.{suffix}", language, 24, 2)
    return {kind: folder / kind for kind in WRITERS}


@pytest.fixture(scope="module")
def tables(own, tmp_path_factory) -> dict[str, Path]:
    """The drafted tables."""
    folder = tmp_path_factory.mktemp("tables")
    made = {kind: folder / f"{kind}.yaml" for kind in own}
    for kind, table in made.items():
        assert main(["benchmark", "new", str(own[kind]), "--out", str(table)]) == 0
    return made


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


# ---- bad tables and files, at fairseq's commands -------------------------------------------------------------------


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
