# Sourced by run.sh and grid.sh: set-up, the encoder, and `in_parallel`, which runs one.sh for each line of its input.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash examples/quickstart/setup.sh
export DATA=examples/quickstart/data
encoder=${ENCODER:-.cache/e5-small}
seeds=${SEEDS:-1 2}
jobs=${JOBS:-$(nproc)} # runs side by side; each needs about 3 GB of memory
[ "$jobs" -le 2 ] || jobs=2
export OMP_NUM_THREADS=$((($(nproc) + jobs - 1) / jobs))
if [ -z "${ENCODER:-}" ] && ! [ -d "$encoder" ]; then
    echo "making the encoder directory $encoder (multilingual-e5-small; 0.25 GB)"
    .venv/bin/robust-xlt encoder make e5-small "$encoder"
fi
ENCODER_FLAGS=$(.venv/bin/robust-xlt encoder check --flags "$encoder")
export ENCODER_FLAGS
in_parallel() { # lines "RUN SEED SUBSETS FLAGS..." on standard input
    local lines total
    lines=$(cat)
    total=$(wc -l <<<"$lines")
    echo "$total runs, $jobs at a time; logs in $RUNS/*/train.log"
    xargs -P "$jobs" -L 1 bash examples/quickstart/one.sh <<<"$lines" | {
        n=0
        while IFS= read -r line; do echo "[$((++n))/$total] $line"; done
    }
}
