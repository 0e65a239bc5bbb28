"""Files to draft a table for, and the draft."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest
from conftest import sentence

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text.drafting import draft
from fairseq_robust_xlt.text.summary import summary

NAMES = ("id", "topic", "text")


def put(path: Path, rows, header=()) -> Path:
    """Rows as the file's name says: TSV, CSV with all the quotes that it needs, or objects as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [*([list(header)] if header else []), *rows]
    if path.suffix == ".csv":
        out = io.StringIO(newline="")
        csv.writer(out).writerows(rows)
        text = out.getvalue()
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def drafted(folder: Path, **said) -> Benchmark:
    """The benchmark of the draft for these files, all of which can be read with it."""
    text, _ = draft(folder, "own", **said)
    table = folder.parent / "own.yaml"
    table.write_text(text, encoding="utf-8")
    benchmark = benchmarks.load(table)
    assert list(summary(benchmark, folder))
    return benchmark


def refused(folder: Path, **said) -> str:
    with pytest.raises(UserError) as caught:
        draft(folder, "own", **said)
    return str(caught.value)


def choices(count: int, seed: int, options: int) -> list[tuple[str, list[str], int]]:
    """Stems, each with its options and the number of the right one."""
    rng = random.Random(seed)
    return [
        (
            sentence(rng.sample(range(60), 6), "en"),
            [sentence(rng.sample(range(60), 3), "en") for _ in range(options)],
            i % options,
        )
        for i in range(count)
    ]
