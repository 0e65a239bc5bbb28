"""The examples' scripts in a copy of the repository, and small made-up files for them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Published, nli_rows, sentence, write_tsv
from driving import PACKAGE, REPOSITORY

EXAMPLES = REPOSITORY / "examples"
NAMES = ("quickstart", "sib200", "xnli", "pawsx", "xcopa")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what the scripts need, for they write grid.json beside themselves."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(EXAMPLES, folder / "examples")
    (folder / "fairseq_robust_xlt").symlink_to(PACKAGE)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory, sib_folder, xnli_folder, synonyms) -> Path:
    """Small made-up files, a folder for each benchmark, named and laid out as the published ones."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(sib_folder, folder / "sib200")
    shutil.copytree(xnli_folder, folder / "xnli")
    (folder / "synonyms").mkdir()
    shutil.copy(synonyms, folder / "synonyms/counterfitted_neighbors.json")
    head = "id\tsentence1\tsentence2\tlabel"
    sizes = {"en/train": 203, **{f"{code}/{split}_2k": 45 for code in ("en", "de", "ko") for split in ("dev", "test")}}
    for name, count in sizes.items():
        path = folder / f"pawsx/x-final/{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tsv(path, paraphrases(name[:2], count, len(name)), head)
    (folder / "csqa").mkdir()
    (folder / "xcopa").mkdir()
    write_jsonl(folder / "csqa/train.jsonl", questions(101, 0))
    write_jsonl(folder / "csqa/valid.jsonl", questions(45, 1))
    for language in ("sw", "th"):
        write_jsonl(folder / f"xcopa/val.{language}.jsonl", causes(language, 20, 2))
    return folder


def paraphrases(language: str, count: int, seed: int) -> list[tuple[str, str, str, str]]:
    rows = enumerate(nli_rows(language, count, seed), 1)
    return [(str(n), first, second, str(int(label == "entailment"))) for n, (first, second, label) in rows]


def questions(count: int, seed: int) -> list[dict]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        options = rng.sample(range(60), 5)
        answer = rng.randrange(5)
        rows.append(
            {
                "id": f"{seed}-{number}",
                "question": {
                    "question_concept": sentence([options[answer]], "en"),
                    "stem": sentence([options[answer], *rng.sample(range(60), 4)], "en"),
                    "choices": [{"label": "ABCDE"[i], "text": sentence([o], "en")} for i, o in enumerate(options)],
                },
                "answerKey": "ABCDE"[answer],
            }
        )
    return rows


def causes(language: str, count: int, seed: int) -> list[dict]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = (sentence(rng.sample(range(60), 4), language) for _ in range(2))
        row = {"premise": first, "choice1": first, "choice2": second, "question": rng.choice(["cause", "effect"])}
        rows.append({**row, "label": number % 2, "idx": number, "changed": False})
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(checkout: Path, name: str, *arguments: str, **variables: str | Path) -> subprocess.CompletedProcess:
    environment = {
        **{key: value for key, value in os.environ.items() if key not in ("DATA", "SYNONYMS", "ENCODER", "RUNS")},
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "JOBS": "2",
        "SMOKE": "1",
        "SEEDS": "1",
        "VENV": str(Path(sys.executable).parent.parent),
        **{key: str(value) for key, value in variables.items()},
    }
    command = ["bash", f"examples/{name}/run.sh", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=900)


def finished(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def folder_of(name: str, files: Path | Published) -> Path:
    return files / ("csqa" if name == "xcopa" else name)
