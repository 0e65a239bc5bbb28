#!/usr/bin/env bash
# Commonsense: fine-tune on CommonsenseQA in English (DATA, five options), score XCOPA's 11 languages (XCOPA, two options).
# Data, results, rule: README.md in this folder. Variables: examples/common/example.sh. SMOKE=1: sized for 2 CPU cores.
#   XCOPA=DIR   XCOPA's files (default: ../xcopa, seen from DATA)
#   ENGLISH=1   score CommonsenseQA's English dev instead (runs/xcopa-english)
set -euo pipefail
benchmark=csqa score_benchmark=xcopa score_data=${XCOPA:-${DATA:-}/../xcopa}
[ -z "${ENGLISH:-}" ] || score_benchmark=csqa score_data=${DATA:-} RUNS=${RUNS:-runs/xcopa-english}
epochs=3 train="--batch-size 16 --lr 5e-5"
[ -z "${SMOKE:-}" ] || epochs=1 train="--freeze-embeddings --batch-size 8 --lr 5e-5" cut="3000 1221" device=--cpu
declare -A grid=([rs-rp]="0.25 0.5" [adv]="0.003 0.01" [fgm]="0.01 0.03" [fgm+shared]="0.01 0.03" [r3f]="0.25") # declared before it was run
declare -A radius=([rs-rp]=0.25 [adv]=0.003) # others: their recipes'
source "$(dirname "${BASH_SOURCE[0]}")/../common/example.sh"
