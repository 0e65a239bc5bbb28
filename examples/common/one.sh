#!/usr/bin/env bash
# One run: fine-tune on the source language, then score SUBSET zero-shot ("-": none). Called by example.sh.
#   one.sh SUBSET RUN SEED [fairseq-train flags ...]
# Leaves $RUNS/RUN/{train.log,validate.log,scores/}, and the checkpoint (0.5 GB) if RUN is $KEEP.
# A run that is done and had the same flags is not done again.
set -euo pipefail
subset=$1 name=$2 seed=$3
shift 3
run=$RUNS/$name
command="$TRAIN $SCORE $subset $seed $* # data $CONTENT"
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
# Lengths of training are counted for one process; fairseq would start one for each GPU.
common=(--user-dir fairseq_robust_xlt --task cross_lingual --distributed-world-size 1 ${DEVICE:+"$DEVICE"})
[ "$subset" != - ] || set -- "$@" --no-save
read -ra train <<<"$TRAIN"
quiet "$run/train.log" "$BIN/fairseq-train" "${train[@]}" "${common[@]}" \
    --criterion robust_classification --optimizer adam --no-epoch-checkpoints --no-save-optimizer-state \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
    --save-dir "$run" --seed "$seed" --log-format json --log-interval 10 "$@"
read -ra score <<<"$SCORE"
[ "$subset" = - ] || quiet "$run/validate.log" "$BIN/fairseq-validate" "${score[@]}" "${common[@]}" \
    --path "$run/checkpoint_last.pt" --valid-subset "$subset" --batch-size 64 --scores "$run/scores" --log-format none
if [ "$name" != "$KEEP" ]; then
    rm -f "$run"/*.pt "$run"/dict.txt "$run"/sentencepiece.bpe.model
fi
echo "$command" >"$run/done"
accuracy=$(sed -n 's/.*"valid_accuracy": "\([0-9.]*\)".*/\1/p' "$run/train.log" | tail -n 1)
note=$(sed -n 's/.*noise synonyms: /; synonyms: /p' "$run/train.log" | tail -n 1)
warning=$(sed -n 's/.*this training ended/; this training ended/p' "$run/train.log" | tail -n 1)
echo "$name: English dev $accuracy % ($((SECONDS - started)) s)$note$warning"
