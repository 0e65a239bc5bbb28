"""A user's own files of each kind, and the tables that the command drafts from them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

from conftest import nli_rows, sentence, topic_rows

from fairseq_robust_xlt.cli.main import main


def write_csv(path: Path, language: str, count: int, seed: int) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("nr", "message", "need"))
        writer.writerows(
            (i, f'{text}, "{text[:4]}"\n{text}', topic) for i, topic, text in topic_rows(language, count, seed)
        )


def write_jsonl(path: Path, language: str, count: int, seed: int) -> None:
    rows = enumerate(nli_rows(language, count, seed))
    lines = [
        json.dumps({"meta": {"id": i}, "q": {"a": a, "b": b}, "gold": y}, ensure_ascii=False) for i, (a, b, y) in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_choices(path: Path, language: str, count: int, seed: int) -> None:
    rng, lines = random.Random(seed), ["stem\toption_a\toption_b\toption_c\tanswer"]
    for _ in range(count):
        texts = [sentence(rng.sample(range(60), rng.randint(2, 5)), language) for _ in range(4)]
        lines.append("\t".join([*texts, rng.choice("ABC")]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


WRITERS = {"sentence": (write_csv, "csv"), "pair": (write_jsonl, "jsonl"), "choice": (write_choices, "tsv")}


def write_own(folder: Path) -> dict[str, Path]:
    """For each kind a folder with a user's files (train without a language in its name), its table not yet made."""
    for kind, (write, suffix) in WRITERS.items():
        (folder / kind).mkdir()
        write(folder / kind / f"train.{suffix}", "en", 70, 0)
        for language in ("en", "sw"):
            write(folder / kind / f"dev_{language}.{suffix}", language, 24, 1)
            write(folder / kind / f"test_{language}.{suffix}", language, 24, 2)
    return {kind: folder / kind for kind in WRITERS}


def draft_tables(own: dict[str, Path], folder: Path) -> dict[str, Path]:
    made = {kind: folder / f"{kind}.yaml" for kind in own}
    for kind, table in made.items():
        assert main(["benchmark", "new", str(own[kind]), "--out", str(table)]) == 0
    return made
