#!/usr/bin/env bash
# Inference: fine-tune on English pairs, score XNLI's 14 other languages.
# Data, results, rule: README.md in this folder. Variables: examples/common/example.sh. SMOKE=1: sized for 2 CPU cores.
#   PAIRS=N     the training pairs of SMOKE=1 (default: the first 12,000)
set -euo pipefail
benchmark=xnli
epochs=3 train="--batch-size 32 --lr 5e-5"
[ -z "${SMOKE:-}" ] || epochs=1 train="--freeze-embeddings --batch-size 32 --lr 1e-4" cut="${PAIRS:-12000} 900" device=--cpu
declare -A grid=([rs-rp]="0.5" [adv]="0.01 0.03" [fgm]="0.02 0.05" [r3f]="0.25 0.5") # declared before it was run
declare -A radius=([rs-rp]=0.5 [adv]=0.01)
source "$(dirname "${BASH_SOURCE[0]}")/../common/example.sh"
