#!/usr/bin/env bash
# XLM-R XL by torchrun, on one machine of 8 GPUs or, with NODES, NODE_RANK and HEAD (host:port), on several.
# Not run at this size: there was no such machine. DATA is the folder of the published files, with xnli in it, ENCODER
# the encoder directory; METHOD is any method. More flags at the end of the command line win.
set -euo pipefail
: "${DATA:?}" "${ENCODER:?}"
NODES=${NODES:-1} GPUS=${GPUS:-8}
torchrun --nnodes "$NODES" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$GPUS" \
    --rdzv_backend c10d --rdzv_endpoint "${HEAD:-localhost:29500}" --no-python \
    fairseq-train "$DATA/xnli" --user-dir fairseq_robust_xlt --task xnli --encoder "$ENCODER" \
    --arch xlmr_xl --finetune-from-model "$ENCODER/model.pt" --max-length 128 --freeze-embeddings \
    --criterion robust_classification --method "${METHOD:-adv}" \
    --bf16 --checkpoint-activations \
    --optimizer adam --adam-eps 1e-8 --clip-norm 1.0 --lr 3e-6 --lr-scheduler polynomial_decay \
    --warmup-updates 1000 --total-num-update $((36816 * 8 / (NODES * GPUS))) --batch-size 4 --max-epoch 3 \
    --save-interval-updates 2000 --keep-interval-updates 1 --no-epoch-checkpoints --no-save-optimizer-state \
    --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric --save-dir "${SAVE_DIR:-xlmr_xl}" "$@"
