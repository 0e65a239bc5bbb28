"""Each benchmark in the layouts in which it is published; where the files are not at hand, made to the letter."""

import json
from pathlib import Path

import pytest

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import Example, load_subset, read, resolve


def put(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def texts(examples: list[Example]) -> list[tuple[tuple[str, ...], ...]]:
    return [example.sequences for example in examples]


XNLI_1_0 = (
    "language\tgold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1"
    "\tsentence2\tpromptID\tpairID\tgenre\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tmatch"
)


def xnli_row(language: str, label: str, first: str, second: str, pair: int) -> str:
    return f"{language}\t{label}\t\t\t\t\t{first}\t{second}\t1\t{pair}\tfacetoface\t{label}\t{label}\t{label}\t\t\tTrue"


@pytest.mark.parametrize("inside", ["", "XNLI-1.0"])
def test_xnli_1_0(tmp_path, inside):
    rows = [
        xnli_row(c, y, f'"{c} a{i}', f"b{i}", i + 1)
        for c in ("ar", "en")
        for i, y in enumerate(["neutral", "entailment"])
    ]
    put(tmp_path / inside / "xnli.dev.tsv", XNLI_1_0, *rows)
    xnli = benchmarks.load("xnli")
    assert resolve(xnli, tmp_path, "dev").languages == ("ar", "en")
    examples = load_subset(xnli, tmp_path, "dev")
    assert texts(examples) == [((f'"{c} a{i}', f"b{i}"),) for c in ("ar", "en") for i in (0, 1)]
    assert [(e.id, e.label) for e in examples] == [("1", 2), ("2", 1)] * 2
    assert load_subset(xnli, tmp_path, "valid") == examples[2:]
    # A pair has the same pairID in every language, so that another order does no harm.
    put(tmp_path / inside / "xnli.dev.tsv", XNLI_1_0, *rows[:2], rows[3], rows[2])
    assert texts(load_subset(xnli, tmp_path, "dev-en-ar")) == [((f'"en a{i}', f"b{i}"),) for i in (1, 0)]


def test_xnli_mt_1_0(tmp_path):
    put(tmp_path / "multinli.train.en.tsv", "premise\thypo\tlabel", 'He said "so\tHe spoke\tcontradictory')
    (example,) = load_subset(benchmarks.load("xnli"), tmp_path, "train")
    assert (example.sequences, example.label) == ((('He said "so', "He spoke"),), 0)


@pytest.mark.parametrize("inside", ["", "x-final"])
def test_paws_x(tmp_path, inside):
    header = "id\tsentence1\tsentence2\tlabel"
    put(tmp_path / inside / "en" / "train.tsv", header, "1\tA\tB\t1")
    put(tmp_path / inside / "de" / "translated_train.tsv", header, "1\tC\tD\t0")
    for language in ("en", "de"):
        # Unbalanced quotes: a quote-aware reader would make one row of these three.
        put(tmp_path / inside / language / "dev_2k.tsv", header, '1\t"x\ty\t0', '2\tx\t"y\t1', "3\tx\ty\t1")
        put(tmp_path / inside / language / "test_2k.tsv", header, f"7\t{language}\tz\t1")
    pawsx = benchmarks.load("pawsx")
    assert [(e.id, e.label) for e in load_subset(pawsx, tmp_path, "train")] == [("1", 1)]
    assert texts(load_subset(pawsx, tmp_path, "train-de")) == [(("C", "D"),)]
    assert [(e.language, e.id, e.label) for e in load_subset(pawsx, tmp_path, "dev")] == [
        (language, identifier, label)
        for language in ("de", "en")
        for identifier, label in (("1", 0), ("2", 1), ("3", 1))
    ]
    assert texts(load_subset(pawsx, tmp_path, "test-de")) == [(("de", "z"),)]


def test_paws_x_translations_that_came_out_empty(tmp_path, caplog):
    """As the published files hold them; in dev and test nothing is left out."""
    header = "id\tsentence1\tsentence2\tlabel"
    rows = ["1\tA\tB\t1", "32035\t\t\t0", "3\tC\t \t0", "4\tD\tE\t0"]
    put(tmp_path / "x-final/fr/translated_train.tsv", header, *rows)
    put(tmp_path / "x-final/fr/dev_2k.tsv", header, *rows)
    put(tmp_path / "x-final/en/train.tsv", header, *rows)
    pawsx = benchmarks.load("pawsx")
    assert [e.id for e in load_subset(pawsx, tmp_path, "train-fr")] == ["1", "4"]
    assert "fr/translated_train.tsv: 2 rows have an empty text and are left out (line 3, 4)" in caplog.text
    for subset in ("dev-fr", "train"):
        with pytest.raises(UserError, match="tsv:3: the text in column 2 is empty"):
            load_subset(pawsx, tmp_path, subset)
    put(tmp_path / "x-final/fr/translated_train.tsv", header, *rows[1:3])
    with pytest.raises(UserError, match="translated_train.tsv: every row has an empty text"):
        load_subset(pawsx, tmp_path, "train-fr")


def csqa_row(identifier: str, labels: str, stem: str = "Where?", **more) -> str:
    choices = [{"label": label, "text": f"{identifier} {label}"} for label in labels]
    return json.dumps({"id": identifier, "question": {"stem": stem, "choices": choices}, **more})


@pytest.mark.parametrize(
    "names",
    [
        ("train_rand_split.jsonl", "dev_rand_split.jsonl", "test_rand_split_no_answers.jsonl"),
        ("train.jsonl", "valid.jsonl", "test.jsonl"),
    ],
)
def test_csqa(tmp_path, names):
    for name, answer in zip(names, ("C", "A", None), strict=True):
        put(tmp_path / name, csqa_row(name, "ABCDE", **({"answerKey": answer} if answer else {})))
    csqa = benchmarks.load("csqa")
    for subset, name, label in zip(("train", "valid", "test"), names, (2, 0, None), strict=True):
        (example,) = load_subset(csqa, tmp_path, subset)
        assert example.sequences == tuple(("Where?", f"{name} {letter}") for letter in "ABCDE")
        assert (example.id, example.language, example.label) == (name, "en", label)


@pytest.mark.parametrize(("name", "folder", "labels"), [("xcsqa", "X-CSQA", "ABCDE"), ("xcodah", "X-CODAH", "ABCD")])
@pytest.mark.parametrize("inside", [True, False])
def test_x_csr(tmp_path, name, folder, labels, inside):
    """lang, question_tag (X-CODAH) and a stem of one space (X-CODAH) as published; the test files hold no answerKey."""
    root = tmp_path / folder if inside else tmp_path
    for code in ("en", "jap", "sw"):
        for split in ("train", "dev", "test") if code == "en" else ("dev", "test"):
            more = {"lang": code} | ({} if split == "test" else {"answerKey": "B"})
            if name == "xcodah":
                more |= {"question_tag": "i"}
            stem = " " if name == "xcodah" else f"Where {code}?"
            put(
                root / code / f"{split}.jsonl",
                csqa_row("1a", labels, stem, **more),
                csqa_row("2b", labels, stem, **more),
            )
    benchmark = benchmarks.load(name)
    assert resolve(benchmark, tmp_path, "dev").languages == ("en", "ja", "sw")
    assert len(resolve(benchmark, tmp_path, "dev").missing) == 13
    japanese = load_subset(benchmark, tmp_path, "dev-ja")
    assert japanese == load_subset(benchmark, tmp_path, "dev-jap")
    wanted = [(f"Where {'jap'}?", f"1a {letter}") for letter in labels]
    assert japanese[0].sequences == tuple(pair if name == "xcsqa" else pair[1:] for pair in wanted)
    assert [e.label for e in japanese] == [1, 1]
    assert {e.label for e in load_subset(benchmark, tmp_path, "test")} == {None}
    assert len(load_subset(benchmark, tmp_path, "train")) == 2


@pytest.mark.parametrize("pattern", ["val.{}.jsonl", "{0}/val.{0}.jsonl", "data/{0}/val.{0}.jsonl"])
def test_xcopa(tmp_path, pattern):
    row = {"premise": "Hali.", "choice1": "a", "choice2": "b", "idx": 0, "changed": False}
    rows = [row | {"question": "cause", "label": 1}, row | {"question": "effect", "label": 0, "idx": 1}]
    put(tmp_path / pattern.format("sw"), *map(json.dumps, rows))
    examples = read(benchmarks.load("xcopa"), tmp_path, "dev", "sw")
    assert examples[0].sequences == (
        ("Hali. What was the cause of this?", "a"),
        ("Hali. What was the cause of this?", "b"),
    )
    assert examples[1].sequences[1] == ("Hali. What happened as a result?", "b")
    assert [(e.id, e.label) for e in examples] == [("0", 1), ("1", 0)]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "folder", "subset", "rows"),
    [
        ("xnli", "xnli", "dev", 15 * 2490),
        ("xnli", "xnli", "train", 42357),
        ("xnli", "xnli", "dev-en-sw", 2490),
        ("pawsx", "pawsx", "dev", 13815),
        ("csqa", "csqa", "train", 9741),
        ("csqa", "csqa", "valid", 1221),
        ("xcopa", "xcopa", "dev", 1100),
        ("sib200", "sib200", "dev", 28 * 99),
        ("sib200", "sib200", "train", 701),
    ],
)
def test_the_real_files(data_root, name, folder, subset, rows):
    examples = load_subset(benchmarks.load(name), data_root / folder, subset)
    assert len(examples) == rows
    if (name, subset) == ("sib200", "train"):  # pandas wrote its files: a text with a quote in it stands in quotes
        (text,) = examples[11].sequences[0]
        assert text.startswith('"She’s very cute and sings quite well, too," he said')
