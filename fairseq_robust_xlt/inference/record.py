"""The run record: what a checkpoint is, stored in it, with the files that are needed to use it beside it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from fairseq_robust_xlt import __version__, host, recipes
from fairseq_robust_xlt.benchmarks import Benchmark
from fairseq_robust_xlt.encoders.vocabulary import DICTIONARY, SENTENCEPIECE
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import atomic_write, sha256

FORMAT = 1
TABLE = "benchmark.yaml"
RECORD = "run.json"
CRASH = "crash.pt"  # what fairseq leaves of a run that failed; no run goes on from it
#: What has to agree when a run goes on in a folder.
IDENTITY = ("benchmark", "labels", "vocabulary", "head", "max_length", "recipe", "noise", "seed")


@dataclass
class RunRecord:
    """What a training run is. Plain data only, so that it loads under torch's `weights_only`.

    benchmark:  name, version, kind, sha256 of the table
    labels:     in the order of the class index
    vocabulary: sha256 of dictionary and pieces; rows of the word table
    encoder:    file and sha256 of the weights the run started from (None: from scratch)
    head:       name of the classification head, pooling
    max_length: tokens of an input
    recipe:     the resolved method (see `recipes.Recipe`), and its `cost` in thirds of a standard update
    noise:      text noise with its settings
    teacher:    file and sha256 of the checkpoint that is the teacher (None: the method has none)
    seed, versions
    """

    benchmark: dict[str, str]
    labels: list[str]
    vocabulary: dict[str, Any]
    encoder: dict[str, str] | None
    head: dict[str, str]
    max_length: int
    recipe: dict[str, Any]
    noise: dict[str, Any]
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    teacher: dict[str, str] | None = None
    format: int = FORMAT

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def describe(benchmark: Benchmark) -> dict[str, str]:
    return {
        "name": benchmark.name,
        "version": benchmark.version,
        "kind": benchmark.kind,
        "sha256": benchmark.sha256,
    }


def vocabulary_hashes(directory: str | os.PathLike[str]) -> dict[str, str]:
    return {name: sha256(Path(directory) / name) for name in (DICTIONARY, SENTENCEPIECE)}


def versions() -> dict[str, str]:
    """The versions a score depends on."""
    found = {"fairseq_robust_xlt": __version__, "python": platform.python_version()}
    for package in (*host.PACKAGES, "torch", "sentencepiece", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_folder(folder: str | os.PathLike[str], record: RunRecord, goes_on: bool) -> RunRecord:
    """The record of a run that will save in `folder`; `goes_on`: it continues from what is saved there.

    A run that goes on keeps the encoder that it began from, whether that is given again or not.
    Raises `UserError` if the folder holds checkpoints of a run that was not this one: fairseq would go on from them,
    and the record would tell of one run only. To be called before anything is loaded.
    """
    folder = Path(folder)
    saved = [path for path in folder.glob("*.pt") if path.name != CRASH]
    if not (folder / RECORD).is_file() or not saved:
        return record
    theirs, mine = json.loads((folder / RECORD).read_text(encoding="utf-8")), record.asdict()
    for key in IDENTITY:
        there, here = (_does(run[key]) if key == "recipe" else run.get(key) for run in (theirs, mine))
        if there != here:
            what, there, here = _difference(key, theirs.get(key), mine[key])
            raise UserError(
                f"--save-dir {folder}: holds checkpoints of another run; {what} is {there} there and {here} here; "
                "choose another folder"
            )
    if mine["encoder"] is None and goes_on:
        record = replace(record, encoder=theirs.get("encoder"))
    for part, did, by, nothing in (("encoder", "began", "from", "scratch"), ("teacher", "was taught", "by", "none")):
        now, then = record.asdict()[part], theirs.get(part)
        if (now and now["sha256"]) != (then and then["sha256"]):  # the file may have moved
            there, here = (file["file"] if file else nothing for file in (then, now))
            raise UserError(
                f"--save-dir {folder}: holds checkpoints of another run, which {did} {by} {there} and not {by} "
                f"{here}; choose another folder"
            )
    return record


def _does(recipe: dict[str, Any]) -> dict[str, Any]:
    """What a recipe does: not its name, which may be one of several paths of a file, and with settings that have come
    since at the values that leave the objective as it was."""
    settings = recipes.Recipe.stored(recipe).settings()
    del settings["method"]
    return settings


def _difference(key: str, there: Any, here: Any) -> tuple[str, Any, Any]:
    """Where in a part of the record two runs differ: its name and the two values."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return key, there, here
    inner = next(name for name in (*here, *there) if there.get(name) != here.get(name))
    return f"{key} {inner}", there.get(inner), here.get(inner)


def write_beside(folder: str | os.PathLike[str], record: RunRecord, encoder: str, benchmark: Benchmark) -> None:
    """Put the record, the dictionary, the pieces and the benchmark table into a run's folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (DICTIONARY, SENTENCEPIECE):
        source, target = Path(encoder) / name, folder / name
        if target.is_file() and (os.path.samefile(source, target) or sha256(source) == sha256(target)):
            continue
        with atomic_write(target, "wb") as file, open(source, "rb") as original:
            shutil.copyfileobj(original, file)
    with atomic_write(folder / TABLE) as file:
        file.write(benchmark.text)
    with atomic_write(folder / RECORD) as file:
        json.dump(record.asdict(), file, indent=1, ensure_ascii=False)
        file.write("\n")


def check_use(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise `UserError` if a checkpoint's record says that it cannot be used as the caller wants to.

    saved, mine: the parts of a record that both sides know.
    """
    if saved.get("format", 0) > FORMAT:
        raise UserError(
            f"the checkpoint's run record has format {saved['format']}, this version of fairseq_robust_xlt reads up "
            f"to {FORMAT}: upgrade it"
        )
    if saved["benchmark"]["kind"] != mine["benchmark"]["kind"]:
        raise UserError(
            f"the checkpoint was trained on a benchmark of kind {saved['benchmark']['kind']} and "
            f"{mine['benchmark']['name']} is of kind {mine['benchmark']['kind']}"
        )
    # The labels of a choice number its options, of which there may be more or fewer: each has a score of its own.
    if saved["labels"] != mine["labels"] and saved["benchmark"]["kind"] != "choice":
        raise UserError(
            f"the checkpoint was trained with the labels {', '.join(saved['labels'])} and the benchmark "
            f"{mine['benchmark']['name']} has {', '.join(mine['labels'])}: it cannot be scored there"
        )
    hashes = {key: saved["vocabulary"][key] for key in (DICTIONARY, SENTENCEPIECE)}
    if hashes != {key: mine["vocabulary"][key] for key in hashes}:
        raise UserError(
            "the dictionary or the SentencePiece model is not the one that the checkpoint was trained with; give the "
            "encoder directory of the training with --encoder, or keep the files that stood beside the checkpoint"
        )
    if saved["head"] != mine["head"]:
        raise UserError(f"the checkpoint's head is {saved['head']}, asked for is {mine['head']}")
