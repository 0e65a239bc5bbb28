from pathlib import Path

import pytest
import yaml

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import Subset, load_subset, resolve

XNLI = benchmarks.load("xnli")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train-en", "train-sw", "dev-en", "dev-zh", "dev-sw"):
        (tmp_path / f"{name}.tsv").write_text(f"{name} A\t{name} B\tneutral\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("subset", "split", "languages"),
    [
        ("train", "train", ("en",)),
        ("valid", "dev", ("en",)),
        ("train-sw", "train", ("sw",)),
        ("dev-sw", "dev", ("sw",)),
        ("dev-en", "dev", ("en",)),
        ("dev", "dev", ("en", "sw", "zh")),
    ],
)
def test_names(folder, subset, split, languages):
    resolved = resolve(XNLI, folder, subset)
    assert (resolved.name, resolved.split, resolved.languages) == (subset, split, languages)
    assert resolved.missing == (tuple(c for c in XNLI.languages if c not in languages) if subset == "dev" else ())
    examples = load_subset(XNLI, folder, subset)
    assert [(e.language, e.sequences[0][0]) for e in examples] == [(c, f"{split}-{c} A") for c in languages]


def test_the_source_language_is_the_tables(tmp_path):
    content = yaml.safe_load(XNLI.text) | {"source": "sw"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    benchmark = benchmarks.load(tmp_path / "own.yaml")
    assert resolve(benchmark, tmp_path, "train") == Subset("train", "train", ("sw",), ())
    assert resolve(benchmark, tmp_path, "valid") == Subset("valid", "dev", ("sw",), ())


@pytest.mark.parametrize(
    "subset", ["tset", "valid1", "valid-en", "dev-", "", "test-en-sw-ur", "dev--sw", "dev-pairs-en", "-sw"]
)
def test_unknown_subsets(folder, subset):
    with pytest.raises(UserError, match="unknown (subset|language) "):
        resolve(XNLI, folder, subset)


def test_an_unknown_language_gives_the_nearest(folder):
    with pytest.raises(UserError, match="subset dev-swa: unknown language 'swa'; did you mean sw"):
        resolve(XNLI, folder, "dev-swa")


@pytest.mark.parametrize("codes", [{"zh": "zh-CN"}, {}])
def test_a_language_with_a_hyphen_gives_the_tables(folder, codes):
    content = yaml.safe_load(XNLI.text)
    language = "zh" if codes else "zh_CN"
    content["languages"] = ["en", "sw", "ar", language]
    content["layouts"] = [content["layouts"][0] | {"codes": codes}]
    (folder / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    benchmark = benchmarks.load(folder / "own.yaml")
    with pytest.raises(UserError, match=f"subset test-zh-CN: no '-' in a language; did you mean test-{language}[?]"):
        resolve(benchmark, folder, "test-zh-CN")
    assert resolve(benchmark, folder, "test-en-sw").pairs == (("en", "sw"),)
    with pytest.raises(UserError, match="subset test-en-zz: unknown language 'zz'"):
        resolve(benchmark, folder, "test-en-zz")


def test_a_subset_without_any_file(folder):
    with pytest.raises(UserError, match=r"no test file of any language in .*; looked for: test-\{lang\}\.tsv"):
        resolve(XNLI, folder, "test")
    with pytest.raises(UserError, match="no such data folder"):
        resolve(XNLI, folder / "none", "test")
    with pytest.raises(UserError, match="no dev file for language 'fr'"):
        load_subset(XNLI, folder, "dev-fr")


def test_a_split_that_no_layout_has(folder):
    content = yaml.safe_load(XNLI.text)
    content["layouts"] = content["layouts"][:1]
    del content["layouts"][0]["files"]["test"]
    (folder / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="has no test split"):
        resolve(benchmarks.load(folder / "own.yaml"), folder, "test")


def write(folder: Path, name: str, *rows: str) -> None:
    (folder / name).write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def test_the_generalized_setting(tmp_path):
    for language in ("sw", "en"):
        write(tmp_path, f"test-{language}.tsv", *(f"{language} a{i}\t{language} b{i}\tneutral" for i in range(2)))
    examples = load_subset(XNLI, tmp_path, "test-en-sw")
    assert [(e.id, e.language, e.sequences) for e in examples] == [
        (str(i), "en-sw", ((f"en a{i}", f"sw b{i}"),)) for i in range(2)
    ]
    everything = load_subset(XNLI, tmp_path, "test-pairs")
    assert [e.language for e in everything] == [p for p in ("en-en", "en-sw", "sw-en", "sw-sw") for _ in range(2)]
    assert everything[2:4] == examples
    assert everything[6].sequences == (("sw a0", "sw b0"),)
    resolved = resolve(XNLI, tmp_path, "test-pairs")
    assert (resolved.languages, len(resolved.missing), len(resolved.pairs)) == (("en", "sw"), 13, 4)


@pytest.mark.parametrize(
    ("swahili", "message"),
    [
        (["A\tB\tneutral"], r"sw has 1 rows \(.*test-sw\.tsv\) and en 2 \(.*test-en\.tsv\): the files are not line-al"),
        (
            ["A\tB\tneutral", "C\tD\tneutral"],
            r"test-sw\.tsv:2 and .*test-en\.tsv:2 have different labels: the files are",
        ),
    ],
)
def test_languages_that_are_not_aligned(tmp_path, swahili, message):
    write(tmp_path, "test-en.tsv", "A\tB\tneutral", "C\tD\tentailment")
    write(tmp_path, "test-sw.tsv", *swahili)
    for subset in ("test-en-sw", "test-pairs"):
        with pytest.raises(UserError, match=message):
            load_subset(XNLI, tmp_path, subset)


def test_languages_are_aligned_by_id_where_there_are_ids(tmp_path, caplog):
    for language, ids in (("en", (1, 2, 3)), ("de", (3, 1)), ("fr", (9,))):
        (tmp_path / language).mkdir()
        rows = (f"{i}\t{language} a{i}\t{language} b{i}\t{i % 2}" for i in ids)
        write(tmp_path / language, "test_2k.tsv", "id\tsentence1\tsentence2\tlabel", *rows)
    pawsx = benchmarks.load("pawsx")
    examples = load_subset(pawsx, tmp_path, "test-en-de")
    assert [(e.id, e.sequences[0], e.label) for e in examples] == [
        ("1", ("en a1", "de b1"), 1),
        ("3", ("en a3", "de b3"), 1),
    ]
    assert "2 examples are in all of en de; left out: 1 of en" in caplog.text
    with pytest.raises(UserError, match="no example has the same id in all of en, fr"):
        load_subset(pawsx, tmp_path, "test-en-fr")


def test_an_alignment_by_line_number_alone_is_said(tmp_path, caplog):
    for language in ("en", "sw"):
        write(tmp_path, f"test-{language}.tsv", *(f"{language} a{i}\t{language} b{i}\t" for i in range(2)))
        write(tmp_path, f"dev-{language}.tsv", f"{language} a\t{language} b\tneutral")
    load_subset(XNLI, tmp_path, "dev-en-sw")
    load_subset(XNLI, tmp_path, "test-en-en")
    assert "line number" not in caplog.text
    assert load_subset(XNLI, tmp_path, "test-en-sw")[1].sequences == (("en a1", "sw b1"),)
    assert "en sw are aligned by line number only" in caplog.text


def test_pairs_that_make_no_sense(tmp_path):
    write(tmp_path, "train.jsonl", "{}")
    with pytest.raises(UserError, match="subset test-en-sw: needs a benchmark of pairs, sib200 is of kind sentence"):
        resolve(benchmarks.load("sib200"), tmp_path, "test-en-sw")
    with pytest.raises(UserError, match="subset train-en-sw: training data are in one language"):
        resolve(XNLI, tmp_path, "train-en-sw")
    with pytest.raises(UserError, match="unknown subset 'test-'.*test-LANGUAGE-LANGUAGE, test-pairs"):
        resolve(XNLI, tmp_path, "test-")
