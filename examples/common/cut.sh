#!/usr/bin/env bash
# cut.sh FROM TO TRAIN OTHER: a folder TO with the first TRAIN lines of each training file of FROM and the first OTHER
# lines of each other file, whatever their layout (of one file a language: a file of all of them is refused where the
# cut would lose one); prints TO. An earlier TO is replaced if
# this script has made it; nothing else is ever removed.
set -euo pipefail
from=$1 to=$2 mark=.made-by-cut
[ -d "$from" ] || { echo "error: no such data folder: $from" >&2; exit 1; }
if [ -e "$to" ] && ! [ -e "$to/$mark" ]; then
    echo "error: $to is there and was not made by $0: it is left alone; give another folder with RUNS=" >&2
    exit 1
fi
if [ "$(realpath "$from")" = "$(realpath -m "$to")" ]; then
    echo "error: DATA=$from is a folder that $0 has cut already; give the published files" >&2
    exit 1
fi
rm -rf "$to"
mkdir -p "$to"
touch "$to/$mark"
(cd "$from" && find . -type f \( -name '*.tsv' -o -name '*.jsonl' \)) | while IFS= read -r file; do
    case ${file##*/} in *train*) lines=$3 ;; *) lines=$4 ;; esac
    lost=$(awk -F '\t' -v lines="$lines" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == "language") column = i; if (!column) exit; next }
        { found[$column]; if (NR <= lines) kept[$column] }
        END { for (code in found) if (!(code in kept)) printf " %s", code }' "$from/$file")
    if [ "${file##*.}" = tsv ] && [ -n "$lost" ]; then
        echo "error: $from/${file#./} holds several languages, and its first $lines lines none of:$lost; give one file a" \
            "language (such as dev-en.tsv), or leave SMOKE=1 out" >&2
        exit 1
    fi
    mkdir -p "$to/$(dirname "$file")"
    head -n "$lines" "$from/$file" >"$to/$file"
done
echo "$to"
