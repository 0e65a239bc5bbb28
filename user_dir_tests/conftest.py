"""Small real things that many tests use: an encoder, data in several languages."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
from pathlib import Path

import hypothesis
import pytest
from driving import train_arguments, train_in_process

LANGUAGES = ("en", "sw", "ur")
# A word of each "language" for each meaning: sw shares some forms with en, ur none.
_MEANINGS = 60

# In CI the same examples every time; elsewhere hypothesis goes on looking for new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_unconfigure(config):
    # Trainings in this process say at its exit that they ended at one class, on streams that pytest has closed.
    logging.raiseExceptions = False


def pytest_collection_modifyitems(config, items):
    import torch

    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "real_data" in item.keywords and not os.environ.get("ROBUST_XLT_DATA"):
            item.add_marker(pytest.mark.skip(reason="set ROBUST_XLT_DATA to the folder of the published files"))


class Published:
    """The folder of the published files: a test that asks for a folder that it has not is skipped."""

    def __truediv__(self, name: str) -> Path:
        folder = Path(os.environ["ROBUST_XLT_DATA"], name)
        if not folder.is_dir():
            pytest.skip(f"ROBUST_XLT_DATA has no folder {name}: {folder}")
        return folder


@pytest.fixture(scope="session")
def data_root() -> Published:
    """The published files (real_data tests only)."""
    return Published()


def word(meaning: int, language: str) -> str:
    """A made-up word."""
    shared = language == "sw" and meaning % 3 == 0
    rng = random.Random(f"{meaning} {'en' if shared else language}")
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def sentence(meanings: list[int], language: str) -> str:
    return " ".join(word(meaning, language) for meaning in meanings)


def nli_rows(language: str, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Pairs whose label depends on the words: shared (entailment), one replaced (neutral), disjoint (contradiction)."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.choice(["entailment", "neutral", "contradiction"])
        first = rng.sample(range(_MEANINGS), rng.randint(3, 9))
        rest = [m for m in range(_MEANINGS) if m not in first]
        keep = {"entailment": 3, "neutral": 1, "contradiction": 0}[label]
        second = first[:keep] + rng.sample(rest, 3 - keep)
        rows.append((sentence(first, language), sentence(second, language), label))
    return rows


TOPICS = ["science/technology", "travel", "politics", "sports", "health", "entertainment", "geography"]


def topic_rows(language: str, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Sentences most of whose words belong to one of seven topics."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        topic = rng.randrange(7)
        own = [m for m in range(_MEANINGS) if m % 7 == topic]
        meanings = rng.sample(own, 4) + rng.sample(range(_MEANINGS), rng.randint(1, 6))
        rng.shuffle(meanings)
        rows.append((str(index), TOPICS[topic], sentence(meanings, language)))
    return rows


def write_tsv(path: Path, rows, header: str | None = None) -> None:
    lines = ([header] if header else []) + ["\t".join(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def xnli_folder(tmp_path_factory) -> Path:
    """XNLI's layout, small: train-en 203 rows, dev and test of 45 rows in en, sw, ur (line-aligned)."""
    folder = tmp_path_factory.mktemp("xnli")
    write_tsv(folder / "train-en.tsv", nli_rows("en", 203, 0))
    for language in LANGUAGES:
        write_tsv(folder / f"dev-{language}.tsv", nli_rows(language, 45, 1))
        write_tsv(folder / f"test-{language}.tsv", nli_rows(language, 45, 2))
    return folder


@pytest.fixture(scope="session")
def sib_folder(tmp_path_factory) -> Path:
    """SIB-200's flat layout, small: train-en 203 rows, dev of 45 rows in en, sw, ur."""
    folder = tmp_path_factory.mktemp("sib200")
    header = "index_id\tcategory\ttext"
    write_tsv(folder / "train-en.tsv", topic_rows("en", 203, 0), header)
    for language in LANGUAGES:
        write_tsv(folder / f"dev-{language}.tsv", topic_rows(language, 45, 1), header)
    return folder


@pytest.fixture(scope="session")
def synonyms(tmp_path_factory) -> Path:
    """A synonym table over the made-up English words."""
    path = tmp_path_factory.mktemp("synonyms") / "synonyms.json"
    table = {word(m, "en"): [word(m + 7, "en"), word(m + 14, "en")] for m in range(_MEANINGS - 14)}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory) -> Path:
    """An encoder directory of shape xlmr_nano with random weights and a real SentencePiece model."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("encoder")
    corpus = [sentence(random.Random(i).sample(range(_MEANINGS), 8), LANGUAGES[i % 3]) for i in range(600)]
    (folder / "corpus.txt").write_text("\n".join(corpus), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=300,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (folder / "corpus.txt").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    write_encoder(folder, rows=len(pieces) + 5)
    return folder


def write_encoder(folder: Path, rows: int, layers: int = 2, dim: int = 64, ffn: int = 128, seed: int = 0) -> None:
    """A model.pt as XLM-R's are: fairseq names, a masked-LM head, argparse settings; weights random."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def random_matrix(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    prefix = "encoder.sentence_encoder."
    state = {
        prefix + "embed_tokens.weight": random_matrix(rows, dim),
        prefix + "embed_positions.weight": random_matrix(514, dim),
        prefix + "layernorm_embedding.weight": torch.ones(dim),
        prefix + "layernorm_embedding.bias": torch.zeros(dim),
    }
    for i in range(layers):
        layer = f"{prefix}layers.{i}."
        for name, shape in (
            *((f"self_attn.{p}_proj", (dim, dim)) for p in ("q", "k", "v", "out")),
            ("fc1", (ffn, dim)),
            ("fc2", (dim, ffn)),
        ):
            state[f"{layer}{name}.weight"] = random_matrix(*shape)
            state[f"{layer}{name}.bias"] = torch.zeros(shape[0])
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            state[f"{layer}{norm}.weight"] = torch.ones(dim)
            state[f"{layer}{norm}.bias"] = torch.zeros(dim)
    head = "encoder.lm_head."
    state[head + "weight"] = state[prefix + "embed_tokens.weight"]
    state[head + "bias"] = torch.zeros(rows)
    state[head + "dense.weight"], state[head + "dense.bias"] = random_matrix(dim, dim), torch.zeros(dim)
    state[head + "layer_norm.weight"], state[head + "layer_norm.bias"] = torch.ones(dim), torch.zeros(dim)
    settings = argparse.Namespace(arch="roberta_base", task="multilingual_masked_lm", encoder_layers=layers)
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    torch.save(
        {
            "args": settings,
            "model": state,
            "optimizer_history": [history],
            "extra_state": {"train_iterator": {"epoch": 1}},
            "last_optimizer_state": None,
        },
        folder / "model.pt",
    )


@pytest.fixture(scope="session")
def standard_run(tmp_path_factory, xnli_folder, encoder_dir) -> Path:
    """The folder of a finished run on the XNLI-like data (read it, never write into it)."""
    folder = tmp_path_factory.mktemp("standard_run")
    train_in_process(*train_arguments(xnli_folder, encoder_dir, folder, "--max-epoch", "2"))
    return folder


@pytest.fixture(scope="module")
def one_process_group(tmp_path_factory):
    import torch.distributed as dist

    hook = sys.excepthook  # torch puts its own around it, which names the rank, and leaves it there
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('gloo') / 'store'}", rank=0, world_size=1
    )
    yield dist.group.WORLD
    dist.destroy_process_group()
    sys.excepthook = hook
