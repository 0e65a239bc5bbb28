"""`robust-xlt check`: what is suspicious in files that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairseq_robust_xlt.cli.main import main

TRAIN = [
    ("the first premise stands here", "a hypothesis of five words", "entailment"),
    ("a second premise stands here", "no", "neutral"),
    ("a second premise stands here", "no", "contradiction"),
]
ENGLISH = [
    ("one premise of dev here", "yes", "entailment"),
    ("another premise of dev here", "a claim that is long", "neutral"),
    TRAIN[0],
]
SWAHILI = [("moja ya dev hapa sasa", "yes", "entailment"), ("nyingine ya dev", "a claim that is long", "neutral")]
THIRD = ("ya kwanza iko hapa", "dai la maneno matano", "entailment")


def write(folder: Path, name: str, rows: list[tuple[str, ...]]) -> None:
    (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def notes(folder: Path, capsys, *arguments: str) -> list[str]:
    assert main(["check", str(folder), *(arguments or ("--task", "xnli"))]) == 0
    out = capsys.readouterr().out.replace(f"{folder}/", "")
    return [line.removeprefix("note: ") for line in out.splitlines() if line.startswith("note: ")]


def test_each_suspicion_is_named_with_its_first_row(tmp_path: Path, capsys) -> None:
    write(tmp_path, "train-en.tsv", TRAIN)
    write(tmp_path, "dev-en.tsv", ENGLISH)
    write(tmp_path, "dev-sw.tsv", [*SWAHILI, (*THIRD[:2], "neutral")])
    write(tmp_path, "dev-ur.tsv", SWAHILI)
    assert notes(tmp_path, capsys) == [
        "train en: 1 row with the texts of an earlier one, the first train-en.tsv:3 (as train-en.tsv:2)",
        "train en: 1 row of these with another label, the first train-en.tsv:3 (as train-en.tsv:2)",
        "dev en: 1 row with the texts of a training row, the first dev-en.tsv:3",
        "dev sw: 1 row with another label than en, the first dev-sw.tsv:3 (as dev-en.tsv:3); the files are perhaps not "
        "line-aligned",
        "dev sw: 1 row with a text of en, not translated, the first dev-sw.tsv:2 (as dev-en.tsv:2)",
        "dev ur: 2 rows, en 3: not line-aligned, so no pairs with it",
    ]


def test_nothing_is_noted_of_clean_files(tmp_path: Path, capsys) -> None:
    write(tmp_path, "train-en.tsv", TRAIN[:2])
    write(tmp_path, "dev-en.tsv", ENGLISH[:2])
    write(tmp_path, "dev-sw.tsv", [("moja ya dev hapa sasa", "yes", "entailment"), ("nyingine", "dai refu", "neutral")])
    assert notes(tmp_path, capsys) == []


def test_rows_with_ids_belong_together_by_id(tmp_path: Path, capsys) -> None:
    table = tmp_path / "own.yaml"
    table.write_text(
        "name: own\nversion: '1'\nkind: sentence\nsource: en\nlanguages: [en, sw]\nlabels: [good, bad]\n"
        "layouts:\n  - name: flat\n    format: tsv\n    header: true\n    files: {dev: 'dev-{lang}.tsv'}\n"
        "    columns: {id: id, text: text, label: label}\n"
    )
    head = ("id", "text", "label")
    write(tmp_path, "dev-en.tsv", [head, ("a", "a text of four", "good"), ("b", "b", "bad"), ("c", "c", "bad")])
    write(tmp_path, "dev-sw.tsv", [head, ("x", "ziada", "bad"), ("b", "be", "good"), ("a", "a text of four", "good")])
    assert notes(tmp_path, capsys, "--benchmark", str(table)) == [
        "dev sw: 1 row with an id that en has not: pairs leave them out",
        "dev sw: 1 row of en not there: pairs leave them out",
        "dev sw: 1 row with another label than en, the first dev-sw.tsv:3 (as dev-en.tsv:3)",
        "dev sw: 1 row with a text of en, not translated, the first dev-sw.tsv:4 (as dev-en.tsv:2)",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--task: say which"),
        (("--task", "xnly"), "--task xnly: there are csqa, pawsx"),
        (("--task", "cross_lingual"), "--benchmark FILE.yaml is missing"),
        (("--task", "xnli"), "no file of benchmark 'xnli'"),
    ],
)
def test_one_clear_error(tmp_path: Path, capsys, arguments, said) -> None:
    assert main(["check", str(tmp_path), *arguments]) == 1
    assert said in capsys.readouterr().err
