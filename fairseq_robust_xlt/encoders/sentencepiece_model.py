"""Write a SentencePiece model in XLM-R's numbering from pieces and their scores."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import sentencepiece

from fairseq_robust_xlt.errors import UserError


def build(pieces: Iterable[tuple[str, float]]) -> bytes:
    """The bytes of a unigram model with the normaliser nmt_nfkc: `<unk>`, `<s>`, `</s>`, then `pieces` with scores.

    Its ids are those of a fairseq dictionary of the same pieces, less one. The same input gives the same bytes.
    Raises `UserError` without the package protobuf.
    """
    proto = _messages()
    # SentencePiece gives out its table for nmt_nfkc only in a trained model.
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e"]),
        model_writer=trained,
        vocab_size=20,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = proto.ModelProto()
    model.normalizer_spec.CopyFrom(proto.ModelProto.FromString(trained.getvalue()).normalizer_spec)
    kind = proto.ModelProto.SentencePiece
    for piece, type_ in (("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)):
        model.pieces.add(piece=piece, score=0.0, type=type_)
    for piece, score in pieces:
        model.pieces.add(piece=piece, score=score, type=kind.NORMAL)
    spec = model.trainer_spec
    spec.model_type = proto.TrainerSpec.UNIGRAM
    spec.vocab_size, spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = len(model.pieces), 0, 1, 2, -1
    return model.SerializeToString(deterministic=True)


def _messages() -> Any:
    """SentencePiece's protobuf messages, whose classes are made at import and unknown to type checkers."""
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise UserError(f"writing a SentencePiece model needs protobuf ({error}): pip install protobuf") from error
    return sentencepiece_model_pb2
