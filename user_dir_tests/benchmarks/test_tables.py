import pickle
from pathlib import Path

import pytest
import yaml

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError

OWN = {
    "name": "needs",
    "version": 1,
    "kind": "sentence",
    "source": "en",
    "languages": ["en", "sw"],
    "labels": ["food", "other"],
    "layouts": [
        {
            "name": "flat",
            "header": True,
            "columns": {"id": "id", "text": "text", "label": "need"},
            "files": {"train": "train.tsv", "dev": "dev-{lang}.tsv"},
        }
    ],
}


def write(folder: Path, content: object) -> Path:
    path = folder / "own.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(*keys_and_value: object) -> dict:
    """A copy of OWN with one value replaced, named by the path to it."""
    *keys, last, value = keys_and_value
    content = yaml.safe_load(yaml.safe_dump(OWN))
    inner = content
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return content


def test_the_shipped_tables_are_valid_and_know_their_labels():
    loaded = {name: benchmarks.load(name) for name in benchmarks.known()}
    assert {"xnli", "sib200"} <= set(loaded)
    for name, benchmark in loaded.items():
        assert benchmark.name == name
        assert benchmark.licence
        assert benchmark.citation
    assert loaded["xnli"].labels == ("contradiction", "entailment", "neutral")
    assert len(loaded["xnli"].languages) == 15
    assert len(loaded["sib200"].labels) == 7
    assert len(loaded["sib200"].languages) == 28


def test_files_in_the_order_of_the_layouts():
    sib200 = benchmarks.load("sib200")
    assert [name for _, name in sib200.files("dev", "sw")] == ["dev-sw.tsv", "swh_Latn/dev.tsv"]
    codes = [layout.codes for layout in sib200.layouts if layout.name == "published"]
    assert set(codes[0]) == set(sib200.languages)


def test_an_own_table_by_path(tmp_path, monkeypatch):
    path = write(tmp_path, OWN)
    benchmark = benchmarks.load(path)
    assert (benchmark.name, benchmark.version, benchmark.kind) == ("needs", "1", "sentence")
    assert benchmark.text == path.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert benchmarks.load("own.yaml") == benchmarks.load("./own.yaml") == benchmark


def test_a_pattern_without_lang_is_the_source_languages(tmp_path):
    benchmark = benchmarks.load(write(tmp_path, OWN))
    assert [name for _, name in benchmark.files("train", "en")] == ["train.tsv"]
    assert benchmark.files("train", "sw") == []
    assert benchmark.files("test", "en") == []


def test_the_hash_is_that_of_the_content(tmp_path):
    plain = benchmarks.load(write(tmp_path, OWN)).sha256
    commented = benchmarks.load(write(tmp_path, "# a comment\n" + yaml.safe_dump(OWN, default_flow_style=True))).sha256
    reordered = benchmarks.load(write(tmp_path, changed("labels", ["other", "food"]))).sha256
    assert plain == commented
    assert plain != reordered


def test_a_benchmark_travels_to_data_workers(tmp_path):
    benchmark = benchmarks.load(write(tmp_path, OWN))
    assert pickle.loads(pickle.dumps(benchmark)) == benchmark


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("langauges", ["en"]), "unknown key 'langauges'; did you mean languages"),
        (changed("layouts", 0, "colums", {}), "layouts[0]: unknown key 'colums'; did you mean columns"),
        ({k: v for k, v in OWN.items() if k != "labels"}, "the key 'labels' is missing"),
        (changed("kind", "sentences"), "kind: given 'sentences', expected one of choice, pair, sentence"),
        (changed("version", 1.0), "version: given 1.0, expected a whole number, or text in quotes"),
        (changed("languages", ["en", "zh-CN"]), "languages[1]: given 'zh-CN', expected a language code"),
        (changed("languages", ["en", False]), "languages[1]: given False, expected a language code"),
        (changed("languages", ["en", "en"]), "languages: given ['en', 'en'], expected a list of different"),
        (changed("languages", "en"), "languages: given 'en', expected a list of different language codes"),
        (changed("labels", ["food", "food"]), "labels: given ['food', 'food'], expected"),
        (changed("labels", ["0", 1]), "labels[1]: given 1, expected a label"),
        (changed("labels", ["food"]), "labels: given ['food'], expected"),
        (changed("source", "sv"), "source: unknown language 'sv'; did you mean sw"),
        (changed("layouts", 0, "files", "dev", "dev.tsv"), "layouts[0].files.dev: 'dev.tsv' has no {lang}"),
        (changed("layouts", 0, "files", "dev", "{split}-{lang}.tsv"), "layouts[0].files.dev: given '{split}-"),
        (changed("layouts", 0, "files", {"valid": "v-{lang}.tsv"}), "layouts[0].files: unknown key 'valid'"),
        (changed("layouts", 0, "empty_rows", True), "layouts[0].empty_rows: given True, expected skip: leave out the"),
        (
            changed("layouts", 0, OWN["layouts"][0] | {"empty_rows": "skip", "files": {"dev": "dev-{lang}.tsv"}}),
            "layouts[0].empty_rows: is for training files, and this layout has none",
        ),
        (
            changed("layouts", 0, OWN["layouts"][0] | {"quoted": True, "format": "csv"}),
            "layouts[0].quoted: is for format tsv, and this is csv",
        ),
        (
            changed("layouts", 0, "files", "train", "/data/train.tsv"),
            "layouts[0].files.train: '/data/train.tsv' may lie",
        ),
        (
            changed("layouts", 0, "files", "train", "a/../../train.tsv"),
            "files.train: 'a/../../train.tsv' may lie outside",
        ),
        (
            changed("layouts", 0, OWN["layouts"][0] | {"codes": {"sw": ".."}, "files": {"dev": "{lang}/dev.tsv"}}),
            "files.dev: '../dev.tsv' may lie outside the data folder; give a path in it",
        ),
        (changed("layouts", 0, "files", {}), "layouts[0].files: given {}, expected a file pattern for at least one"),
        (changed("layouts", 0, "header", False), "expected a column number, as header is false"),
        (changed("layouts", 0, "columns", {"text": "text"}), "the field 'label' is missing"),
        (
            changed("layouts", 0, "columns", "texd", "text"),
            "layouts[0].columns: unknown field 'texd'; did you mean text",
        ),
        (changed("layouts", 0, "columns", "id", "text"), "two fields name the same column"),
        (changed("layouts", 0, "columns", "id", -1), "layouts[0].columns.id: given -1, expected a column's name"),
        (changed("layouts", 0, "columns", "id", 2.0), "layouts[0].columns.id: given 2.0, expected a column's name"),
        (changed("layouts", 0, "columns", "id", True), "layouts[0].columns.id: given True, expected a column's name"),
        (changed("layouts", 0, "label_names", {"meal": "fodo"}), "unknown label 'fodo'; did you mean food"),
        (changed("layouts", 0, "label_names", {0: "food"}), "layouts[0].label_names: given 0, expected a label"),
        (changed("layouts", 0, "codes", {"swa": "swh"}), "layouts[0].codes: unknown language 'swa'; did you mean sw"),
        (
            changed("layouts", 0, "codes", {"sw": "en"}),
            "layouts[0].codes: en and sw would both be read from the files of 'en'",
        ),
        (
            changed("layouts", 0, "files", {"train": "all-{lang}.tsv", "dev": "all-{lang}.tsv"}),
            "layouts[0].files.train: 'all-{lang}.tsv' is a file of dev too (all-en.tsv); each needs files of its own",
        ),
        (
            changed("layouts", 0, "files", {"train": "all-{lang}.tsv", "dev": "./all-{lang}.tsv"}),
            "layouts[0].files.train: 'all-{lang}.tsv' is a file of dev too (all-en.tsv)",
        ),
        (
            changed("layouts", [OWN["layouts"][0], OWN["layouts"][0] | {"files": {"test": "train.tsv"}}]),
            "layouts[1].files.test: 'train.tsv' is a file of train too (train.tsv)",
        ),
        (
            changed("layouts", 0, "files", {"dev": "{lang}{lang}.tsv"}),
            "layouts[0].files.dev: '{lang}{lang}.tsv': two {lang} need something between them",
        ),
        (changed("layouts", 0, "templates", {1: "{stem} Why?"}), "layouts[0].templates: given 1, expected a label"),
        ("name: needs\n{lang}: x\n", "own.yaml:2: not valid YAML: a key is a list or a mapping"),
        ("name: 1999-99-99\n", "own.yaml: not valid YAML: month must be in 1..12"),
        ("", "given None, expected a mapping"),
        ("name: needs\nlabels: [a, b\nkind: pair\n", "own.yaml:3: not valid YAML"),
        ("name: needs\nkind: pair\nname: other\n", "own.yaml:3: not valid YAML: the key 'name' stands twice"),
        ("name: \x07\n", "own.yaml: not valid YAML"),
    ],
)
def test_a_faulty_table_is_refused_with_file_and_key(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        benchmarks.load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UserError, match="--benchmark: unknown benchmark 'xnil'; did you mean xnli"):
        benchmarks.load("xnil")


def test_an_unreadable_table(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the benchmark table .*none\.yaml: No such file"):
        benchmarks.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match=r"cannot read the benchmark table .*latin\.yaml"):
        benchmarks.load(tmp_path / "latin.yaml")
