#!/usr/bin/env bash
# Topics: fine-tune on SIB-200's 701 English sentences, score the other languages.
# Data, results, rule: README.md in this folder. Variables: examples/common/example.sh. SMOKE=1: sized for 2 CPU cores.
set -euo pipefail
benchmark=sib200
epochs=8 train="--freeze-embeddings --batch-size 16 --lr 1e-4"
[ -z "${SMOKE:-}" ] || epochs=2 train="--freeze-embeddings --batch-size 16 --lr 2e-4" device=--cpu
# Declared before it was run.
declare -A grid=(
    [rs-rp]="0.25 0.5 1.0" [adv]="0.01 0.03 0.1" [fgm]="0.02 0.05 0.1" [r3f]="0.25 0.5 1.0"
    [freelb]="0.02 0.05 0.15" [r4f]="0.25 0.5 1.0" [smart]="0.02 0.05 0.15" [alum]="0.02 0.05 0.15"
)
declare -A radius=([rs-rp]=0.5 [adv]=0.01)
shown="sw ur hi ta te th ar zh"
source "$(dirname "${BASH_SOURCE[0]}")/../common/example.sh"
