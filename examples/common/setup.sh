#!/usr/bin/env bash
# Makes .venv in the repository's root with torch, a fairseq host and this package (editable); fast if it is there.
#   PYTHON    the interpreter (Python 3.11 with its headers; a C++ compiler is needed too)
#   EXTRAS    extras of the package to install, default: encoder,report
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3.11}
extras=${EXTRAS:-encoder,report}
host=fairseq-fixed==0.12.3.1
ready=.venv/.ready-$extras
if [ -e "$ready" ] && [ "$ready" -nt setup.py ] && [ "$ready" -nt constraints.txt ]; then
    exit 0
fi
step() { echo "setup: $*" >&2; }
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check "$@" --constraint constraints.txt; }

if ! [ -x .venv/bin/python ]; then
    command -v "$python" >/dev/null || { echo "error: $python not found; give an interpreter with PYTHON=" >&2; exit 1; }
    step "virtual environment in .venv"
    "$python" -m venv .venv
fi
if ! .venv/bin/python -c 'import fairseq.data.data_utils_fast, torch' 2>/dev/null; then
    step "torch (1/3)"
    pip install torch setuptools wheel cython numpy
    step "$host (2/3)"
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    pip download --no-deps --no-binary :all: --no-build-isolation --no-cache-dir --dest "$build" "$host"
    tar -xzf "$build"/*.tar.gz -C "$build" --strip-components 1
    # fairseq's own build compiles six extensions in minutes; with READTHEDOCS it compiles none. Training needs two.
    READTHEDOCS=1 pip install --no-build-isolation --no-cache-dir "$build"
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    (
        cd "$build"
        CPATH=$("$OLDPWD/.venv/bin/python" -c 'import numpy; print(numpy.get_include())') \
            "$OLDPWD/.venv/bin/cythonize" --inplace --quiet -3 --cplus \
            fairseq/data/data_utils_fast.pyx fairseq/data/token_block_utils_fast.pyx >"$build/log" 2>&1 ||
            { cat "$build/log" >&2; echo "error: the host's Cython parts did not compile" >&2; exit 1; }
        cp fairseq/data/*_fast.*.so "$site/fairseq/data/"
    )
fi
step "fairseq_robust_xlt (3/3)"
pip install --no-build-isolation --editable ".[$extras]"
touch "$ready"
