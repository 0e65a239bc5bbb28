"""What fairseq alone does wrong with settings and checkpoints: each test's name says what holds here."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import (
    Training,
    load_checkpoint,
    mistake,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import scoring
from fairseq_robust_xlt.tasks.config import CrossLingualConfig


def test_paths_are_stored_absolute(tmp_path, xnli_folder, encoder_dir, monkeypatch):
    """fairseq stores them as given, and validation from another folder fails."""
    shutil.copytree(encoder_dir, tmp_path / "encoder")
    shutil.copytree(xnli_folder, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    arguments = train_arguments(Path("data"), Path("encoder"), Path("run"), "--max-update", "1")
    train_in_process(*arguments)
    stored = load_checkpoint(tmp_path / "run/checkpoint_last.pt")["cfg"]["task"]
    assert (stored["data"], stored["encoder"]) == (str(tmp_path / "data"), str(tmp_path / "encoder"))


def test_a_checkpoint_does_not_need_the_recipe_file_of_its_training(tmp_path, xnli_folder, encoder_dir):
    """It is stored as it was given, and the file may be changed or gone when the checkpoint is used."""
    recipe, scores = tmp_path / "mine.yaml", tmp_path / "scores"
    recipe.write_text("defaults: {perturbation: random, perturbed_weight: 1.0, radius: 0.25}", encoding="utf-8")
    method = ("--method", str(recipe), "--max-update", "2")
    train_in_process(*train_arguments(xnli_folder, encoder_dir, tmp_path / "run", *method))
    recipe.unlink()
    checkpoint = tmp_path / "run/checkpoint_last.pt"
    validate_in_process(*score_arguments(xnli_folder, checkpoint, "--scores", str(scores)))
    (subset,) = scoring.read(scores)["subsets"].values()
    signature = subset["signature"]
    assert (signature["method"]["method"], signature["method"]["radius"]) == (str(recipe), 0.25)
    assert signature["cost"] == 6


def test_no_flag_reshapes_the_encoder():
    """fairseq reads these names from the flags of the whole run, whoever owns them."""
    reshaping = {
        *("layers", "embed_dim", "ffn_embed_dim", "attention_heads", "layerdrop", "layers_to_keep"),
        *("normalize_before", "learned_pos", "input_dim", "output_dim", "pq", "pq_block_size", "scalar"),
        *("embed_path", "decoder", "quant_noise", "max_positions"),
    }
    from fairseq_robust_xlt.criterions.config import RobustClassificationConfig

    for config in (CrossLingualConfig, RobustClassificationConfig):
        assert not reshaping & set(config.__dataclass_fields__)


def test_the_flag_encoder_reaches_the_task_and_leaves_the_model_whole(tmp_path, xnli_folder, encoder_dir):
    """fairseq alone ends in a TypeError, and --max-length would size the table of positions."""
    training = Training(*train_arguments(xnli_folder, encoder_dir, tmp_path, "--max-length", "32"))
    assert training.task.cfg.encoder == str(encoder_dir)
    assert len(training.model.encoder.sentence_encoder.layers) == 2
    assert training.model.max_positions() == 512


def test_scoring_fields_are_in_every_checkpoint(standard_run):
    """fairseq drops a flag that the saved configuration has not, --scores among them."""
    stored = load_checkpoint(standard_run / "checkpoint_last.pt")["cfg"]["task"]
    assert set(CrossLingualConfig.__dataclass_fields__) <= set(stored)
    assert stored["scores"] is None


@pytest.fixture(params=["with hard links", "without"])
def folder(request, tmp_path, monkeypatch) -> Iterator[Path]:
    """Where a checkpoint is copied to: beside it, or where no hard link can be. That is a folder on another file
    system where one of two variables names one; elsewhere the system call is made to fail as it would there."""
    if request.param == "with hard links":
        yield tmp_path
        return
    for name in ("ROBUST_XLT_OTHER_DISK", "XDG_RUNTIME_DIR"):
        other = Path(os.environ.get(name, ""))
        if os.environ.get(name) and os.access(other, os.W_OK) and other.stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=other) as made:
                yield Path(made)
            return

    def link(source, *_, **__):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)

    monkeypatch.setattr(os, "link", link)
    yield tmp_path


def test_copies_of_checkpoints_are_whole(folder, tmp_path):
    """fairseq copies over the old file: a kill in the middle would leave half of one."""
    import fairseq_robust_xlt

    fairseq_robust_xlt.register()
    from fairseq.file_io import PathManager

    whole = bytes(range(256)) * 1000
    (tmp_path / "source.pt").write_bytes(whole)
    (folder / "best.pt").write_bytes(b"the old one")
    with pytest.raises(OSError):
        PathManager.copy(str(tmp_path / "missing.pt"), str(folder / "best.pt"), overwrite=True)
    assert (folder / "best.pt").read_bytes() == b"the old one"
    assert PathManager.copy(str(tmp_path / "source.pt"), str(folder / "best.pt"), overwrite=True)
    # What fairseq does next: it replaces the source, and the copy must not change with it.
    (tmp_path / "new.pt").write_bytes(b"the next one")
    os.replace(tmp_path / "new.pt", tmp_path / "source.pt")
    assert (folder / "best.pt").read_bytes() == whole
    assert {path.name for path in folder.iterdir()} <= {"best.pt", "source.pt"}


def test_best_and_last_checkpoints_are_whole(standard_run):
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert load_checkpoint(standard_run / name)["optimizer_history"][-1]["num_updates"] in (13, 26)


def test_a_training_that_ends_at_one_class_says_so(tmp_path, xnli_folder, encoder_dir):
    """Too large a radius does it without a word."""
    more = ("--method", "rs-rp", "--radius", "500", "--lr", "0.1")
    done = run_command("fairseq-train", *train_arguments(xnli_folder, encoder_dir, tmp_path, *more))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "this training ended at a single class" in done.stdout.splitlines()[-1]


def test_a_save_folder_of_another_run_is_refused(standard_run, tmp_path, sib_folder, encoder_dir):
    """fairseq would go on from a checkpoint of another benchmark."""
    shutil.copytree(standard_run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", task="sib200")
    mistake(train_in_process, *arguments)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
