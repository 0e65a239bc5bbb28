"""The run record: in every checkpoint, plain data, and checked whenever a checkpoint or a folder is used."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
import yaml
from conftest import write_encoder
from driving import (
    Training,
    load_checkpoint,
    mistake,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import sha256
from fairseq_robust_xlt.inference import record


def plain(value) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(v) for key, v in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


@pytest.fixture(scope="module")
def stored(standard_run) -> dict:
    return load_checkpoint(standard_run / "checkpoint_best.pt")["task_state"]["run_record"]


def test_it_says_what_the_run_was(standard_run, encoder_dir, stored) -> None:
    assert plain(stored)
    assert stored["format"] == record.FORMAT
    assert stored["benchmark"]["name"] == "xnli"
    assert stored["labels"] == list(benchmarks.load("xnli").labels)
    assert stored["vocabulary"]["dict.txt"] == sha256(encoder_dir / "dict.txt")
    assert stored["encoder"] == {"file": str(encoder_dir / "model.pt"), "sha256": sha256(encoder_dir / "model.pt")}
    assert stored["head"] == {"name": "sentence_classification_head", "pooling": "first"}
    assert (stored["max_length"], stored["seed"], stored["noise"]) == (128, 1, {})
    assert stored["recipe"]["method"] == "standard"
    assert torch.__version__.startswith(stored["versions"]["torch"].partition("+")[0])


def test_it_loads_under_protection_without_our_allow_list(standard_run, stored, tmp_path) -> None:
    torch.save(stored, tmp_path / "record.pt")
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        assert torch.load(tmp_path / "record.pt", weights_only=True) == stored
    finally:
        torch.serialization.add_safe_globals(before)


def test_what_stands_beside_the_checkpoints(standard_run, encoder_dir, stored) -> None:
    assert json.loads((standard_run / "run.json").read_text(encoding="utf-8")) == stored
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        assert (standard_run / name).read_bytes() == (encoder_dir / name).read_bytes()
    table = yaml.safe_load((standard_run / "benchmark.yaml").read_text(encoding="utf-8"))
    assert table["name"] == "xnli"
    assert benchmarks.load(str(standard_run / "benchmark.yaml")).sha256 == stored["benchmark"]["sha256"]


def test_each_use_that_cannot_be(stored) -> None:
    record.check_use(stored, stored)

    def changed(*path, to) -> dict:
        other = copy.deepcopy(stored)
        inner = other
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return other

    for mine, said in (
        (changed("labels", to=["no", "yes"]), "the benchmark xnli has no, yes: it cannot be scored there"),
        (changed("labels", to=stored["labels"][::-1]), "trained with the labels"),
        (changed("benchmark", "kind", to="sentence"), "of kind pair and xnli is of kind sentence"),
        (changed("vocabulary", "dict.txt", to="0"), "the dictionary or the SentencePiece model is not the one"),
        (changed("vocabulary", "sentencepiece.bpe.model", to="0"), "with --encoder"),
        (changed("head", "pooling", to="mean"), "the checkpoint's head is"),
        (changed("head", "name", to="other"), "asked for is {'name': 'other'"),
    ):
        with pytest.raises(UserError) as caught:
            record.check_use(stored, mine)
        assert said in str(caught.value)
    with pytest.raises(UserError, match="run record has format 99, this version .* reads up to 1: upgrade it"):
        record.check_use(changed("format", to=99), stored)


@pytest.mark.parametrize("last", [True, False], ids=["to go on from", "checkpoint_best only"])
def test_a_folder_of_another_run(
    standard_run, sib_folder, xnli_folder, encoder_dir, synonyms, tmp_path_factory, tmp_path, last
) -> None:
    """Refused before anything is loaded or written, whatever it is that differs."""
    folder = tmp_path / "run"
    shutil.copytree(standard_run, folder)
    if not last:
        (folder / "checkpoint_last.pt").unlink()
    before = {path.name: sha256(path) for path in folder.iterdir()}
    other = tmp_path_factory.mktemp("encoder")
    shutil.copytree(encoder_dir, other, dirs_exist_ok=True)
    write_encoder(other, rows=stored_rows(encoder_dir), seed=1)

    def refused(*flags, data=xnli_folder, encoder=encoder_dir, task="xnli") -> str:
        arguments = train_arguments(data, encoder, folder, "--max-epoch", "3", *flags, task=task)
        said = mistake(train_in_process, *arguments)
        assert said.startswith(f"--save-dir {folder}: holds checkpoints of another run")
        assert said.endswith("; choose another folder")
        assert {path.name: sha256(path) for path in folder.iterdir()} == before
        return said

    assert "; max_length is 128 there and 64 here" in refused("--max-length", "64")
    assert "; benchmark name is xnli there and sib200 here" in refused(data=sib_folder, task="sib200")
    assert "; head pooling is first there and mean here" in refused("--pooling", "mean")
    assert "; recipe method is standard there and adv here" in refused("--method", "adv")
    assert "; noise noise is None there and synonyms here" in refused(
        "--noise", "synonyms", "--synonyms", str(synonyms)
    )
    assert "; seed is 1 there and 2 here" in refused("--seed", "2")
    assert f"began from {encoder_dir}/model.pt and not from {other}/model.pt" in refused(encoder=other)


def test_a_recipe_is_what_it_does(xnli_folder, encoder_dir, tmp_path, monkeypatch) -> None:
    """A file has several paths, and a later version may have settings that the run was recorded without."""
    (tmp_path / "mine.yaml").write_text("defaults: {perturbation: random, perturbed_weight: 1, radius: 0.1}")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    run = Training(*train_arguments(xnli_folder, encoder_dir, folder, "--method", "mine.yaml"))
    run.train(1)
    run.save()
    record_file = folder / "run.json"
    stored = json.loads(record_file.read_text(encoding="utf-8"))
    assert stored["recipe"]["method"] == "mine.yaml"
    del stored["recipe"]["perturb_options"]
    record_file.write_text(json.dumps(stored), encoding="utf-8")
    again = train_arguments(xnli_folder, encoder_dir, folder, "--method", str(tmp_path / "mine.yaml"))
    assert Training(*again).trainer.get_num_updates() == 1
    said = mistake(Training, *again, "--radius", "0.2")
    assert "holds checkpoints of another run" in said


def test_a_crash_is_no_run_to_go_on_from(standard_run, xnli_folder, encoder_dir, tmp_path) -> None:
    """fairseq leaves crash.pt where an update fails; the command that is mended then may be another run."""
    for name in ("run.json", "dict.txt", "sentencepiece.bpe.model"):
        shutil.copy(standard_run / name, tmp_path / name)
    shutil.copy(standard_run / "checkpoint_last.pt", tmp_path / "crash.pt")
    run = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path, "--method", "adv"))
    assert run.task.record.recipe["method"] == "adv"


def test_the_teacher_belongs_to_the_run(sib_folder, encoder_dir, synonyms, tmp_path) -> None:
    """Resuming with another one is refused; the file may have moved."""
    teachers = []
    for seed in ("1", "2"):
        flags = ("--max-update", "1", "--seed", seed)
        train_in_process(*train_arguments(sib_folder, encoder_dir, tmp_path / seed, *flags, task="sib200"))
        teachers.append(tmp_path / seed / "checkpoint_last.pt")

    def student(teacher) -> Training:
        flags = ("--method", "xtune-stage2", "--synonyms", str(synonyms), "--teacher", str(teacher))
        return Training(*train_arguments(sib_folder, encoder_dir, tmp_path / "run", *flags, task="sib200"))

    run = student(teachers[0])
    run.train(1)
    state = load_checkpoint(run.save())["task_state"]["run_record"]
    assert state["teacher"] == {"file": str(teachers[0]), "sha256": sha256(teachers[0])}
    said = mistake(student, teachers[1])
    assert f"which was taught by {teachers[0]} and not by {teachers[1]}; choose another folder" in said
    shutil.copytree(tmp_path / "1", tmp_path / "moved")
    assert student(tmp_path / "moved/checkpoint_last.pt").trainer.get_num_updates() == 1


def stored_rows(encoder_dir) -> int:
    return len(torch.load(encoder_dir / "model.pt")["model"]["encoder.sentence_encoder.embed_tokens.weight"])


def test_the_same_run_goes_on(standard_run, xnli_folder, encoder_dir, tmp_path) -> None:
    """More epochs and another learning rate are the same run; the encoder's file is not needed again."""
    folder = tmp_path / "run"
    shutil.copytree(standard_run, folder)
    arguments = train_arguments(xnli_folder, encoder_dir, folder, "--max-epoch", "3", "--lr", "1e-4")
    at = arguments.index("--finetune-from-model")
    del arguments[at : at + 2]
    before = sha256(folder / "run.json")
    run = Training(*arguments)
    assert run.trainer.get_num_updates() > 0
    run.train(1)
    assert sha256(folder / "run.json") == before


def test_a_checkpoint_without_a_record(standard_run, xnli_folder, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(standard_run, folder)
    state = torch.load(folder / "checkpoint_best.pt")
    state["task_state"] = {}
    torch.save(state, folder / "checkpoint_best.pt")
    said = mistake(validate_in_process, *score_arguments(xnli_folder, folder / "checkpoint_best.pt"))
    assert "no run record" in said


@pytest.mark.parametrize("name", ["dict.txt", "sentencepiece.bpe.model"])
def test_files_beside_the_checkpoint_that_were_changed(standard_run, xnli_folder, tmp_path, name) -> None:
    folder = tmp_path / "run"
    shutil.copytree(standard_run, folder)
    content = (folder / name).read_bytes()
    # Two symbols change places: sizes still agree, and every prediction would be wrong.
    lines = content.split(b"\n")
    lines[10], lines[11] = lines[11], lines[10]
    (folder / name).write_bytes(b"\n".join(lines) if name == "dict.txt" else content + b"\n")
    said = mistake(validate_in_process, *score_arguments(xnli_folder, folder / "checkpoint_best.pt"))
    assert "dict" in said or "SentencePiece" in said


def test_a_resumed_run_keeps_its_record(sib_folder, encoder_dir, synonyms, tmp_path) -> None:
    flags = ("--method", "rs-da", "--synonyms", str(synonyms), "--pooling", "mean", "--max-length", "32")
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200")
    run = Training(*arguments)
    run.train(1)
    state = load_checkpoint(run.save())["task_state"]["run_record"]
    assert state["noise"] == {"noise": "synonyms", "synonym_match": "word", "synonyms_sha256": sha256(synonyms)}
    assert state["head"]["pooling"] == "mean"
    again = Training(*arguments)
    assert again.trainer.get_num_updates() == 1
    assert again.task.record.asdict() == state
