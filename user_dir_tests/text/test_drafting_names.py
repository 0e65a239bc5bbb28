"""Drafts of benchmark tables: what the names of files say of splits and languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import topic_rows
from drafts import NAMES, drafted, put, refused

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import load_subset
from fairseq_robust_xlt.text.drafting import draft


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


NAMED = [
    pytest.param(
        ("train-en.tsv", "dev-en.tsv", "dev-sw.tsv"), "train-{lang}.tsv", "dev-{lang}.tsv", "en sw", id="flat"
    ),
    pytest.param(
        ("train_en.csv", "valid_en.csv", "valid_ur.csv"), "train_{lang}.csv", "valid_{lang}.csv", "en ur", id="csv"
    ),
    pytest.param(
        ("en/train.tsv", "en/val.tsv", "sw/val.tsv"), "{lang}/train.tsv", "{lang}/val.tsv", "en sw", id="folders"
    ),
    pytest.param(
        ("train/en.tsv", "dev/en.tsv", "dev/sw.tsv"), "train/{lang}.tsv", "dev/{lang}.tsv", "en sw", id="split folders"
    ),
    pytest.param(
        ("en/train.en.tsv", "en/dev.en.tsv", "sw/dev.sw.tsv"),
        "{lang}/train.{lang}.tsv",
        "{lang}/dev.{lang}.tsv",
        "en sw",
        id="twice",
    ),
    pytest.param(
        ("data.en.train.tsv", "data.en.validation.tsv", "data.sw.validation.tsv"),
        "data.{lang}.train.tsv",
        "data.{lang}.validation.tsv",
        "en sw",
        id="dots",
    ),
    pytest.param(
        ("my-train-en.tsv", "my-dev-en.tsv"),
        "my-train-{lang}.tsv",
        "my-dev-{lang}.tsv",
        "en",
        id="a word that is a code",
    ),
    pytest.param(("train.tsv", "dev.tsv"), "train.tsv", "dev.tsv", "en", id="no language"),
    pytest.param(
        ("training_set.tsv", "development_set.tsv"), "training_set.tsv", "development_set.tsv", "en", id="long words"
    ),
    pytest.param(
        ("eng/train.tsv", "eng/dev.tsv", "pcm/dev.tsv", "swa/dev.tsv"),
        "{lang}/train.tsv",
        "{lang}/dev.tsv",
        "eng pcm swa",
        id="three letters",
    ),
    pytest.param(
        ("en/train.tsv", "en/dev.tsv", "sw/dev.tsv", "jap/dev.tsv"),
        "{lang}/train.tsv",
        "{lang}/dev.tsv",
        "en jap sw",
        id="an unknown code among known ones",
    ),
    pytest.param(
        ("la-train-en.tsv", "la-dev-en.tsv", "la-dev-sw.tsv"),
        "la-train-{lang}.tsv",
        "la-dev-{lang}.tsv",
        "en sw",
        id="two places with codes",
    ),
    pytest.param(
        ("eng_Latn/train.tsv", "eng_Latn/dev.tsv", "swh_Latn/dev.tsv"),
        "{lang}/train.tsv",
        "{lang}/dev.tsv",
        "eng_Latn swh_Latn",
        id="scripts",
    ),
]


@pytest.mark.parametrize(("names", "train", "dev", "languages"), NAMED)
def test_splits_and_languages_by_name(data, names, train, dev, languages):
    for number, name in enumerate(names):
        put(data / name, topic_rows("en", 40, number), NAMES)
    benchmark = drafted(data)
    assert " ".join(benchmark.languages) == languages
    assert benchmark.source == languages.split()[0]
    assert [dict(layout.files) for layout in benchmark.layouts] == [{"train": train, "dev": dev}]
    assert len(load_subset(benchmark, data, "train")) == 40
    assert {example.language for example in load_subset(benchmark, data, "dev")} == set(languages.split())


def test_codes_that_a_table_cannot_have(data):
    for number, name in enumerate(("train.EN.tsv", "dev.EN.tsv", "dev.zh-CN.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    benchmark = drafted(data)
    assert benchmark.languages == ("en", "zh_CN")
    assert dict(benchmark.layouts[0].codes) == {"en": "EN", "zh_CN": "zh-CN"}
    assert len(load_subset(benchmark, data, "dev-zh_CN")) == 40


def test_training_and_dev_data_without_a_language_are_the_sources(data):
    """What most people have: train.csv and dev.csv, and something to score in other languages."""
    for number, name in enumerate(("train.csv", "dev.csv", "test-sw.csv", "test-ur.csv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    benchmark = drafted(data)
    assert (benchmark.source, benchmark.languages) == ("en", ("en", "sw", "ur"))
    assert "source: en    # the language of the training data, assumed: no name of a training file" in benchmark.text
    assert [e.language for e in load_subset(benchmark, data, "valid")] == ["en"] * 40
    assert {e.language for e in load_subset(benchmark, data, "test")} == {"sw", "ur"}
    assert drafted(data, source="de").languages == ("de", "sw", "ur")


def test_one_split_in_two_patterns_makes_two_layouts(data):
    for number, name in enumerate(("train.tsv", "train.translated.sw.tsv", "dev-en.tsv", "dev-sw.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    benchmark = drafted(data)
    assert [layout.files.get("train") for layout in benchmark.layouts] == ["train.translated.{lang}.tsv", "train.tsv"]
    assert len(load_subset(benchmark, data, "train")) == len(load_subset(benchmark, data, "train-sw")) == 40


def test_words_that_are_codes_are_left_alone_with_a_remark(data):
    for number, name in enumerate(("train_rand_split.tsv", "dev_rand_split.tsv", "test_rand_split_no_answers.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    put(data / "LABELS.tsv", [["what", "they mean"]])
    (data / "train-notes.txt").write_text("no table\n", encoding="utf-8")
    _, remarks = draft(data, "own")
    assert drafted(data).languages == ("en",)
    assert [remark.split(":")[0] for remark in sorted(remarks)] == ["not used"] * 2 + ["test_rand_split_no_answers.tsv"]
    assert "'no', 'answers' were not taken for languages" in "".join(remarks)


@pytest.mark.parametrize(
    ("names", "remark"),
    [
        (("train.tsv", "dev.tsv", "test_swahili.tsv"), "test_swahili.tsv: 'swahili' was not taken for a language"),
        (("train.tsv", "dev.tsv", "test-swa.tsv"), "test-swa.tsv: 'swa' was not taken for a language"),
        (("train.tsv", "dev.tsv", "hindi/test.tsv"), "hindi/test.tsv: 'hindi' was not taken for a language"),
        (("train.tsv", "dev.tsv", "test_हिंदी.tsv"), "test_हिंदी.tsv: 'हिंदी' was not taken for a language"),
        (("test-swa.tsv",), "test-swa.tsv: 'swa' was not taken for a language"),
        (("train-swa.tsv", "dev-swa.tsv"), "train-swa.tsv: 'swa' was not taken for a language"),
        (("train.tsv", "dev_hindi.tsv", "test_hindi.tsv"), "dev_hindi.tsv and 1 more: 'hindi' was not taken"),
    ],
)
def test_names_that_may_be_languages_are_said(data, names, remark):
    """Or Swahili would be scored as English."""
    for number, name in enumerate(names):
        put(data / name, topic_rows("sw", 40, number), NAMES)
    text, (said,) = draft(data, "own")
    assert said.startswith(remark)
    assert f"# {said}\n" in text
    assert "so that this counts as en, the language of the training data" in said


def test_words_of_the_training_files_names_are_no_other_languages(data):
    for number, name in enumerate(("reviews_train.tsv", "reviews_dev.tsv", "reviews_test-sw.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    assert draft(data, "own")[1] == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no .tsv, .tab, .txt, .csv, .jsonl, .ndjson, .json file with one of train, dev"),
        (("train.{lang}.tsv",), "found train.{{lang}}.tsv"),
        (("messages.tsv",), "found messages.tsv; name them like train-en.tsv"),
        (("dev.tsv", "valid.tsv"), "dev.tsv and {}/valid.tsv would both be the dev set of en"),
        (
            ("test_swahili.tsv", "test_hindi.tsv"),
            "test_hindi.tsv and {}/test_swahili.tsv would both be the test set of en; keep one of them in the folder, "
            "or rename it; 'hindi' was not taken for a language (another language's file is named like test-sw.tsv); "
            "'swahili' was not",
        ),
        (("train.tsv", "train-en.tsv"), "train-en.tsv and {}/train.tsv would both be the train set of en"),
        (
            ("train-sw.tsv", "train-ur.tsv"),
            "which is the language of the training data? found sw, ur; say it with --source",
        ),
        (
            ("dev-sw.tsv", "dev-ur.tsv"),
            "which is the language of the training data? found sw, ur; say it with --source",
        ),
    ],
)
def test_files_that_cannot_be_told_apart(data, names, message):
    data.mkdir()
    for number, name in enumerate(names):
        put(data / name, topic_rows("en", 40, number), NAMES)
    assert message.format(data) in refused(data)
    assert "no such data folder" in refused(data / "none")


def test_codes_that_are_not_beyond_doubt_are_said(data):
    for number, name in enumerate(("train-en.tsv", "train-new.tsv", "dev-en.tsv", "dev-sw.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    remark = "train-new.tsv: 'new' was taken for a language, since others stand there: en sw"
    assert draft(data, "own")[1] == [remark]
    assert f"# {remark}\n" in drafted(data).text


def test_a_source_that_is_not_there(data):
    for number, name in enumerate(("train-en.tsv", "dev-en.tsv", "dev-sw.tsv")):
        put(data / name, topic_rows("en", 40, number), NAMES)
    assert "--source sw: the training files are in en" in refused(data, source="sw")


def test_one_file_for_all_languages(data):
    for split in ("dev", "test"):
        rows = [(code, topic, t) for code in ("en", "sw", "zh-CN") for _, topic, t in topic_rows("en", 20, 3)]
        put(data / f"{split}.tsv", rows, ("lang", "topic", "text"))
    put(data / "train.tsv", topic_rows("en", 40, 0), NAMES)
    benchmark = drafted(data)
    assert benchmark.languages == ("en", "sw", "zh_CN")
    (of_all,) = [layout for layout in benchmark.layouts if "language" in layout.columns]
    assert dict(of_all.codes) == {"zh_CN": "zh-CN"}
    assert len(load_subset(benchmark, data, "train")) == 40
    assert len(load_subset(benchmark, data, "test-zh_CN")) == 20


@pytest.mark.parametrize(
    ("names", "subsets"),
    [
        (("train-EN.tsv", "dev-en.tsv", "test-sw.tsv"), ("train", "valid", "test-sw")),
        (("train-en.tsv", "dev-zh_CN.tsv", "test-zh-CN.tsv"), ("train", "dev-zh_CN", "test-zh_CN")),
        (("train-en.tsv", "dev-EN.tsv", "dev-sw.tsv", "test-en.tsv"), ("train", "valid", "dev-sw", "test-en")),
    ],
)
def test_a_code_that_is_spelled_in_two_ways(data, names, subsets):
    for number, name in enumerate(names):
        put(data / name, topic_rows("en", 40 + number, number), NAMES)
    benchmark = drafted(data)
    assert [len(load_subset(benchmark, data, subset)) for subset in subsets] == [40 + n for n in range(len(names))]


@pytest.mark.parametrize("of_all", ["test.tsv", "all-test.tsv"])
def test_a_file_beside_one_for_all_languages(data, of_all):
    rows = [(code, topic, t) for code in ("en", "sw") for _, topic, t in topic_rows(code, 20, 3)]
    put(data / of_all, rows, ("lang", "topic", "text"))
    put(data / "test-ur.tsv", topic_rows("ur", 30, 3), NAMES)
    benchmark = drafted(data)
    assert len(load_subset(benchmark, data, "test-ur")) == 30
    assert len(load_subset(benchmark, data, "test-sw")) == 20


def test_a_file_that_no_table_would_find(data):
    for name, codes in (("test.tsv", ("en", "sw")), ("test-more.tsv", ("hi", "ur"))):
        rows = [(code, topic, t) for code in codes for _, topic, t in topic_rows(code, 20, 3)]
        put(data / name, rows, ("lang", "topic", "text"))
    message = refused(data)
    assert f"{data / 'test.tsv'} would not be read" in message
    assert f"of the test files {data / 'test-more.tsv'} is the one that a table finds for en" in message


def test_test_data_alone_in_several_languages(data):
    """What looks like the training data but for a column of languages."""
    rows = [(code, topic, t) for code in ("en", "sw") for _, topic, t in topic_rows(code, 20, 3)]
    put(data / "test.tsv", rows, ("lang", "topic", "text"))
    put(data / "train.tsv", topic_rows("en", 40, 0), NAMES)
    assert len(load_subset(drafted(data), data, "test-sw")) == 20


def test_a_column_of_languages_that_contradicts_the_names_is_said(data):
    header = ("lang", "topic", "text")
    for name, codes in (("train-en.tsv", ["en"]), ("dev-en.tsv", ["en-US"]), ("test-sw.tsv", ["sw", "en"])):
        rows = [(code, topic, t) for code in codes for _, topic, t in topic_rows("en", 20, 3)]
        put(data / name, rows, header)
    text, (remark,) = draft(data, "own")
    assert remark.startswith(
        "test-sw.tsv: the column lang has en in 20 of 40 rows, but the file's name says sw: all rows count as sw"
    )
    assert f"# {remark}\n" in text
    assert len(load_subset(drafted(data), data, "test-sw")) == 40
    # Where a file without a language in its name makes the column the one that counts.
    (data / "train-en.tsv").rename(data / "train.tsv")
    (data / "dev-en.tsv").unlink()
    _, (remark, no_dev_set) = draft(data, "own")
    assert "but the file's name says sw: rows of another language are refused" in remark
    assert no_dev_set.startswith("no dev set of en")
    with pytest.raises(UserError, match=r"test-sw\.tsv:22: a row in language 'en' in a file of 'sw'"):
        load_subset(drafted(data), data, "test-sw")
