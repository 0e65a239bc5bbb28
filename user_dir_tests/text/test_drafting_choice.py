"""Drafts of benchmark tables for multiple choice: where the options stand, and which one is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import topic_rows
from drafts import choices, drafted, put, refused

from fairseq_robust_xlt.text import load_subset
from fairseq_robust_xlt.text.drafting import draft


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("names", "keys", "labels"),
    [
        (("choice1", "choice2", "choice3"), "012", ("0", "1", "2")),
        (("option_a", "option_b", "option_c"), "ABC", ("A", "B", "C")),
        (("A", "B", "C"), "ABC", ("A", "B", "C")),
        (("ending0", "ending1", "ending2"), "123", ("1", "2", "3")),
        (("opt1", "opt2"), ("opt1", "opt2"), ("opt1", "opt2")),
    ],
)
def test_options_in_columns(data, names, keys, labels):
    rows = [(stem, *texts, keys[right]) for stem, texts, right in choices(40, 0, len(names))]
    put(data / "train.tsv", rows, ("prompt", *names, "answer"))
    benchmark = drafted(data)
    assert (benchmark.kind, benchmark.labels) == ("choice", labels)
    assert dict(benchmark.layouts[0].columns) == {"stem": "prompt", "options": list(names), "label": "answer"}
    example = load_subset(benchmark, data, "train")[1]
    assert [texts for _, texts in example.sequences] == list(rows[1][1 : 1 + len(names)])
    assert example.label == 1


def test_options_in_json(data):
    found = choices(40, 0, 4)
    put(data / "train.jsonl", [{"q": stem, "options": texts, "right": n} for stem, texts, n in found])
    benchmark = drafted(data)
    assert benchmark.labels == ("0", "1", "2", "3")
    assert dict(benchmark.layouts[0].columns) == {"stem": "q", "options": {"list": "options"}, "label": "right"}
    labelled = [
        {"id": f"q{i}", "q": {"stem": s, "all": [{"l": "wxyz"[j], "t": t} for j, t in enumerate(o)]}, "key": "wxyz"[n]}
        for i, (s, o, n) in enumerate(found)
    ]
    put(data / "train.jsonl", labelled)
    benchmark = drafted(data)
    assert benchmark.labels == ("w", "x", "y", "z")
    assert benchmark.layouts[0].columns["options"] == {"list": "q.all", "text": "t", "label": "l"}


def test_what_a_choice_asks_is_told_where_nothing_reads_it(data):
    """XCOPA's column `question` says whether the cause is asked for, or the effect."""
    rows = [
        {"idx": i, "premise": stem, "choice1": one, "choice2": two, "question": ("cause", "effect")[i % 2], "label": n}
        for i, (stem, (one, two), n) in enumerate(choices(40, 0, 2))
    ]
    put(data / "val.en.jsonl", rows)
    _, remarks = draft(data, "own")
    (remark,) = [remark for remark in remarks if "is not read" in remark]
    assert remark.startswith("the column question ('cause', 'effect') is not read; if it says what is asked, name it")


def in_lists(found, labels: str, named: str | None = None) -> list[dict]:
    """As some libraries keep a list of objects: an object of lists."""
    named = named or labels
    return [{"q": s, "choices": {"label": list(labels), "text": o}, "answer": named[n]} for s, o, n in found]


@pytest.mark.parametrize("labels", ["ABCD", "1234", "0123", "DCBA"])
def test_options_and_their_labels_in_two_lists(data, labels):
    """The labels' list is the same in every row; the reader counts the texts."""
    found = choices(40, 0, 4)
    put(data / "train.jsonl", in_lists(found, labels))
    benchmark = drafted(data)
    assert benchmark.layouts[0].columns["options"] == {"list": "choices.text"}
    assert benchmark.labels == tuple(labels)
    assert [e.label for e in load_subset(benchmark, data, "train")] == [right for _, _, right in found]
    assert "4 in each row, labelled alike in all rows by choices.label" in benchmark.text


def test_options_whose_labels_stand_in_another_order_in_some_row(data):
    """Counting them would make other answers the gold ones."""
    rows = in_lists(choices(40, 0, 4), "ABCD")
    for labels in (list("BACD"), list("1234"), None):
        changed = rows[7] | {"choices": rows[7]["choices"] | {"label": labels}}
        put(data / "train.jsonl", [*rows[:7], changed, *rows[8:]])
        message = refused(data)
        assert message.startswith(f"{data / 'train.jsonl'}:8: the options' labels (choices.label) are ")
        assert f"A, B, C, D in {data / 'train.jsonl'}:1;" in message
    put(data / "train.jsonl", rows)
    hidden = [{key: row[key] for key in ("q", "choices")} for row in in_lists(choices(20, 1, 4), "DCBA")]
    put(data / "test.jsonl", hidden)
    assert f"{data / 'test.jsonl'}: the options' labels (choices.label) are D, C, B, A, and A, B, C, D" in refused(data)


def test_different_numbers_of_options_have_no_table(data):
    rows = [{"q": s, "options": o[: 3 + i % 2], "answer": n % 3} for i, (s, o, n) in enumerate(choices(40, 0, 4))]
    put(data / "train.jsonl", rows)
    path = data / "train.jsonl"
    assert refused(data).startswith(f"{path}:2: options: 4 options, and 3 in {path}:1; a table has as many options")
    # Lists of another name, which may be short, are none.
    tagged = [{"t": t, "tags": ["a", "b", "c"][: i % 4], "y": y} for i, (_, y, t) in enumerate(topic_rows("en", 60, 0))]
    put(path, tagged)
    assert drafted(data).kind == "sentence"


def test_answers_that_are_none_of_the_options_labels(data):
    put(data / "train.jsonl", in_lists(choices(40, 0, 4), "ABCD", "0123"))
    message = refused(data)
    assert "no column names one of the options (choices.text) by its label (A, B, C, D); saw" in message
    assert "choices.label: lists in 40 rows" in message


def test_answers_that_may_be_counted_from_0_or_1(data):
    rows = [{"q": s, "options": o, "answer": 1 + n % 2} for s, o, n in choices(40, 0, 3)]
    put(data / "train.jsonl", rows)
    assert "no column names one of the options" in refused(data)
    put(data / "train.jsonl", [*rows, rows[0] | {"answer": 3}])
    assert drafted(data).labels == ("1", "2", "3")


def test_answers_that_name_no_option(data):
    rows = [{"q": s, "options": o, "answer": o[n]} for s, o, n in choices(40, 0, 4)]
    put(data / "train.jsonl", rows)
    assert "no column names one of the options (options) by its label, its number or its column" in refused(data)
    assert re.search(r"--label: answer has '.*expected what names one of the options", refused(data, label="answer"))
