"""The README's commands, run as they are written on small made-up files (only the encoder is smaller)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from driving import PACKAGE, REPOSITORY

import fairseq_robust_xlt

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
# The commands give --arch xlmr_mini and xlmr_base: flags that come later win.
SMALL = (
    "--encoder-layers 2 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --encoder-attention-heads 2 "
    "--max-update 2 --cpu"
)


def commands(program: str) -> list[str]:
    """The README's indented commands of this program, their continuation lines joined."""
    blocks = re.sub(r"\\\n\s*", "", README)
    return [line.strip() for line in blocks.splitlines() if line.startswith(f"    {program} ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder_dir, sib_folder, xnli_folder, synonyms) -> Path:
    """A working directory that has what the README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("e5-small", "xlmr.base"):
        shutil.copytree(encoder_dir, folder / name)
    (folder / "data").mkdir()
    shutil.copytree(sib_folder, folder / "data/sib200")
    shutil.copytree(xnli_folder, folder / "data/xnli")
    shutil.copy(synonyms, folder / "counterfitted_neighbors.json")
    (folder / "FILE").write_text("dabo keni\nruvi tano\n", encoding="utf-8")
    (folder / "fairseq_robust_xlt").symlink_to(PACKAGE)
    return folder


def run(command: str, folder: Path) -> str:
    environment = {
        **os.environ,
        "DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_train_score_predict_compare(folder):
    train, *_ = [c for c in commands("fairseq-train") if "sib200" in c]
    run(f"{train} {SMALL}", folder)
    (validate,) = commands("fairseq-validate")
    assert "mean without the source of 2 languages" in run(f"{validate} --cpu", folder)
    (predict,) = commands("robust-xlt predict")
    assert len(run(f"{predict} --cpu", folder).splitlines()) == 2
    (open_, use) = re.findall(r"^    (?:from fairseq_robust_xlt .*|inference\.open.*)$", README, re.MULTILINE)
    run(f"{sys.executable} -c '{open_.strip()}; {use.strip()}'", folder)
    (report,) = re.findall(r"`(robust-xlt report [^`]*)`", README)
    compare = report
    second = "--seed 2 --save-dir again"  # a later flag wins
    run(f"{train} {SMALL} {second}", folder)
    run(f"{validate.replace('topics', 'again')} --cpu", folder)
    for name, scored in zip("abcd", ("topics", "again", "topics", "again"), strict=True):
        compare = compare.replace(f"{name}/scores", f"{scored}/scores")
    assert "mean - standard" in run(compare, folder)


def test_xnli_recipe(folder):
    (train,) = [c for c in commands("fairseq-train") if "xnli" in c]
    assert "synonyms:" in run(f"{train} {SMALL} --noise synonyms", folder)
    assert (folder / "xnli/checkpoint_best.pt").is_file()


def test_encoder_check(folder):
    (check,) = [c.split("#")[0] for c in commands("robust-xlt encoder check")]
    assert "use it with: --arch xlmr_nano" in run(check, folder)


def test_every_flag_of_the_criterion_and_the_task_is_named():
    """fairseq's --help shows none of them: the README is where they are found."""
    fairseq_robust_xlt.register()
    from fairseq_robust_xlt.criterions.config import RobustClassificationConfig
    from fairseq_robust_xlt.tasks.config import CrossLingualConfig

    fairseqs_own = {"data", "seed", "regression_target", "persistent_workers", "reuse_dataloader"}
    names = {f.name for config in (RobustClassificationConfig, CrossLingualConfig) for f in fields(config)}
    flags = {"--" + name.replace("_", "-") for name in names - fairseqs_own if not name.startswith("_")}
    named = set(re.findall(r"--[a-z][a-z0-9-]*", README))
    assert not {flag for flag in flags if flag not in named}
