"""What the examples' scripts do with data before they train: cut them for SMOKE=1, read what will be scored."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import nli_rows, write_tsv
from driving import REPOSITORY

COMMON = REPOSITORY / "examples/common"


def test_a_file_of_all_languages_is_cut_in_each(tmp_path):
    """XNLI-1.0's dev file begins with 2,490 rows of Arabic; files may be links."""
    (tmp_path / "data").mkdir()
    rows = [(code, "neutral", f"a{i}", "b") for code in ("ar", "en") for i in range(20)]
    whole = tmp_path / "xnli.dev.tsv"
    write_tsv(whole, rows, "language\tgold_label\tsentence1\tsentence2")
    (tmp_path / "data/xnli.dev.tsv").symlink_to(whole)
    write_tsv(tmp_path / "data/train-en.tsv", nli_rows("en", 40, 0))
    command = ["bash", COMMON / "cut.sh", tmp_path / "data", tmp_path / "cut", "30", "7"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{tmp_path / 'cut'}\n"
    cut = (tmp_path / "cut/xnli.dev.tsv").read_text(encoding="utf-8").splitlines()
    lines = whole.read_text(encoding="utf-8").splitlines()
    assert cut == [lines[0], *lines[1:8], *lines[21:28]]
    assert len((tmp_path / "cut/train-en.tsv").read_text(encoding="utf-8").splitlines()) == 30


def test_a_cut_folder_has_the_first_lines_of_each_file_in_its_layout(tmp_path):
    files = {"train-en.tsv": 9, "dev-sw.tsv": 9, "x-final/de/dev_2k.tsv": 2, "en/train.jsonl": 9}
    for name, lines in files.items():
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} {i}\n" for i in range(lines)), encoding="utf-8")
    command = ["bash", COMMON / "cut.sh", tmp_path / "from", tmp_path / "to", "5", "3"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == f"{tmp_path / 'to'}\n"
    for name, lines in (("train-en.tsv", 5), ("dev-sw.tsv", 3), ("x-final/de/dev_2k.tsv", 2), ("en/train.jsonl", 5)):
        text = (tmp_path / "to" / name).read_text(encoding="utf-8")
        assert text == "".join(f"{name} {i}\n" for i in range(lines))


def test_cutting_removes_nothing_that_it_has_not_made(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from/dev-en.tsv").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious.txt").write_text("mine", encoding="utf-8")

    def cut(source: str, target: str) -> subprocess.CompletedProcess:
        command = ["bash", COMMON / "cut.sh", tmp_path / source, tmp_path / target, "1", "1"]
        return subprocess.run(command, capture_output=True, text=True)

    refused = cut("from", "mine")
    assert refused.returncode == 1
    assert "was not made by" in refused.stderr
    assert (tmp_path / "mine/precious.txt").read_text(encoding="utf-8") == "mine"
    assert cut("from", "to").returncode == cut("from", "to").returncode == 0  # its own it replaces
    refused = cut("to", "to")
    assert "give the published files" in refused.stderr
    assert (tmp_path / "to/dev-en.tsv").read_text(encoding="utf-8") == "a\n"


@pytest.mark.parametrize(
    ("scored", "message"),
    [
        ("A\tB\tneutral\nC\tD\tmaybe\n", "test-sw.tsv:2: unknown label 'maybe'"),
        ("A\tB\n", "test-sw.tsv:1: no gold label, so test cannot be compared"),
        (None, "no test file of any language"),
    ],
)
def test_what_is_scored_is_read_before_anything_is_trained(tmp_path, scored, message):
    for name in ("train-en.tsv", "dev-en.tsv"):
        (tmp_path / name).write_text("A\tB\tneutral\n", encoding="utf-8")
    if scored:
        (tmp_path / "test-sw.tsv").write_text(scored, encoding="utf-8")
    script = [sys.executable, COMMON / "rows.py", "xnli", tmp_path, "xnli", tmp_path]
    assert subprocess.run([*script, "-"], check=True, capture_output=True, text=True).stdout.startswith("1 ")
    done = subprocess.run([*script, "test"], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
