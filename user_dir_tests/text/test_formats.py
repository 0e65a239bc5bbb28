"""CSV and JSON lines, files of all languages, and multiple choices; TSV is in test_readers.py."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import load_subset, read
from fairseq_robust_xlt.text.summary import summary


def own(folder: Path, kind: str, labels: list[str], **layout) -> Benchmark:
    """A benchmark of one layout whose dev files are dev-{lang}.EXT."""
    table = {
        "name": "own",
        "version": 1,
        "kind": kind,
        "source": "en",
        "languages": ["en", "sw", "ja"],
        "labels": labels,
        "layouts": [{"name": "flat", "files": {"dev": f"dev-{{lang}}.{layout['format']}"}, **layout}],
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
    return benchmarks.load(folder / "own.yaml")


def csv_pairs(folder: Path) -> Benchmark:
    columns = {"first": "a", "second": "b", "label": "y"}
    return own(folder, "pair", ["no", "yes"], format="csv", header=True, columns=columns)


def choice_objects(folder: Path) -> Benchmark:
    columns = {
        "id": "id",
        "stem": "q.stem",
        "label": "key",
        "options": {"list": "q.options", "text": "t", "label": "l"},
    }
    return own(folder, "choice", ["A", "B", "C"], format="jsonl", columns=columns)


def an_object(**changed) -> dict:
    options = [{"l": label, "t": f"option {label}"} for label in "ABC"]
    return {"id": "7", "q": {"stem": "Why?", "options": options}, "key": "B"} | changed


def put(folder: Path, name: str, content: str | dict | list[dict]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = [content] if isinstance(content, dict) else content
    text = objects if isinstance(objects, str) else "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects)
    path.write_text(text, encoding="utf-8", newline="")
    return path


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1).filter(lambda t: t.strip())


@given(st.lists(st.tuples(_TEXTS, _TEXTS, st.sampled_from(["no", "yes"])), min_size=1))
def test_csv_keeps_quotes_commas_and_line_breaks(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("a", "b", "y"), *rows])
    put(folder, "dev-en.csv", out.getvalue())
    examples = read(csv_pairs(folder), folder, "dev", "en")
    assert [(*e.sequences[0], ["no", "yes"][e.label]) for e in examples] == rows


@given(st.lists(st.tuples(_TEXTS, _TEXTS, st.sampled_from(["no", "yes"])), min_size=1))
def test_quoted_tsv_is_what_a_csv_writer_wrote(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("quoted")
    with open(folder / "dev-en.tsv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    columns = {"first": 0, "second": 1, "label": 2}
    benchmark = own(folder, "pair", ["no", "yes"], format="tsv", header=False, quoted=True, columns=columns)
    examples = read(benchmark, folder, "dev", "en")
    assert [(*e.sequences[0], ["no", "yes"][e.label]) for e in examples] == rows
    (folder / "dev-en.tsv").write_text('a\t"b"c\tyes\n', encoding="utf-8")
    with pytest.raises(UserError, match="dev-en.tsv:1: not valid quoted TSV: '\t' expected after"):
        read(benchmark, folder, "dev", "en")


def test_a_name_that_the_file_system_refuses_is_one_error(tmp_path):
    pattern = "x" * 300 + "-{lang}.tsv"
    layout = {"format": "tsv", "header": False, "columns": {"text": 0, "label": 1}}
    benchmark = own(tmp_path, "sentence", ["a", "b"], **layout, files={"dev": pattern})
    for use in (lambda: read(benchmark, tmp_path, "dev", "en"), lambda: list(summary(benchmark, tmp_path))):
        with pytest.raises(UserError, match="cannot read .*xxx-en.tsv: File name too long"):
            use()


def test_fields_that_look_quoted_are_said(tmp_path):
    """A plain text may begin and end with a quote; only what a csv writer would write counts."""
    columns = {"first": 0, "second": 1, "label": 2}
    layout = {"format": "tsv", "header": False, "columns": columns}
    benchmark = own(tmp_path, "pair", ["no", "yes"], **layout)
    plain = ['"a" and "b"', '""" a', '"" Turkey "" is "" x "', "a", '"He said."']
    put(tmp_path, "dev-sw.tsv", "".join(f"x\t{text}\tno\n" for text in plain))
    assert not [line for line in summary(benchmark, tmp_path) if "csv writer" in line]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="\t").writerows([(text, "x", "yes") for text in ("b", 'say "a"', '"no"', '" x')])
    path = put(tmp_path, "dev-en.tsv", out.getvalue())
    (line,) = [line for line in summary(benchmark, tmp_path) if "csv writer" in line]
    assert line.startswith(f"3 fields in 1 file, the first in {path}:2, look like those of a csv writer")
    assert "quoted: true in the layout of a table of your own reads them without" in line
    # One quote that no csv writer would leave: nothing in the file was written by one.
    put(tmp_path, "dev-en.tsv", out.getvalue() + '"a" and "b"\tx\tno\n')
    assert not [line for line in summary(benchmark, tmp_path) if "csv writer" in line]
    benchmark = own(tmp_path, "pair", ["no", "yes"], quoted=True, **layout)
    path.unlink()
    put(tmp_path, "dev-sw.tsv", out.getvalue())
    assert not [line for line in summary(benchmark, tmp_path) if "csv writer" in line]
    assert read(benchmark, tmp_path, "dev", "sw")[1].sequences == (('say "a"', "x"),)


def test_the_line_of_a_csv_row_is_its_first(tmp_path):
    path = put(tmp_path, "dev-en.csv", 'a,b,y\n"two\nlines",x,yes\nx,y,maybe\n')
    with pytest.raises(UserError, match=re.escape(f"{path}:4: unknown label 'maybe' in column 3; allowed: no, yes")):
        read(csv_pairs(tmp_path), tmp_path, "dev", "en")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a,b,y\nx,"y,yes\n', ":2: not valid CSV: unexpected end of data"),
        ('a,b,y\nx,"y"z,yes\n', ":2: not valid CSV: ',' expected after '\"'"),
        ("a,b,y\nx,y\n", ":2: 2 columns, but line 1 has 3"),
        ('a,b,y\n"x\nx",y,yes\n\nx,y,no\n', ":4: an empty line"),
        ("\na,b,y\nx,y,yes\n", ":1: an empty line"),
        (f"{'c' * 500},b,y\nx,y,yes\n", f":1: no column 'a'; the header has: {'c' * 200}... (506 characters)"),
        (f"a,b,y\nx,y,{'c' * 500}\n", f":2: unknown label '{'c' * 199}... (502 characters) in column 3; allowed"),
        ("a;b;y\nx;y;yes\n", ":1: no column 'a'; the header has: a;b;y"),
        ("a,b,y\n", ": the file has no rows below its header"),
        ("", ": the file has no rows"),
    ],
)
def test_faults_in_csv(tmp_path, content, message):
    path = put(tmp_path, "dev-en.csv", content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        read(csv_pairs(tmp_path), tmp_path, "dev", "en")


def test_sentences_in_json_lines(tmp_path):
    columns = {"text": "data.text", "label": "gold"}
    benchmark = own(tmp_path, "sentence", ["0", "1", "true", "0.5"], format="jsonl", columns=columns)
    text = 'tab\there, "quotes", \u2028 and a\nline break'
    rows = [{"data": {"text": text}, "gold": gold} for gold in (1, "0", True, 0.5)]
    put(tmp_path, "dev-sw.jsonl", rows)
    examples = read(benchmark, tmp_path, "dev", "sw")
    assert [(e.sequences, e.label) for e in examples] == [(((text,),), label) for label in (1, 0, 2, 3)]


def test_the_options_are_in_the_order_of_the_labels(tmp_path):
    row = an_object()
    row["q"]["options"].reverse()
    put(tmp_path, "dev-en.jsonl", row)
    (example,) = read(choice_objects(tmp_path), tmp_path, "dev", "en")
    assert example.sequences == (("Why?", "option A"), ("Why?", "option B"), ("Why?", "option C"))
    assert (example.label, example.id) == (1, "7")


def options(*labels: str) -> dict:
    return an_object(q={"stem": "Why?", "options": [{"l": label, "t": "x"} for label in labels]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (options("A", "B"), ":1: field 'q.options': 2 options labelled A, B; expected 3: A, B, C"),
        (options("A", "B", "C", "D"), ":1: field 'q.options': 4 options labelled A, B, C, D; expected 3"),
        (options("A", "B", "B"), ":1: field 'q.options': 3 options labelled A, B, B; expected 3"),
        (an_object(key="D"), ":1: unknown label 'D' in field 'key'; allowed: A, B, C"),
        (an_object(key=None), ":1: unknown label '' in field 'key'"),
        (an_object(key=["A"]), ":1: field 'key': expected text, found ['A']"),
        (an_object(q={"stem": " ", "options": []}), ":1: the text in field 'q.stem' is empty"),
        (
            an_object(q={"stem": "?", "options": "ABC"}),
            ":1: field 'q.options': expected a list of options, found 'ABC'",
        ),
        (an_object(q={"stem": "?", "options": [{"l": "A"}]}), ":1: field 'q.options': option 1 has no 't': {'l': 'A'}"),
        (an_object(q="Why?"), ":1: no field 'q.stem'; the object has: id, q, key"),
        (
            an_object(q={"stem": "?", "options": [{"l": "A", "t": "x"}, {"l": "B", "t": " "}]}),
            ":1: the text in field 'q.options', option 2 is empty",
        ),
        ([an_object(), an_object()], ":2: the id '7' occurs before, in line 1"),
        (an_object(id="a\tb"), ":1: the id 'a\\tb' holds a tab or a line break"),
        ('{"id": 1\n', ":1: not valid JSON: "),
        ("[\n{}\n]\n", ":1: not valid JSON: Expecting value: line 1 column 2 (char 1); expected one object a line"),
        ('{\n  "id": "7"\n}\n', ":1: not valid JSON: Expecting property name enclosed in double quotes"),
        (json.dumps(an_object()) + "\n\n", ":2: an empty line"),
        ("\n" + json.dumps(an_object()) + "\n", ":1: an empty line"),
        ("[1, 2]\n", ":1: expected one JSON object a line, found '[1, 2]'"),
        ('{"id": ' + "9" * 5000 + "}\n", ":1: not valid JSON: "),
        ("[" * 100_000 + "\n", ":1: not valid JSON: "),
        ('{"id": "a\\ud800"}\n', ":1: not valid JSON: 'utf-8' codec can't encode"),
        ("", ": the file has no rows"),
    ],
)
def test_faults_in_choices(tmp_path, content, message):
    path = put(tmp_path, "dev-en.jsonl", content)
    with pytest.raises(UserError, match=re.escape(f"{path}{message}")):
        read(choice_objects(tmp_path), tmp_path, "dev", "en")


@pytest.mark.parametrize("format", ["tsv", "csv"])
def test_choices_in_columns_with_templates(tmp_path, format):
    columns = {"stem": 0, "template": 1, "options": [2, 3], "label": 4}
    templates = {"cause": "{stem} Why?", "effect": "{stem} {so}"}
    more = {"format": format, "header": False, "columns": columns, "templates": templates}
    benchmark = own(tmp_path, "choice", ["0", "1"], **more)
    tab = "\t" if format == "tsv" else ","
    rows = [["It rains.", "cause", "a", "b", "1"], ["It {snows}.", "effect", "a", "b", "0"]]
    path = put(tmp_path, f"dev-sw.{format}", "".join(tab.join(row) + "\n" for row in rows))
    first, second = read(benchmark, tmp_path, "dev", "sw")
    assert first.sequences == (("It rains. Why?", "a"), ("It rains. Why?", "b"))
    assert second.sequences[0] == ("It {snows}. {so}", "a")
    assert (first.label, second.label) == (1, 0)
    put(tmp_path, f"dev-sw.{format}", tab.join(["It rains.", "reason", "a", "b", "1"]) + "\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:1: unknown template 'reason' in column 2; allowed: cause")):
        read(benchmark, tmp_path, "dev", "sw")
    put(tmp_path, f"dev-sw.{format}", tab.join(["It rains.", "cause", "a", "", "1"]) + "\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:1: the text in column 4 is empty")):
        read(benchmark, tmp_path, "dev", "sw")


def all_in_one(folder: Path) -> Benchmark:
    columns = {"text": "text", "label": "y", "language": "lang"}
    files = {"dev": "dev.tsv"}
    more = {"format": "tsv", "header": True, "columns": columns, "files": files, "codes": {"ja": "jap"}}
    return own(folder, "sentence", ["no", "yes"], **more)


def test_one_file_for_all_languages(tmp_path):
    put(tmp_path, "dev.tsv", "lang\ttext\ty\nsw\tmoja\tyes\njap\tichi\tno\nsw\tmbili\tno\n")
    benchmark = all_in_one(tmp_path)
    assert [(e.id, e.sequences, e.label) for e in read(benchmark, tmp_path, "dev", "sw")] == [
        ("0", (("moja",),), 1),
        ("1", (("mbili",),), 0),
    ]
    assert [e.language for e in read(benchmark, tmp_path, "dev", "ja")] == ["ja"]
    with pytest.raises(UserError, match=r"dev\.tsv: no rows in language 'en'; the file has: ja, sw"):
        read(benchmark, tmp_path, "dev", "en")
    path = put(tmp_path, "dev.tsv", "lang\ttext\ty\nsw\tmoja\tyes\nsv\tett\tno\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:3: unknown language 'sv'; did you mean sw")):
        read(benchmark, tmp_path, "dev", "sw")


def test_only_a_test_file_may_hide_its_labels(tmp_path):
    xnli = benchmarks.load("xnli")
    put(tmp_path, "test-sw.tsv", "A\tB\nC\tD\n")
    assert [e.label for e in read(xnli, tmp_path, "test", "sw")] == [None, None]
    put(tmp_path, "test-sw.tsv", "A\tB\t\nC\tD\tneutral\n")
    assert [e.label for e in read(xnli, tmp_path, "test", "sw")] == [None, 2]
    put(tmp_path, "dev-sw.tsv", "A\tB\n")
    with pytest.raises(UserError, match="2 columns, but layout 'xtreme' reads column 3"):
        read(xnli, tmp_path, "dev", "sw")
    with pytest.raises(UserError, match="1 column, but layout 'xtreme' reads column 2"):
        put(tmp_path, "test-sw.tsv", "A\n")
        read(xnli, tmp_path, "test", "sw")


def test_a_row_of_another_language_in_a_languages_file(tmp_path):
    columns = {"text": "text", "label": "y", "language": "lang"}
    benchmark = own(tmp_path, "sentence", ["no", "yes"], format="tsv", header=True, columns=columns)
    path = put(tmp_path, "dev-sw.tsv", "lang\ttext\ty\nsw\tmoja\tyes\nen\tone\tno\n")
    with pytest.raises(UserError, match=re.escape(f"{path}:3: a row in language 'en' in a file of 'sw'")):
        load_subset(benchmark, tmp_path, "dev")
