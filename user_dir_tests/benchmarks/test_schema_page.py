"""The page that documents benchmark tables: every table on it is loaded, and reads files made as it says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from driving import PACKAGE

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.benchmarks.schema import MORE_FIELDS, SCHEMA, TEXT_FIELDS
from fairseq_robust_xlt.text import load_subset
from fairseq_robust_xlt.text.summary import summary

PAGE = (PACKAGE / "benchmarks/README.md").read_text(encoding="utf-8")
TABLES = {
    re.search(r"^name: (.*)$", block, re.MULTILINE)[1]: block
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
}


def put(path: Path, rows: list) -> None:
    """Rows in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        elif path.suffix == ".csv":
            csv.writer(file).writerows(rows)
        else:
            file.writelines("\t".join(row) + "\n" for row in rows)


def messages(folder: Path) -> None:
    header = ("nr", "message", "about")
    put(folder / "train.csv", [header, (1, 'He said, "no"', "Complaint"), (2, "two\nlines", "question")])
    put(folder / "dev.csv", [header, (1, "good", "praise")])
    put(folder / "test_sw.csv", [header[:2], (1, "nzuri")])
    put(folder / "test_zh-CN.csv", [header, (1, "hao", "thanks")])


def same_question(folder: Path) -> None:
    put(folder / "train.en.tsv", [('"a', "b", "0"), ("c", 'd"', "1")])
    for split in ("dev", "test"):
        rows = [(code, same) for code in ("en", "sw") for same in (1, 0)]
        objects = [
            {"meta": {"id": i % 2, "lang": code}, "questions": {"a": f"{code} {i}", "b": f"b{i}"}, "same": same}
            for i, (code, same) in enumerate(rows)
        ]
        put(folder / f"{split}.jsonl", objects)


def why(folder: Path) -> None:
    header = ("premise", "asks", "choice1", "choice2", "answer")
    for name in ("train-en", "dev-en", "test-en", "test-sw"):
        put(
            folder / f"{name}.tsv",
            [header, ("It rains.", "cause", "x", "y", "2"), ("It snows.", "effect", "x", "y", "1")],
        )


def exam(folder: Path) -> None:
    for name in ("en/train", "en/dev", "sw/test"):
        choices = [{"label": label, "text": f"text {label}"} for label in "CAB"]
        put(
            folder / f"{name}.jsonl",
            [{"id": "q1", "question": {"stem": "Which?", "choices": choices}, "answerKey": "B"}],
        )


MADE = {"messages": messages, "same-question": same_question, "why": why, "exam": exam}
# A subset, how many examples it has, the first one's sequences and label.
READ = {
    "messages": [
        ("train", 2, (('He said, "no"',),), "complaint"),
        ("valid", 1, (("good",),), "thanks"),
        ("test-sw", 1, (("nzuri",),), None),
        ("test", 2, (("nzuri",),), None),
    ],
    "same-question": [
        ("train", 2, (('"a', "b"),), "0"),
        ("dev-sw", 2, (("sw 2", "b2"),), "1"),
        ("test-en-sw", 2, (("en 0", "b2"),), "1"),
        ("test-pairs", 8, (("en 0", "b0"),), "1"),
    ],
    "why": [("train", 2, (("It rains. Why?", "x"), ("It rains. Why?", "y")), "2"), ("test", 4, None, "2")],
    "exam": [
        ("valid", 1, (("Which?", "text A"), ("Which?", "text B"), ("Which?", "text C")), "B"),
        ("test-sw", 1, None, "B"),
    ],
}  # fmt: skip


def test_the_page_shows_every_kind_and_format():
    assert set(TABLES) == set(MADE) == set(READ)
    text = "".join(TABLES.values())
    assert {*re.findall("^kind: (.*)$", text, re.MULTILINE)} == set(TEXT_FIELDS)
    assert {*re.findall("format: (.*)$", text, re.MULTILINE)} == {"csv", "jsonl"}


@pytest.mark.parametrize("name", MADE)
def test_a_table_of_the_page_reads_files_made_for_it(tmp_path, name):
    (tmp_path / "own.yaml").write_text(TABLES[name], encoding="utf-8")
    benchmark = benchmarks.load(tmp_path / "own.yaml")
    MADE[name](tmp_path)
    assert list(summary(benchmark, tmp_path))
    for subset, count, sequences, label in READ[name]:
        examples = load_subset(benchmark, tmp_path, subset)
        assert len(examples) == count
        assert sequences in (None, examples[0].sequences)
        assert (None if examples[0].label is None else benchmark.labels[examples[0].label]) == label


def test_every_key_and_field_is_on_the_page():
    layout = SCHEMA["properties"]["layouts"]["items"]["properties"]
    fields = {name for fields in (*TEXT_FIELDS.values(), *MORE_FIELDS.values()) for name in fields} | {"id", "language"}
    for key in {*SCHEMA["properties"], *layout, *fields}:
        assert f"`{key}`" in PAGE, key
