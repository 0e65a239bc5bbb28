#!/usr/bin/env bash
# The main job on real language: robust fine-tuning of a real multilingual encoder on English messages, zero-shot
# accuracy in 13 more languages, and labels for new texts. See README.md in this folder, and for more variables
# examples/common/example.sh.
#   ENCODER=DIR  any XLM-R encoder directory (default: multilingual-e5-small, made here from a pip package)
#   SEEDS='1 2'  training seeds          JOBS=2  runs side by side
set -euo pipefail
benchmark=examples/quickstart/needs.yaml data=examples/quickstart/data
subset=test synonyms=$data/synonyms.json
epochs=3 train="--freeze-embeddings --batch-size 16 --lr 3e-4" device=--cpu
SEEDS=${SEEDS:-1 2} KEEP=${KEEP:-adv-1}
# Declared before it was run, but for ADV's 0.003.
declare -A grid=(
    [rs-rp]="0.25 0.5 1.0" [adv]="0.003 0.01 0.03 0.1" [fgm]="0.003 0.01 0.03" [r3f]="0.25 0.5 1.0"
    [freelb]="0.003 0.01 0.03" [r4f]="0.25 0.5 1.0" [smart]="0.003 0.01 0.03" [alum]="0.003 0.01 0.03"
)
declare -A radius=()
source "$(dirname "${BASH_SOURCE[0]}")/../common/example.sh"

[ -e "$RUNS/$KEEP/checkpoint_last.pt" ] || exit 0 # other methods or seeds were asked for
echo
echo "Three new messages in languages without training labels (Swahili, Urdu, Vietnamese):"
predict=("$BIN/robust-xlt" predict --path "$RUNS/$KEEP/checkpoint_last.pt")
messages=(
    "Daraja limebomoka na hatuwezi kufika mjini. Tunahitaji mashua ya kutuvusha."
    "میری بیٹی کو تین دن سے تیز بخار ہے، کیا کوئی ڈاکٹر آ سکتا ہے؟"
    "Mái nhà tôi bị bão cuốn đi, chúng tôi không có chỗ ngủ đêm nay."
)
printf '%s\n' "${messages[@]}" | "${predict[@]}" | paste -d '\n' <(printf '  %s\n' "${messages[@]}") -
echo
echo "Label your own, one text a line:  ${predict[*]} FILE"
echo "On disk: $(du -sh "$RUNS" | cut -f 1) in $RUNS, $(du -sh "$encoder" | cut -f 1) in $encoder; $((SECONDS / 60)) min $((SECONDS % 60)) s."
