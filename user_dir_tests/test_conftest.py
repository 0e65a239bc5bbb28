"""What the tests themselves need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from driving import REPOSITORY

REAL = "user_dir_tests/noise/test_synonyms.py::test_the_papers_table"


@pytest.mark.parametrize(
    ("given", "reason"),
    [("", "set ROBUST_XLT_DATA to the folder"), ("{}", "ROBUST_XLT_DATA has no folder synonyms: {}/synonyms")],
)
def test_published_files_that_are_not_at_hand_skip_their_tests(tmp_path, given, reason):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", REAL],
        cwd=REPOSITORY,
        env={**os.environ, "ROBUST_XLT_DATA": given.format(tmp_path), "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert reason.format(tmp_path) in done.stdout
