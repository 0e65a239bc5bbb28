# What every example does; sourced by its run.sh, which has declared
#   benchmark  a name, or a table
#   epochs, train    the training's length, and flags that it alone has (--lr, --batch-size)
#   grid       [METHOD]=radii, declared before they were run
#   radius     [METHOD]=a radius for where no grid has been run: grid.json holds those that the rule chose
# and where they differ from what is below: shown (languages in the README's table), data, subset, synonyms;
# score_benchmark and score_data (another benchmark is scored); cut="TRAIN OTHER" (only so many lines of each training
# file and of each other file); device=--cpu (the CPU even where there is a GPU). `run.sh` trains every method with every
# seed, scores and compares them; `run.sh grid` runs the grid on source-language dev only, writes grid.json, and ends.
# The user's variables; paths count from the repository's root:
#   DATA=DIR       the benchmark's published files
#   SUBSET=test    what is scored (default: dev)
#   SYNONYMS=FILE  for RS-DA (default: ../synonyms/counterfitted_neighbors.json, seen from DATA)
#   ENCODER=DIR    an encoder directory (default: multilingual-e5-small, made here from a pip package)
#   METHODS=       recipes, and standards with other settings: dropout-0.3, lr-x2 (twice the learning rate), epochs-x2.33
#                  (as many epochs, rounded); rs-rp+dropout-0.3 is RS-RP with that setting, fgm+shared FGM with
#                  --perturb-options shared, fgm@0.05 FGM with that radius; the first is the baseline
#   TEACHER=FILE   the checkpoint that xtune-stage2 takes as its teacher, such as that of a run of xtune that was kept
#   SEEDS='1 2'    training seeds
#   FLAGS=         more flags for each fairseq-train; a later flag wins
#   KEEP=fgm-1     the run whose checkpoint is kept (METHOD-SEED); the others' are deleted once they are scored
#   JOBS=1         runs side by side, 3 GB of memory each (default: one a core, at most 2; on a GPU 1)
#   RUNS=DIR       logs, scores, checkpoints (default: runs/EXAMPLE; with another SUBSET than dev runs/EXAMPLE-SUBSET)
#   RECORD=NAME    write the results into NAME.json and README.md of the example's folder (1: into results.json)
#   VENV=DIR       an environment that has a fairseq and this package (default: .venv, made here)
name=$(basename "$(cd "$(dirname "$0")" && pwd)") example=examples/$name
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${data:=${DATA:?is the folder of the published files}}" "${subset:=${SUBSET:-dev}}"
: "${synonyms:=${SYNONYMS:-$data/../synonyms/counterfitted_neighbors.json}}"
: "${SEEDS:=1 2 3}" "${METHODS:=standard dropout-0.3 rs-rp rs-da adv}" "${FLAGS:=}" "${KEEP:=}"
: "${score_benchmark:=$benchmark}" "${score_data:=$data}"
# What is recorded names folders and files, not where they are.
named() { [ -z "${!1:-}" ] || echo "$1=\$DATA/$(basename "${!1}") "; }
command="$(named DATA)$(named XCOPA)$(named SYNONYMS)${ENCODER:+ENCODER=$(basename "$ENCODER") }${SMOKE:+SMOKE=1 }\
${PAIRS:+PAIRS=$PAIRS }${ENGLISH:+ENGLISH=1 }${SUBSET:+SUBSET=$SUBSET }${TEACHER:+TEACHER=$TEACHER }${FLAGS:+FLAGS='$FLAGS' }SEEDS='$SEEDS' METHODS='${METHODS% }' bash $example/run.sh"
if [ "${1:-}" = grid ]; then
    subset=- RUNS=${RUNS:-runs/$name-grid} command+=" grid"
    for method in $METHODS; do
        [[ -n ${grid[$method]:-} || $method = @(standard|dropout-*|lr-x*|epochs-x*|rs-da) ]] || {
            echo "error: METHODS: $example/run.sh declares no grid for $method" >&2
            exit 1
        }
    done
fi
[ "$subset" != dev ] && [ -n "${SUBSET:-}" ] && : "${RUNS:=runs/$name-$SUBSET}" # what dev has left stays
export RUNS=${RUNS:-runs/$name} KEEP BIN=${VENV:-.venv}/bin
encoder=${ENCODER:-.cache/e5-small}
setting="$([ -n "${SMOKE:-}" ] && echo SMOKE=1 || echo full size), $(basename "$encoder")" # what a grid's radii are for
for path in "$data" "$score_data" "$synonyms" "$encoder" "$RUNS" "${TEACHER:-}"; do
    [[ $path != *[[:space:]]* ]] || { echo "error: $path: a path with blanks does not work here" >&2; exit 1; }
done
if [ "${1:-}" != grid ] && [[ " $METHODS " = *" rs-da "* ]] && ! [ -e "$synonyms" ]; then
    echo "error: RS-DA: no file $synonyms; give it with SYNONYMS=FILE, or name methods without rs-da in METHODS=" >&2
    exit 1
fi
if [[ " $METHODS " = *" xtune-stage2"[\ +]* ]] && ! [ -f "${TEACHER:-}" ]; then
    echo "error: xtune-stage2: no file '${TEACHER:-}'; give the checkpoint that it learns from with TEACHER=FILE" >&2
    exit 1
fi
if [ -n "${cut:-}" ]; then
    data=$(bash examples/common/cut.sh "$data" "$RUNS/.data" $cut)
    [ "$score_benchmark" != "$benchmark" ] || score_data=$data
fi
[ -n "${VENV:-}" ] || bash examples/common/setup.sh
content=$("$BIN/python" examples/common/rows.py "$benchmark" "$data" "$score_benchmark" "$score_data" "$subset")
rows=${content% *} # training examples
export CONTENT=${content#* }
if [ -z "${ENCODER:-}" ] && ! [ -d "$encoder" ]; then
    echo "making the encoder directory $encoder (multilingual-e5-small; 0.25 GB)"
    "$BIN/robust-xlt" encoder make e5-small "$encoder"
fi
encoder_flags=$("$BIN/robust-xlt" encoder check --flags "$encoder") # --arch, --encoder, --finetune-from-model
flag() { sed -n "s/.*--$1 \([^ ]*\).*/\1/p" <<<"$train $FLAGS"; } # NAME: the value of the last --NAME
length() { # EPOCHS: flags
    local updates=$((($rows + $(flag batch-size) - 1) / $(flag batch-size) * $1))
    echo "--max-epoch $1 --validate-interval $1 --save-interval $1" \
        "--total-num-update $updates --warmup-updates $(((updates + 9) / 10))"
}
export TRAIN="$data --benchmark $benchmark $encoder_flags --pooling mean --attention-dropout 0 --max-length 128 \
--weight-decay 0.01 --clip-norm 1.0 --lr-scheduler polynomial_decay $(length "$epochs") $train $FLAGS"
export SCORE="$score_data --benchmark $score_benchmark" DEVICE=${device:-}
jobs=${JOBS:-$([ -n "$DEVICE" ] && [ "$(nproc)" -gt 1 ] && echo 2 || echo 1)}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + jobs - 1) / jobs))}

grid_file=$example/grid.json
if [ "$subset" != - ] && [ -e $grid_file ]; then
    mapfile -t chosen < <("$BIN/python" -c '
import json, sys
grid = json.load(open(sys.argv[1]))
print(grid.get("setting", "a size and an encoder that it does not name"))
for method, found in grid["methods"].items():
    print(method, found["chosen"])' $grid_file)
    if [ "${chosen[0]}" = "$setting" ]; then
        for line in "${chosen[@]:1}"; do radius[${line% *}]=${line#* }; done
    else
        echo "$grid_file was made with ${chosen[0]}, this is $setting: radii are those that $example/run.sh or the" \
            "recipes declare, which no grid has chosen; bash $example/run.sh grid chooses them"
        grid_file=
    fi
fi
flags() { # METHOD [RADIUS]
    local size=${2:-${radius[$1]:-}} # without one: the recipe's
    case $1 in
        *+dropout-* | *+lr-x* | *+epochs-x*)
            local setting
            setting=$(flags "${1##*+}")
            echo "$(flags "${1%+*}" $size) ${setting#--method standard}"
            ;;
        *@*) flags "${1%@*}" "${1#*@}" ;;
        *+shared) echo "$(flags "${1%+shared}" $size) --perturb-options shared" ;;
        standard) echo "--method standard" ;;
        dropout-*) echo "--method standard --dropout ${1#dropout-}" ;;
        lr-x*) echo "--method standard --lr $(flag lr | awk -v x="${1#lr-x}" '{print $1 * x}')" ;;
        epochs-x*) echo "--method standard $(length $(awk -v x="${1#epochs-x}" -v n="$epochs" 'BEGIN {print int(n * x + 0.5)}'))" ;;
        rs-da | ear) echo "--method $1 --synonyms $synonyms" ;;
        xtune) echo "--method xtune --noise synonyms --synonyms $synonyms" ;;
        xtune-stage2) echo "--method $1 --noise synonyms --synonyms $synonyms --teacher $TEACHER" ;;
        *) echo "--method $1${size:+ --radius $size}" ;;
    esac
}
in_parallel() { # lines "RUN SEED FLAGS..." on standard input
    local lines total n=0
    lines=$(cat)
    total=$(wc -l <<<"$lines")
    echo "$rows training examples, $epochs epochs; $total runs, $jobs at a time; logs in $RUNS/*/train.log"
    xargs -P "$jobs" -L 1 bash examples/common/one.sh "$subset" <<<"$lines" |
        while IFS= read -r line; do echo "[$((++n))/$total] $line"; done
}
if [ "$subset" = - ]; then
    lines=$(for seed in $SEEDS; do
        echo "standard-0-$seed $seed $(flags standard)" # radius 0 of every method
        for method in $METHODS; do
            case $method in
                dropout-* | lr-x* | epochs-x*) echo "$method-0-$seed $seed $(flags "$method")" ;;
                *) for point in ${grid[$method]:-}; do echo "$method-$point-$seed $seed $(flags "$method" "$point")"; done ;;
            esac
        done
    done)
    in_parallel <<<"$lines"
    "$BIN/python" examples/common/choose.py "$RUNS" "$command" "$setting" $grid_file $(cut -d ' ' -f 1 <<<"$lines")
    exit
fi
for seed in $SEEDS; do
    for method in $METHODS; do echo "$method-$seed $seed $(flags "$method")"; done
done | in_parallel
compared=()
for method in $METHODS; do
    compared+=("$method=$(for seed in $SEEDS; do echo "$RUNS/$method-$seed/scores"; done | paste -sd,)")
done
echo
"$BIN/robust-xlt" report "${compared[@]}" --subset "$subset" --json "$RUNS/report.json"
[ -z "${RECORD:-}" ] || "$BIN/python" examples/common/record.py $example "${RECORD/#1/results}" "$grid_file" "$command" \
    "$subset" "${shown:-}" "${compared[@]}"
