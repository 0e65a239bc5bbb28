#!/usr/bin/env bash
# One run: fine-tune on English, then score every language zero-shot.
#   one.sh RUN SEED SUBSETS [fairseq-train flags ...]
# Leaves $RUNS/RUN/{train.log,validate.log,scores/}; the checkpoint (0.5 GB) only with KEEP=1.
set -euo pipefail
run=$RUNS/$1 seed=$2 subsets=$3
shift 3
mkdir -p "$run"
# The encoder's own flags: --arch, --encoder, --finetune-from-model.
read -ra encoder <<<"$ENCODER_FLAGS"
if ! [ -e "$run/checkpoint_last.pt" ] || [ -z "${KEEP:-}" ]; then
    rm -f "$run"/*.pt
    .venv/bin/fairseq-train "$DATA" --user-dir fairseq_robust_xlt --task cross_lingual \
        --benchmark examples/quickstart/needs.yaml "${encoder[@]}" --pooling mean --freeze-embeddings \
        --criterion robust_classification --optimizer adam --adam-betas '(0.9, 0.98)' --weight-decay 0.01 \
        --lr 1e-4 --lr-scheduler polynomial_decay --warmup-updates 15 --total-num-update 150 --clip-norm 1.0 \
        --batch-size 16 --max-epoch 10 --validate-interval 10 --save-interval 10 --max-length 128 \
        --no-epoch-checkpoints --no-save-optimizer-state --seed "$seed" --save-dir "$run" --cpu \
        --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric \
        --log-format json --log-interval 10 "$@" >"$run/train.log" 2>&1 ||
        { tail -n 5 "$run/train.log" >&2; exit 1; }
fi
.venv/bin/fairseq-validate "$DATA" --user-dir fairseq_robust_xlt --task cross_lingual \
    --benchmark examples/quickstart/needs.yaml --path "$run/checkpoint_last.pt" --valid-subset "$subsets" \
    --batch-size 64 --scores "$run/scores" --cpu --log-format none >"$run/validate.log" 2>&1 ||
    { tail -n 5 "$run/validate.log" >&2; exit 1; }
if [ -z "${KEEP:-}" ]; then
    rm -f "$run"/*.pt "$run"/dict.txt "$run"/sentencepiece.bpe.model
fi
