#!/usr/bin/env bash
# The controlled worlds: make and pre-train them, choose settings on worlds 0 and 1 by source dev, confirm on five others,
# analyse. See README.md in this folder. What is done is not done again: start it anew after a stop.
#   RUNS=runs/worlds  where everything goes          JOBS=1  worlds side by side, one core each
#   TASKS='topic pair choice'  fewer tasks
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
bash examples/common/setup.sh
export RUNS=${RUNS:-runs/worlds} OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore
export here=examples/method_comparison/worlds python=.venv/bin/python

world() { # PHASE WORLD
    set -euo pipefail
    local folder=$RUNS/$2
    if ! [ -e "$folder/distance.json" ]; then
        $python $here/make_world.py "$2" "$folder"
        $python $here/many.py --keep <($python $here/series.py pretrain "$RUNS" "$2")
        cp "$folder/pretrain/checkpoint_last.pt" "$folder/encoder/model.pt"
        .venv/bin/robust-xlt encoder check "$folder/encoder"
        $python $here/distance.py "$folder"
    fi
    $python $here/many.py <($python $here/series.py "$1" "$RUNS" "$2")
}
export -f world
worlds() { # PHASE
    mkdir -p "$RUNS"
    $python $here/series.py worlds "$RUNS" "$1" | xargs -P "${JOBS:-1}" -I{} bash -c "world $1 {}"
}

worlds tune
$python $here/choose.py "$RUNS"
worlds confirm
$python $here/analyse.py "$RUNS"
