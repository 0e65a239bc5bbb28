#!/usr/bin/env bash
# Sets up .venv if it is not there yet and runs the checks and the tests; arguments go to pytest (--slow adds the
# slow tests).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRAS=test bash examples/common/setup.sh
export OMP_NUM_THREADS=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
