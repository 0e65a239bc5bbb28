#!/usr/bin/env bash
# Runs the tests on each fairseq that can be had here:   hosts.sh [HOST...] [-- PYTEST ARGUMENTS]
#   fairseq-0.12.2           the last release, Python 3.10 (its torch brings CUDA: 6 GB)
#   fairseq-fixed-0.12.3.1   Python 3.11: the environment of run.sh
#   ve-fairseq-0.12.3        fairseq's main branch as packaged for Python 3.11 in 2025
# Environments are made once, in .cache/hosts/HOST with a log beside them, and again when setup.py has changed; that of
# run.sh is examples/common/setup.sh's, which brings it up to date when setup.py or constraints.txt has changed.
# Interpreters: PYTHON310 and PYTHON311, or python3.10 and python3.11 on the PATH, or those of pyenv or uv.
# A line a host at the end, with the date, for the README's table. Exits with 1 if the tests failed on one or an installation failed, and if none was run.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=$PWD OMP_NUM_THREADS=1
all=(fairseq-0.12.2 fairseq-fixed-0.12.3.1 ve-fairseq-0.12.3)
cache=.cache/hosts
gigabytes=8

asked=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case " ${all[*]} " in
        *" $1 "*) asked+=("$1") ;;
        *) echo "error: no host $1; there are: ${all[*]}" >&2; exit 2 ;;
    esac
    shift
done
[ $# -gt 0 ] && shift
[ ${#asked[@]} -gt 0 ] || asked=("${all[@]}")

say() { echo "hosts: $*" >&2; }

find_python() { # VERSION: prints an interpreter
    local given=PYTHON${1/./} found
    for found in "${!given:-}" "python$1" "$(pyenv prefix "$1" 2>/dev/null)/bin/python" "$(uv python find "$1" 2>/dev/null)"; do
        if "$found" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

environment() { # HOST: prints the folder of its environment
    case $1 in fairseq-fixed-*) echo .venv ;; *) echo "$cache/$1" ;; esac
}

make_environment() { # HOST: makes its environment; 1: an installation failed, 2: it cannot be had here
    local folder version python free
    folder=$(environment "$1")
    if [ "$folder" = .venv ]; then
        EXTRAS=test bash examples/common/setup.sh || return 1
        return
    fi
    [ "$folder/.ready" -nt setup.py ] && return
    version=3.11
    [ "$1" = fairseq-0.12.2 ] && version=3.10
    if ! python=$(find_python "$version"); then
        say "$1: needs Python $version, which is not here; make one (uv python install $version), or give one with PYTHON${version/./}="
        return 2
    fi
    mkdir -p "$cache"
    free=$(df --output=avail --block-size=1G "$cache" | tail -n 1)
    if [ "$free" -lt "$gigabytes" ]; then
        say "$1: needs $gigabytes GB of disk, $free are free"
        return 2
    fi
    say "$1: packages for $folder with $("$python" --version)"
    # fairseq 0.12.2 needs an omegaconf whose metadata a newer pip refuses.
    local pip=("$folder/bin/python" -m pip --quiet --disable-pip-version-check install)
    if ! { "$python" -m venv "$folder" && "${pip[@]}" 'pip<24.1' && case $1 in
        fairseq-0.12.2) "${pip[@]}" torch==2.5.1 fairseq==0.12.2 --editable '.[test]' ;;
        ve-fairseq-*) "${pip[@]}" --constraint constraints.txt torch "${1%-*}==${1##*-}" --editable '.[test]' ;;
    esac; } >"$folder.log" 2>&1; then
        tail -n 5 "$folder.log" >&2
        say "$1: the installation failed; all of it is in $folder.log"
        return 1
    fi
    touch "$folder/.ready"
}

status=0
lines=()
ready=()
for host in "${asked[@]}"; do
    make_environment "$host"
    case $? in
        0) ready+=("$host") ;;
        2) lines+=("$host: $(date -I): skipped, it cannot be had here") ;;
        *) lines+=("$host: $(date -I): the installation failed"); status=1 ;;
    esac
done
[ ${#ready[@]} -gt 0 ] || status=1
for host in "${ready[@]}"; do
    # What is trained on this host is scored on all the others.
    export ROBUST_XLT_OTHER_HOSTS=
    for other in "${ready[@]}"; do
        [ "$other" = "$host" ] || ROBUST_XLT_OTHER_HOSTS+=$PWD/$(environment "$other")/bin/python:
    done
    say "$host"
    python=$(environment "$host")/bin/python
    "$python" -m fairseq_robust_xlt.cli.main doctor | head -n 1
    log=$(mktemp)
    "$python" -m pytest -n 2 --dist loadfile "$@" 2>&1 | tee "$log" || status=1
    lines+=("$host: $(date -I): $(tail -n 1 "$log")")
    rm "$log"
done
printf '%s\n' "${lines[@]}"
exit "$status"
