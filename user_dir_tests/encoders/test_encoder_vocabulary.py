"""Vocabulary against fairseq's own Dictionary, and its errors."""

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from fairseq.data import Dictionary
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fairseq_robust_xlt.encoders.vocabulary import Vocabulary, read_dictionary
from fairseq_robust_xlt.errors import UserError

TEXT = [
    "The child reads a book in the garden.",
    "Mtoto anasoma kitabu bustanini.",
    "बच्चा बगीचे में किताब पढ़ता है।",
    "بچہ باغ میں کتاب پڑھتا ہے۔",
    "Das Kind liest ein Buch im Garten, und niemand stört es.",
    "孩子在花园里看书。",
] * 5


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    train(folder, 150)
    return folder


def train(folder: Path, size: int) -> list[str]:
    with open(folder / "sentencepiece.bpe.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT), model_writer=file, vocab_size=size, hard_vocab_limit=False, minloglevel=2
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    # Another order than SentencePiece's, so that a constant shift of the ids would be noticed.
    (folder / "dict.txt").write_text("".join(f"{piece} 7\n" for piece in reversed(pieces)), encoding="utf-8")
    return pieces


@pytest.fixture(scope="module")
def vocabulary(directory) -> Vocabulary:
    return Vocabulary.load(directory)


@pytest.fixture(scope="module")
def fairseq_dictionary(directory) -> Dictionary:
    dictionary = Dictionary.load(str(directory / "dict.txt"))
    dictionary.add_symbol("<mask>")
    return dictionary


def test_ids_of_the_special_symbols_are_fairseqs(vocabulary, fairseq_dictionary):
    d = fairseq_dictionary
    expected = (d.bos(), d.pad(), d.eos(), d.unk(), d.index("<mask>"), len(d))
    v = vocabulary
    assert (v.bos, v.pad, v.eos, v.unk, v.mask, v.size) == expected
    assert v.mask == v.size - 1


def test_symbols_are_fairseqs(directory, fairseq_dictionary):
    assert read_dictionary(directory / "dict.txt") == fairseq_dictionary.symbols


@given(text=st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(TEXT)))
def test_encoding_equals_fairseqs_dictionary_on_the_pieces(directory, vocabulary, fairseq_dictionary, text):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "sentencepiece.bpe.model"))
    expected = [fairseq_dictionary.index(piece) for piece in processor.encode(text, out_type=str)]
    (ids,) = vocabulary.encode([text])
    assert ids.dtype == np.int32
    assert ids.tolist() == expected


@given(words=st.lists(st.sampled_from(" ".join(TEXT[:5]).split()), min_size=1))
def test_decoding_gives_the_text_back(vocabulary, words):
    text = " ".join(words)
    (ids,) = vocabulary.encode([text])
    assert vocabulary.decode([vocabulary.bos, *ids, vocabulary.mask, vocabulary.eos, vocabulary.pad]) == text


def test_unknown_text_becomes_unk_and_decodes_visibly(vocabulary):
    (ids,) = vocabulary.encode(["book ☃"])
    assert vocabulary.unk in ids.tolist()
    assert "⁇" in vocabulary.decode(ids)


def test_piece_to_id_sends_sentencepieces_specials_to_fairseqs(vocabulary):
    assert vocabulary.piece_to_id.dtype == np.int32
    assert vocabulary.piece_to_id[:3].tolist() == [vocabulary.unk, vocabulary.bos, vocabulary.eos]


def test_no_texts_and_empty_texts(vocabulary):
    assert vocabulary.encode([]) == []
    assert [ids.tolist() for ids in vocabulary.encode(["", "book", ""])][::2] == [[], []]
    assert vocabulary.decode([]) == ""


def test_threads_do_not_change_the_ids(vocabulary):
    texts = [f"{TEXT[i % 6]} {i}" for i in range(3000)]
    one_by_one = [vocabulary.encode([text])[0].tolist() for text in texts]
    for threads in (0, 1, 3):
        assert [ids.tolist() for ids in vocabulary.encode(texts, threads)] == one_by_one


def test_pickling_keeps_everything(vocabulary):
    copy = pickle.loads(pickle.dumps(vocabulary))
    assert (copy.size, copy.mask) == (vocabulary.size, vocabulary.mask)
    assert copy.encode(TEXT)[5].tolist() == vocabulary.encode(TEXT)[5].tolist()
    assert copy.decode(copy.encode(TEXT[:1])[0]) == TEXT[0]


class Encoded:
    """A dataset that encodes as it is read."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def __len__(self):
        return len(TEXT)

    def __getitem__(self, index):
        return os.getpid(), self.vocabulary.encode([TEXT[index]], threads=1)[0].tolist()


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_data_workers_encode_the_same(vocabulary, start):
    texts = TEXT * 50
    expected = vocabulary.encode(texts, threads=2)[: len(TEXT)]  # with threads, before the fork
    loader = DataLoader(
        Encoded(vocabulary),
        batch_size=None,
        num_workers=2,
        timeout=60,
        multiprocessing_context=multiprocessing.get_context(start),
    )
    pids, ids = zip(*loader, strict=True)
    assert os.getpid() not in pids
    assert list(ids) == [e.tolist() for e in expected]


def test_a_line_for_mask_keeps_its_place(tmp_path):
    path = tmp_path / "dict.txt"
    path.write_text("a 1\n<mask> 1\nb 1\n")
    dictionary = Dictionary.load(str(path))
    dictionary.add_symbol("<mask>")
    assert read_dictionary(path) == dictionary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "a", "<mask>", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\nb\n", r"dict\.txt:2: expected 'PIECE COUNT', found 'b'"),
        ("a 1\nb x\n", r"dict\.txt:2: expected 'PIECE COUNT', found 'b x'"),
        ("a 1\n\nb 1\n", r"dict\.txt:2: expected 'PIECE COUNT', found ''"),
        (" 1\n", r"dict\.txt:1: expected 'PIECE COUNT'"),
        ("a 1\nb 1\na 3\n", r"dict\.txt:3: the piece 'a' is in the dictionary already"),
        ("a 1\n</s> 1\n", r"dict\.txt:2: the piece '</s>' is in the dictionary already"),
        ("", r"dict\.txt: the dictionary is empty"),
        (b"a 1\n\xff\xfe 1\n", r"dict\.txt: not UTF-8 text"),
    ],
)
def test_malformed_dictionaries(tmp_path, content, message):
    path = tmp_path / "dict.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_dictionary(path)


def test_a_missing_file(tmp_path, directory):
    with pytest.raises(UserError, match=r"cannot read .*dict\.txt: No such file"):
        Vocabulary.load(tmp_path)
    (tmp_path / "dict.txt").write_bytes((directory / "dict.txt").read_bytes())
    with pytest.raises(UserError, match=r"cannot read .*sentencepiece\.bpe\.model: No such file"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_damaged_sentencepiece_model(tmp_path, directory, keep):
    (tmp_path / "dict.txt").write_bytes((directory / "dict.txt").read_bytes())
    whole = (directory / "sentencepiece.bpe.model").read_bytes()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(whole[:keep])
    with pytest.raises(UserError, match=r"sentencepiece\.bpe\.model: not a SentencePiece model, or a damaged one"):
        Vocabulary.load(tmp_path)


def test_a_dictionary_of_another_encoder(tmp_path, directory):
    pieces = train(tmp_path, 150)
    (tmp_path / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces if piece not in pieces[10:12]))
    with pytest.raises(UserError, match=r"2 of the \d+ pieces .* are not in dict\.txt \(the first is "):
        Vocabulary.load(tmp_path)


def test_more_dictionary_lines_than_pieces_are_fine(tmp_path, vocabulary):
    pieces = train(tmp_path, 150)
    (tmp_path / "dict.txt").write_text("".join(f"{p} 1\n" for p in [*pieces, "madeupword0000"]), encoding="utf-8")
    more = Vocabulary.load(tmp_path)
    assert more.size == vocabulary.size + 1
    assert "⁇" in more.decode([more.size - 2])


def test_a_lone_surrogate_is_named(vocabulary):
    with pytest.raises(UserError, match=r"text 1 is not valid Unicode .*\\ud83d"):
        vocabulary.encode(["fine", "broken \ud83d"])


@pytest.mark.parametrize("outside", [-1, 10**6])
def test_an_id_outside_the_dictionary(vocabulary, outside):
    with pytest.raises(UserError, match=f"id {outside} is outside the dictionary: ids run from 0 to"):
        vocabulary.decode([5, outside])
