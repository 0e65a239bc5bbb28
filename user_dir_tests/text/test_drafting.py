"""Drafts of benchmark tables: each is loaded, and every file is read with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import LANGUAGES, nli_rows, topic_rows
from drafts import NAMES, drafted, put, refused

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import load_subset
from fairseq_robust_xlt.text.drafting import draft
from fairseq_robust_xlt.text.summary import summary


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


def test_sentences_in_csv_with_quotes_and_line_breaks(data):
    for language in ("en", "sw"):
        rows = [(f"{t},\nand", i, 7, topic) for i, topic, t in topic_rows(language, 60, 0)]
        put(data / f"train_{language}.csv", rows, ("review", "nr", "stars", "what"))
    benchmark = drafted(data)
    assert (benchmark.kind, len(benchmark.labels)) == ("sentence", 7)
    assert benchmark.labels == tuple(sorted(benchmark.labels))
    assert dict(benchmark.layouts[0].columns) == {"id": "nr", "text": "review", "label": "what"}
    assert "label: what    # 7 values in 120 rows" in benchmark.text
    assert "# not read: stars (1 value in 120 rows)" in benchmark.text
    assert load_subset(benchmark, data, "train")[0].sequences[0][0].endswith(",\nand")


@pytest.mark.parametrize(
    "header", [(), ("premise", "hypothesis", "label"), ("a", "b", "y"), ("erster", "zweiter", "was")]
)
def test_pairs_with_and_without_a_header(data, header):
    for language in LANGUAGES:
        put(data / f"dev-{language}.tsv", nli_rows(language, 45, 1), header)
    benchmark = drafted(data)
    assert (benchmark.kind, benchmark.layouts[0].header) == ("pair", bool(header))
    assert tuple(benchmark.layouts[0].columns.values()) == (header or (0, 1, 2))
    assert len(load_subset(benchmark, data, "dev-sw")) == 45
    assert benchmark.labels == ("contradiction", "entailment", "neutral")
    assert len(load_subset(benchmark, data, "dev-pairs")) == 9 * 45


def test_nested_json_with_numbers_as_labels(data):
    for split, seed in (("train", 0), ("test", 1)):
        rows = [
            {"meta": {"uid": f"{split}{i}"}, "in": {"a": one, "b": two}, "gold": "ecn".index(label[0])}
            for i, (one, two, label) in enumerate(nli_rows("en", 45, seed))
        ]
        put(data / f"{split}.jsonl", rows)
    benchmark = drafted(data)
    assert benchmark.labels == ("0", "1", "2")
    assert dict(benchmark.layouts[0].columns) == {
        "id": "meta.uid",
        "first": "in.a",
        "second": "in.b",
        "label": "gold",
    }


def test_xnli_as_published(data):
    """Seventeen columns, of which ten have few values; the parses are texts too."""
    header = [
        *("language", "gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse"),
        *("sentence2_parse", "sentence1", "sentence2", "promptID", "pairID", "genre"),
        *("label1", "label2", "label3", "label4", "label5", "match"),
    ]
    rows = []
    for code in LANGUAGES:
        for i, (one, two, y) in enumerate(nli_rows(code, 45, 1)):
            genre = "facetoface" if i % 2 else "travel"
            rows.append(
                (code, y, one, two, one, two, one, two, i // 3, i, genre, y, y, y, "neutral", y, str(i % 3 > 0))
            )
    put(data / "xnli.dev.tsv", rows, header)
    benchmark = drafted(data)
    assert dict(benchmark.layouts[0].columns) == {
        "id": "pairID",
        "first": "sentence1",
        "second": "sentence2",
        "label": "gold_label",
        "language": "language",
    }


def test_a_test_file_without_labels(data):
    put(data / "train.csv", topic_rows("en", 60, 0), NAMES)
    put(data / "test.csv", [(i, t) for i, _, t in topic_rows("en", 20, 1)], ("id", "text"))
    benchmark = drafted(data)
    assert len(benchmark.layouts) == 1
    assert {e.label for e in load_subset(benchmark, data, "test")} == {None}
    assert "no label 20" in list(summary(benchmark, data))[-1]


def test_a_header_that_only_another_file_explains(data):
    put(data / "train.csv", topic_rows("en", 60, 0), ("nr", "was", "worte"))
    put(data / "test.csv", [(i, t) for i, _, t in topic_rows("en", 20, 1)], ("nr", "worte"))
    assert len(load_subset(drafted(data), data, "test")) == 20


def test_the_labels_are_those_of_all_files(data):
    rows = topic_rows("en", 60, 0)
    put(data / "train.csv", [("ca"[i % 2], t) for i, (_, _, t) in enumerate(rows)], ("label", "text"))
    put(data / "dev.jsonl", [{"gold": "bc"[i % 2], "in": t} for i, (_, _, t) in enumerate(rows)])
    benchmark = drafted(data)
    assert benchmark.labels == ("a", "b", "c")
    assert [layout.format for layout in benchmark.layouts] == ["jsonl", "csv"]


def test_labels_that_no_training_file_has_are_said(data):
    rows = [t for _, _, t in topic_rows("en", 60, 0)]
    put(data / "train.tsv", [(("pos", "neg")[i % 2], t) for i, t in enumerate(rows)], ("label", "text"))
    for code in ("en", "sw"):
        put(data / f"dev-{code}.tsv", [(("Pos", "Neg")[i % 2], t) for i, t in enumerate(rows)], ("label", "text"))
    put(data / "test-sw.tsv", [(("pos", "neg")[i % 2], t) for i, t in enumerate(rows)], ("label", "text"))
    text, (remark, alike) = draft(data, "own")
    assert remark.startswith("dev-en.tsv and 1 more: no training file has the labels 'Neg', 'Pos'; those that")
    assert f"# {remark}\n" in text
    assert "`label_names`" in remark
    (data / "train.tsv").unlink()
    assert alike.startswith("labels differ in capitals or blanks only: 'Neg', 'neg'; 'Pos', 'pos'; if they mean")
    assert draft(data, "own")[1] == [alike]  # with nothing to compare


def test_labels_that_differ_in_capitals_or_blanks_are_said(data):
    rows = [(("pos", "Pos ", "neg")[i % 3], t) for i, (_, _, t) in enumerate(topic_rows("en", 60, 0))]
    for split in ("train", "dev"):
        put(data / f"{split}.tsv", rows, ("label", "text"))
    text, (remark,) = draft(data, "own")
    assert remark.startswith("labels differ in capitals or blanks only: 'Pos ', 'pos'; if they mean the same")
    assert f"# {remark}\n" in text


def test_a_label_with_a_line_break_is_refused(data):
    rows = [(t, ("pos", "ne\ng")[i % 2]) for i, (_, _, t) in enumerate(topic_rows("en", 60, 0))]
    put(data / "train.csv", rows, ("text", "label"))
    assert refused(data).startswith(f"{data / 'train.csv'}: the label 'ne\\ng' holds a tab or a line break; no table")


def test_a_folder_without_a_dev_set_is_said(data):
    put(data / "train.tsv", topic_rows("en", 60, 0), NAMES)
    put(data / "dev-sw.tsv", topic_rows("sw", 60, 0), NAMES)
    _, (remark,) = draft(data, "own")
    assert remark.startswith("no dev set of en: a training needs one, which selects its checkpoints")
    assert remark.endswith("in a file such as dev-en.tsv")
    put(data / "dev-en.tsv", topic_rows("en", 60, 0), NAMES)
    assert draft(data, "own")[1] == []
    (data / "train.tsv").unlink()
    (data / "dev-en.tsv").unlink()
    assert draft(data, "own", source="en")[1] == []  # to be scored, not trained on


@pytest.mark.parametrize(
    ("header", "row", "said", "message"),
    [
        (("id", "text"), lambda i, y, t: (i, t), {}, "no column looks like a label"),
        (
            ("y1", "y2x", "text"),
            lambda i, y, t: (y, int(i) % 3, t),
            {},
            "several columns could be the label: say which with --label",
        ),
        (
            ("text", "title", "label"),
            lambda i, y, t: (t, t[::-1], y),
            {},
            "hold texts: say --text A for a sentence or --text A,B for a pair",
        ),
        (("a1", "b1", "c1", "label"), lambda i, y, t: (t, t[::-1], t * 2, y), {}, "several columns hold texts"),
        (("nr", "label"), lambda i, y, t: (i, y), {}, "no column holds texts"),
        (("id", "text", "label"), lambda i, y, t: (i, t, y), {"label": "lable"}, "--label lable: no such column in"),
        (("id", "text", "label"), lambda i, y, t: (i, t, y), {"texts": ["x"]}, "--text x: no such column in"),
    ],
)
def test_columns_that_cannot_be_told(data, header, row, said, message):
    put(data / "train.tsv", [row(*fields) for fields in topic_rows("en", 60, 0)], header)
    found = refused(data, **said)
    assert message in found
    assert str(data / "train.tsv") in found


def test_what_cannot_be_told_can_be_said(data):
    rows = [(y, int(i) % 3, t, f"about {t}") for i, y, t in topic_rows("en", 60, 0)]
    put(data / "train.tsv", rows, ("what", "part", "title", "text"))
    benchmark = drafted(data, label="what", texts=["text"])
    assert dict(benchmark.layouts[0].columns) == {"text": "text", "label": "what"}
    benchmark = drafted(data, label="part", texts=["title", "text"])
    assert (benchmark.kind, benchmark.labels) == ("pair", ("0", "1", "2"))
    benchmark = drafted(data, label="0", texts=["3"])
    assert dict(benchmark.layouts[0].columns) == {"text": "text", "label": "what"}
    assert "--label 4: no such column in" in refused(data, label="4")
    put(data / "train.tsv", rows)
    benchmark = drafted(data, label="1", texts=["3"])
    assert dict(benchmark.layouts[0].columns) == {"text": 3, "label": 1}


@pytest.mark.parametrize("name", ["dept", "label"])
def test_labels_that_are_codes_of_languages(data, name):
    rows = [(i, ("IT", "HR")[int(i) % 2], t) for i, _, t in topic_rows("en", 60, 0)]
    put(data / "train.tsv", rows, ("id", name, "text"))
    if name == "dept":
        assert "say which one it is with --label" in refused(data)
    benchmark = drafted(data, **({"label": name} if name == "dept" else {}))
    assert dict(benchmark.layouts[0].columns) == {"id": "id", "text": "text", "label": name}
    assert (benchmark.labels, benchmark.languages) == (("HR", "IT"), ("en",))


def test_keys_with_dots(data):
    """As json_normalize of pandas writes them."""
    rows = [{"data.topic": y, "data.text": t} for _, y, t in topic_rows("en", 60, 0)]
    put(data / "train.jsonl", rows)
    assert dict(drafted(data).layouts[0].columns) == {"text": "data.text", "label": "data.topic"}


def test_files_of_two_kinds(data):
    put(data / "train.tsv", topic_rows("en", 40, 0), NAMES)
    put(data / "dev.tsv", nli_rows("en", 45, 0), ("premise", "hypothesis", "label"))
    message = refused(data)
    assert f"{data / 'dev.tsv'} looks like kind pair" in message
    assert "kind sentence" in message


def test_other_separators(data):
    (data).mkdir()
    (data / "train.csv").write_text("id;text;label\n1;a b;x\n", encoding="utf-8")
    assert f"{data / 'train.csv'}:1: separated by semicolons" in refused(data)
    (data / "train.csv").unlink()
    put(data / "train.tsv", topic_rows("en", 40, 0), NAMES).rename(data / "train.csv")
    assert drafted(data).layouts[0].format == "tsv"


def test_labels_that_yaml_would_read_as_something_else(data):
    words = ("no", "1.0", "null", "a: b", '"q"', "# x", "über", "-", "0123")
    rows = [(words[i % len(words)], t) for i, (_, _, t) in enumerate(topic_rows("en", 90, 0))]
    put(data / "train.tsv", rows, ("label", "text"))
    assert sorted(drafted(data).labels) == sorted(words)


@pytest.mark.parametrize(
    ("line", "row", "message"),
    [
        (9, b"7\tsports", ":9: 2 columns, but line 1 has 3"),
        (2, b"1\tsports\tcaf\xe9", ":2: invalid UTF-8"),
        (5, b"7\tsports\t ", ":5: the text in column 3 is empty"),
        (61, b"0\tsports\tbo be", ":61: the id '0' occurs before, in line 2"),
    ],
)
def test_a_broken_file_has_a_draft_with_which_the_reader_names_the_line(data, line, row, message):
    put(data / "train.tsv", topic_rows("en", 60, 0), NAMES)
    whole = put(data / "dev.tsv", topic_rows("en", 60, 1), NAMES)
    lines = whole.read_bytes().split(b"\n")
    lines[line - 1] = row
    whole.write_bytes(b"\n".join(lines))
    text, _ = draft(data, "own")
    (data / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{whole}{message}")):
        list(summary(benchmarks.load(data / "own.yaml"), data))


def test_nothing_that_can_be_read(data):
    put(data / "train.csv", [])
    assert f"{data / 'train.csv'}: the file has no rows" in refused(data)
    put(data / "train.csv", [], NAMES)
    assert "no rows in what was found: train.csv" in refused(data)
    (data / "train.csv").unlink()
    (data / "train.jsonl").write_text("{\n", encoding="utf-8")
    assert f"{data / 'train.jsonl'}:1: not valid JSON" in refused(data)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["sib200", "pawsx", "csqa", "xcopa", "xnli"])
def test_published_files_are_described_as_in_the_packages_own_table(tmp_path, data_root, name):
    text, _ = draft(data_root / name, name, source="en")
    if name == "sib200":  # what `check` advises: its files and PAWS-X's look alike, and only these were made by pandas
        text = text.replace("    format: tsv", "    format: tsv\n    quoted: true")
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    own, shipped = benchmarks.load(tmp_path / "own.yaml"), benchmarks.load(name)
    assert (own.kind, own.source, own.labels) == (shipped.kind, shipped.source, shipped.labels)
    mine, theirs = (load_subset(table, data_root / name, "dev") for table in (own, shipped))
    key = lambda example: (example.language, example.id)  # noqa: E731
    assert len(mine) == len(theirs)
    if name != "xcopa":  # whose template no draft can know
        assert sorted(mine, key=key) == sorted(theirs, key=key)
