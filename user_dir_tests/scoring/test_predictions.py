"""The predictions file keeps what it is given, and refuses what it cannot keep."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.scoring import Prediction
from fairseq_robust_xlt.scoring.predictions import read, write

LABELS = ("entailment", "neutral", "contradiction")
names = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1, max_size=12)
predictions = st.builds(
    Prediction,
    names,
    names,
    names,
    st.none() | st.integers(0, 2),
    st.integers(0, 2),
    st.tuples(*[st.floats(0, 1)] * 3),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(predictions, max_size=5, unique_by=lambda p: (p.subset, p.languages, p.id)))
def test_round_trip(tmp_path: Path, given_rows: list[Prediction]) -> None:
    path = tmp_path / "predictions.tsv"
    write(path, given_rows, LABELS)
    back = read(path, LABELS)
    assert len(back) == len(given_rows)
    for one, other in zip(back, given_rows, strict=True):
        assert (one.subset, one.languages, one.id, one.gold, one.predicted) == (
            (other.subset, other.languages, other.id, other.gold, other.predicted)
        )
        assert all(
            math.isclose(p, q, rel_tol=5.1e-6) for p, q in zip(one.probabilities, other.probabilities, strict=True)
        )
    first = path.read_bytes()
    write(path, back, LABELS)
    assert path.read_bytes() == first


def test_the_file_as_published(tmp_path: Path) -> None:
    path = tmp_path / "predictions.tsv"
    write(path, [Prediction("test", "sw", "7", None, 2, (0.1234567, 0.0, 1e-9))], LABELS)
    assert path.read_text(encoding="utf-8") == (
        "subset\tlanguages\tid\tgold\tpredicted\tprobabilities\ntest\tsw\t7\t\tcontradiction\t0.123457,0,1e-09\n"
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Prediction("test", "sw", "a\tb", 0, 0, (1.0, 0.0, 0.0)), "no tab or line break"),
        (Prediction("test", "sw", "a\nb", 0, 0, (1.0, 0.0, 0.0)), "no tab or line break"),
        (Prediction("test", "sw", "a\rb", 0, 0, (1.0, 0.0, 0.0)), "no tab or line break"),
        (Prediction("test", "", "1", 0, 0, (1.0, 0.0, 0.0)), "languages"),
        (Prediction("test", "sw", "1", 0, 0, (1.0, 0.0)), "2 probabilities for 3 labels"),
        (Prediction("test", "sw", "1", 0, 0, (float("nan"), 0.0, 0.0)), "diverged"),
        (Prediction("test", "sw", "1", -1, 0, (1.0, 0.0, 0.0)), "class -1"),
        (Prediction("test", "sw", "1", 0, 3, (1.0, 0.0, 0.0)), "class 3"),
    ],
)
def test_what_the_file_cannot_hold_is_refused(tmp_path: Path, bad: Prediction, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / "predictions.tsv", [bad], LABELS)
    assert list(tmp_path.iterdir()) == []


HEAD = b"subset\tlanguages\tid\tgold\tpredicted\tprobabilities\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id\tgold\n", ":1: the header"),
        (HEAD + b"test\tsw\t1\tneutral\n", ":2: 4 columns"),
        (
            HEAD + b"test\tsw\t1\tneutral\tneutral\t0,1,0\ntest\tsw\t2\tneutral\tmaybe\t0,1,0\n",
            ":3: unknown label 'maybe'",
        ),
        (HEAD + b"test\tsw\t1\tneutral\t\t0,1,0\n", ":2: unknown label ''"),
        (HEAD + b"test\tsw\t1\t\t\t0,1,0\n", ":2: unknown label ''"),
        (HEAD + b"test\tsw\t1\tneutral\tneutral\t0,x,0\n", ":2: probabilities"),
        (HEAD + b"test\tsw\t1\tneutral\tneutral\t0,1\n", ":2: 2 probabilities"),
        (HEAD + b"te\xff", "not UTF-8"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "predictions.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path, LABELS)


def test_a_missing_file_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "none.tsv", LABELS)
