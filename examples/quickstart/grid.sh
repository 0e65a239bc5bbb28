#!/usr/bin/env bash
# The grid behind the radii of run.sh, declared here before it was run (but for ADV's 0.003, see README.md): every point
# with every seed, scored on English dev only. Writes grid.json, which holds all points and the choice of the rule in
# README.md.
set -euo pipefail
export RUNS=${RUNS:-runs/quickstart-grid}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
declare -A radii=([rs-rp]="0.25 0.5 1.0" [adv]="0.003 0.01 0.03 0.1")
declare -A more=([rs-rp]="" [adv]="--perturb-steps 1")
{
    for seed in $seeds; do
        echo "standard-0-$seed $seed - --method standard" # radius 0 of every method
        for method in rs-rp adv; do
            for radius in ${radii[$method]}; do
                echo "$method-$radius-$seed $seed - --method $method ${more[$method]} --radius $radius"
            done
        done
    done
} | in_parallel
.venv/bin/python examples/quickstart/choose.py "$RUNS" examples/quickstart/grid.json
