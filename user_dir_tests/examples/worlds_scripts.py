"""The scripts of the controlled worlds as modules."""

from __future__ import annotations

import importlib
import sys

import pytest
from driving import REPOSITORY

FOLDER = REPOSITORY / "examples/method_comparison/worlds"
MODULES = ("make_world", "distance", "series", "choose", "analyse")


@pytest.fixture(scope="module")
def scripts():
    """The folder's scripts as modules; their names are free again afterwards."""
    sys.path.insert(0, str(FOLDER))
    kept = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        del sys.modules[name]
    sys.modules.update(kept)
