import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.noise import SynonymNoise, SynonymTable

SYNONYMS = {
    "film": ["movie", "picture"],
    "good": ["fine"],
    "don't": ["shan't"],
    "one": ["1", "single"],
    "USA": ["America"],
    "मेरी": ["हमारी"],
    "the": [],
}
TABLE = SynonymTable(SYNONYMS)
_TOKENS = st.one_of(
    st.sampled_from(["film", "good", "Film,", '"GOOD"', "the", "don't", "USA", "mill", "(one)", "।मेरी।"]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
_SENTENCES = st.lists(st.tuples(_TOKENS, st.sampled_from([" ", "  ", "\t", "\u3000"]))).map(
    lambda parts: "".join(token + space for token, space in parts)
)


def draws(text: str, match: str, count: int = 200) -> set[str]:
    noise = SynonymNoise(TABLE, match)
    return {noise((text,), np.random.default_rng(seed))[0] for seed in range(count)}


def paper_rule(text: str, rng: np.random.Generator) -> list[set[str]]:
    """What RS-DA's rule allows for each token, written independently."""
    return [{token, *SYNONYMS.get(token, [])} for token in text.split(" ")]


@given(_SENTENCES, st.integers(0, 2**32))
def test_exact_allows_what_the_papers_rule_allows(text, seed):
    rng = np.random.default_rng(seed)
    (noised,) = SynonymNoise(TABLE, "exact")((text,), rng)
    allowed = paper_rule(text, rng)
    tokens = noised.split(" ")
    assert len(tokens) == len(allowed)
    assert all(token in options for token, options in zip(tokens, allowed, strict=True))


@given(_SENTENCES, st.integers(0, 2**32))
def test_word_keeps_whitespace_and_every_token_without_a_synonym(text, seed):
    (noised,) = SynonymNoise(TABLE)((text,), np.random.default_rng(seed))
    assert re.findall(r"\s+", noised) == re.findall(r"\s+", text)
    before, after = re.split(r"\s+", text), re.split(r"\s+", noised)
    assert len(before) == len(after)
    words = {word.casefold() for word, synonyms in SYNONYMS.items() if synonyms}
    for old, new in zip(before, after, strict=True):
        if not any(word in old.casefold() for word in words):
            assert new == old


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("film", {"film", "movie", "picture"}),
        ("Film,", {"Film,", "Movie,", "Picture,"}),
        ('("FILM!")', {'("FILM!")', '("MOVIE!")', '("PICTURE!")'}),
        ("Don't", {"Don't", "Shan't"}),
        ("films", {"films"}),
        ("the", {"the"}),
        ("One", {"One", "1", "Single"}),
        ("USA.", {"USA.", "America."}),  # a word of the table as it stands there: the synonym as it stands there
        ("usa", {"usa"}),
        ("«मेरी»", {"«मेरी»", "«हमारी»"}),  # its last letter is a vowel sign, no punctuation
        ("...", {"..."}),
        ("", {""}),
        ("a  good\nfilm", {f"a  {g}\n{f}" for g in ("good", "fine") for f in ("film", "movie", "picture")}),
    ],
)
def test_words_inside_punctuation_and_capitals(text, possible):
    assert draws(text, "word") == possible


@pytest.mark.parametrize("text", ["Film", "film,", "GOOD", "a\tgood\tfilm", "the"])
def test_exact_leaves_everything_else(text):
    assert draws(text, "exact") == {text}


@pytest.mark.parametrize("match", ["word", "exact"])
def test_the_draw_is_uniform_over_the_word_and_its_synonyms(match):
    (noised,) = SynonymNoise(TABLE, match)((" ".join(["film"] * 9000),), np.random.default_rng(7))
    counts = [noised.split(" ").count(word) for word in ("film", "movie", "picture")]
    assert sum(counts) == 9000
    assert stats.chisquare(counts).pvalue > 0.001


def test_a_synonym_counts_once_and_the_word_itself_once():
    noise = SynonymNoise(SynonymTable({"film": ["movie", "movie", "film"]}))
    share = noise.replaced(["film " * 4000])
    assert abs(share - 0.5) < 0.04  # 5 standard errors


def test_the_texts_of_a_pair_are_drawn_independently():
    text = " ".join(["film"] * 50)
    first, second = SynonymNoise(TABLE)((text, text), np.random.default_rng(0))
    assert first != second


def test_coverage_and_replaced_count_tokens():
    texts = ["A good film, the", "mill film", ""]
    assert SynonymNoise(TABLE).coverage(texts) == pytest.approx(3 / 6)
    assert SynonymNoise(TABLE, "exact").coverage(texts) == pytest.approx(2 / 6)
    assert SynonymNoise(TABLE).coverage([]) == SynonymNoise(TABLE).replaced([""]) == 0
    # film is replaced in 2 of 3 draws, good in 1 of 2, mill never
    expected = (2 / 3 + 1 / 2) / 3
    assert SynonymNoise(TABLE).replaced(["film good mill"] * 3000) == pytest.approx(expected, abs=0.03)


def test_load(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(SYNONYMS), encoding="utf-8")
    assert SynonymTable.load(path).synonyms == {k: tuple(v) for k, v in SYNONYMS.items() if v}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": ["b"],\n "c" ["d"]}', r"table\.json:2: not valid JSON"),
        (b'["a"]', "expected a JSON object"),
        (b'{"a": ["b"], "film": "movie"}', "the word 'film' has 'movie', expected a list of synonyms"),
        (b'{"film": ["movie", 1]}', "the word 'film' has"),
        (b'{"film": [" "]}', "the word 'film' has"),
        (b'{"": ["movie"]}', "one of the words is empty"),
        (b'{"film": ["caf\xe9"]}', "not UTF-8"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path, content, message):
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(UserError, match=f"--synonyms: .*{message}"):
        SynonymTable.load(tmp_path / "table.json")


def test_a_missing_table(tmp_path):
    with pytest.raises(UserError, match=r"--synonyms: cannot read .*none\.json: No such file"):
        SynonymTable.load(tmp_path / "none.json")


def test_an_unknown_rule():
    with pytest.raises(UserError, match="unknown match 'exakt'; did you mean exact"):
        SynonymNoise(TABLE, "exakt")


@pytest.mark.real_data
def test_the_papers_table(data_root):
    path = data_root / "synonyms" / "counterfitted_neighbors.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    table = SynonymTable.load(path)
    assert len(table.synonyms) == 49_975 - 24_384
    assert all(list(synonyms) == published[word] for word, synonyms in table.synonyms.items())
