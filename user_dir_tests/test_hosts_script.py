"""hosts.sh, with stand-ins for what makes the environment and runs the tests."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from driving import REPOSITORY


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(("setup", "status", "ends"), [(0, 0, "3 passed"), (2, 1, "the installation failed")])
def test_a_host_is_brought_up_to_date_and_its_line_has_the_date(tmp_path, setup, status, ends):
    (tmp_path / "user_dir_tests").mkdir()
    shutil.copy(REPOSITORY / "user_dir_tests/hosts.sh", tmp_path / "user_dir_tests")
    script(tmp_path / "examples/common/setup.sh", f'echo "extras $EXTRAS" >>made; exit {setup}')
    script(tmp_path / "examples/other/setup.sh", "echo wrong >>made")
    script(tmp_path / ".venv/bin/python", "echo 3 passed")
    script(tmp_path / ".venv/bin/pytest", "")
    done = subprocess.run(
        ["bash", tmp_path / "user_dir_tests/hosts.sh", "fairseq-fixed-0.12.3.1"], capture_output=True, text=True
    )
    assert (tmp_path / "made").read_text(encoding="utf-8") == "extras test\n"
    assert done.returncode == status
    today = datetime.datetime.now().date().isoformat()
    assert done.stdout.splitlines()[-1] == f"fairseq-fixed-0.12.3.1: {today}: {ends}"
