import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from fairseq_robust_xlt.encoders import Vocabulary
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import Example, encode, join

SENTENCES = [
    "The river rose in the night and the bridge was closed.",
    "Who has seen the grey cat of the miller?",
    "Seven boats came back before the storm reached the harbour.",
    "She bought bread, three onions and a bag of rice.",
    "Nobody knew the way to the old mill.",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Vocabulary:
    """A real SentencePiece model and fairseq dictionary, small."""
    folder: Path = tmp_path_factory.mktemp("encoder")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=model, vocab_size=90, model_type="bpe", minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    return Vocabulary.load(folder)


def example(*sequences: tuple[str, ...]) -> Example:
    return Example("0", "en", sequences, 0, "file.tsv:1")


def pieces(vocabulary: Vocabulary, text: str) -> list[int]:
    return vocabulary.encode([text], threads=1)[0].tolist()


def test_one_text(vocabulary):
    encoded = encode([example((text,)) for text in SENTENCES], vocabulary, 512)
    for i, text in enumerate(SENTENCES):
        assert encoded.item(i).tolist() == [0, *pieces(vocabulary, text), 2]
    assert encoded.item(0).dtype == encoded.tokens.dtype == np.int32
    assert encoded.truncated == 0


def test_a_pair_has_two_separators(vocabulary):
    first, second = SENTENCES[:2]
    ids = encode([example((first, second))], vocabulary, 512).item(0).tolist()
    assert ids == [0, *pieces(vocabulary, first), 2, 2, *pieces(vocabulary, second), 2]
    assert vocabulary.decode(ids[: len(pieces(vocabulary, first)) + 2]) == first


def test_several_sequences_of_an_example(vocabulary):
    examples = [example((SENTENCES[0], "cat"), (SENTENCES[0], "the mill")), example(("boats",), ("a",), ("the",))]
    encoded = encode(examples, vocabulary, 512)
    assert [encoded.sequences(i) for i in range(len(encoded))] == [2, 3]
    for i, one in enumerate(examples):
        for j, texts in enumerate(one.sequences):
            assert encoded.item(i, j).tolist() == encode([example(texts)], vocabulary, 512).item(0).tolist()
        assert encoded.sizes[i] == max(len(encoded.item(i, j)) for j in range(encoded.sequences(i)))
    for bad in ((2, 0), (0, 2), (-1, 0), (0, -1)):
        with pytest.raises(IndexError):
            encoded.item(*bad)


def test_truncated_examples_are_counted_once(vocabulary):
    long, short = (SENTENCES[0], SENTENCES[2]), ("cat", "the")
    encoded = encode([example(long, long), example(short), example(long)], vocabulary, 16)
    assert encoded.truncated == 2
    assert encoded.sizes.tolist() == [16, len(encoded.item(1)), 16]


def test_nothing_to_encode(vocabulary):
    encoded = encode([], vocabulary, 16)
    assert len(encoded) == len(encoded.sizes) == len(encoded.tokens) == 0


def test_encoded_examples_travel_to_data_workers(vocabulary):
    encoded = encode([example((text,)) for text in SENTENCES], vocabulary, 64)
    copy = pickle.loads(pickle.dumps(encoded))
    assert [copy.item(i).tolist() for i in range(5)] == [encoded.item(i).tolist() for i in range(5)]


def test_a_length_limit_without_room_is_refused(vocabulary):
    with pytest.raises(UserError, match="--max-length: given 7, expected at least 8"):
        encode([example(("cat",))], vocabulary, 7)
    assert len(encode([example((SENTENCES[0],))], vocabulary, 8).item(0)) == 8


def cut_one_by_one(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """The rule as it is stated, token by token: the independent reference."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


_IDS = st.lists(st.integers(4, 80), max_size=40)


@given(_IDS, _IDS, st.integers(8, 90))
def test_the_longer_text_of_a_pair_is_cut_first(vocabulary, first, second, max_length):
    ids, truncated = join([np.array(first, np.int32), np.array(second, np.int32)], vocabulary, max_length)
    kept = cut_one_by_one(first, second, max_length - 4)
    assert ids.tolist() == [0, *kept[0], 2, 2, *kept[1], 2]
    assert truncated == (len(first) + len(second) + 4 > max_length)
    assert ids.dtype == np.int32


@given(_IDS, st.integers(8, 60))
def test_one_text_is_cut_at_its_end(vocabulary, text, max_length):
    ids, truncated = join([np.array(text, np.int32)], vocabulary, max_length)
    assert ids.tolist() == [0, *text[: max_length - 2], 2]
    assert truncated == (len(text) + 2 > max_length)
