#!/usr/bin/env bash
# One run: fine-tune on English, then score SUBSETS zero-shot ("-": none). Called by run.sh and grid.sh.
#   one.sh RUN SEED SUBSETS [fairseq-train flags ...]
# Leaves $RUNS/RUN/{train.log,validate.log,scores/}, and the checkpoint (0.5 GB) if RUN is $KEEP.
# A run that is done and had the same flags is not done again.
set -euo pipefail
name=$1 seed=$2 subsets=$3
shift 3
run=$RUNS/$name
command="$DATA $ENCODER_FLAGS $seed $subsets $*"
if [ -e "$run/done" ] && [ "$(cat "$run/done")" = "$command" ]; then
    exit 0
fi
rm -rf "$run"
mkdir -p "$run"
started=$SECONDS
quiet() { # LOG COMMAND...: on failure show the end of the log
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { tail -n 5 "$log" >&2; echo "error: $name failed; all of it is in $log" >&2; exit 1; }
}
[ "$subsets" != - ] || set -- "$@" --no-save
read -ra encoder <<<"$ENCODER_FLAGS" # --arch, --encoder, --finetune-from-model
quiet "$run/train.log" .venv/bin/fairseq-train "$DATA" --user-dir fairseq_robust_xlt \
    --task cross_lingual --benchmark examples/quickstart/needs.yaml "${encoder[@]}" \
    --pooling mean --freeze-embeddings --attention-dropout 0 --max-length 128 \
    --criterion robust_classification --optimizer adam --weight-decay 0.01 --clip-norm 1.0 \
    --lr 3e-4 --lr-scheduler polynomial_decay --warmup-updates 5 --total-num-update 45 --batch-size 16 \
    --max-epoch 3 --validate-interval 3 --save-interval 3 --no-epoch-checkpoints --no-save-optimizer-state \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --save-dir "$run" --seed "$seed" --cpu --log-format json --log-interval 10 "$@"
[ "$subsets" = - ] || quiet "$run/validate.log" .venv/bin/fairseq-validate "$DATA" --user-dir fairseq_robust_xlt \
    --task cross_lingual --benchmark examples/quickstart/needs.yaml --path "$run/checkpoint_last.pt" --valid-subset "$subsets" \
    --batch-size 64 --scores "$run/scores" --cpu --log-format none
if [ "$name" != "${KEEP:-}" ]; then
    rm -f "$run"/*.pt "$run"/dict.txt "$run"/sentencepiece.bpe.model
fi
echo "$command" >"$run/done"
accuracy=$(sed -n 's/.*"valid_accuracy": "\([0-9.]*\)".*/\1/p' "$run/train.log" | tail -n 1)
note=$(sed -n 's/.*noise synonyms: /; synonyms: /p' "$run/train.log" | tail -n 1)
warning=$(sed -n 's/.*this training ended/; this training ended/p' "$run/train.log" | tail -n 1)
echo "$name: English dev $accuracy % ($((SECONDS - started)) s)$note$warning"
