#!/usr/bin/env bash
# XLM-R large on the 8 GPUs of one machine: fairseq starts a process for each.
# Not run at this size: there was no such machine. DATA is the folder of the published files, with xnli in it, ENCODER
# the encoder directory; METHOD is any method. More flags at the end of the command line win.
set -euo pipefail
: "${DATA:?}" "${ENCODER:?}"
fairseq-train "$DATA/xnli" --user-dir fairseq_robust_xlt --task xnli --encoder "$ENCODER" \
    --arch xlmr_large --finetune-from-model "$ENCODER/model.pt" --max-length 128 --freeze-embeddings \
    --criterion robust_classification --method "${METHOD:-adv}" \
    --bf16 --distributed-world-size 8 \
    --optimizer adam --adam-eps 1e-8 --clip-norm 1.0 --lr 5e-6 --lr-scheduler polynomial_decay \
    --warmup-updates 1000 --total-num-update 36816 --batch-size 4 --max-epoch 3 \
    --save-interval-updates 2000 --keep-interval-updates 1 --no-epoch-checkpoints --no-save-optimizer-state \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric --save-dir "${SAVE_DIR:-xlmr_large}" "$@"
