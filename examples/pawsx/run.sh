#!/usr/bin/env bash
# Paraphrases: fine-tune on PAWS-X's English pairs, score its 6 other languages.
# Data, rule: README.md in this folder. Variables: examples/common/example.sh. SMOKE=1: sized for 2 CPU cores.
set -euo pipefail
benchmark=pawsx
epochs=3 train="--batch-size 32 --lr 5e-5"
[ -z "${SMOKE:-}" ] || epochs=1 train="--freeze-embeddings --batch-size 32 --lr 1e-4" cut="12000 900" device=--cpu
declare -A grid=([rs-rp]="0.1 0.25 0.5" [adv]="0.003 0.01 0.03" [fgm]="0.02 0.05 0.1" [r3f]="0.1 0.25 0.5") # declared, not run yet
declare -A radius=([rs-rp]=0.5 [adv]=0.01)
source "$(dirname "${BASH_SOURCE[0]}")/../common/example.sh"
