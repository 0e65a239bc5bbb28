#!/usr/bin/env bash
# cut.sh FROM TO TRAIN OTHER: a folder TO with the first TRAIN lines of each training file of FROM and the first OTHER
# lines of each other file, whatever their layout; of a TSV with a column `language`, the header and so many rows of each
# language. Prints TO. An earlier TO is replaced if this script has made it; nothing else is ever removed.
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
(cd "$from" && find -L . -type f \( -name '*.tsv' -o -name '*.jsonl' \)) | while IFS= read -r file; do
    case ${file##*/} in *train*) lines=$3 ;; *) lines=$4 ;; esac
    mkdir -p "$to/$(dirname "$file")"
    awk -F '\t' -v lines="$lines" -v tsv="$([ "${file##*.}" = tsv ] && echo 1)" '
        NR == 1 && tsv { for (i = 1; i <= NF; i++) if ($i == "language") column = i }
        column ? NR == 1 || ++rows[$column] <= lines : NR <= lines
        !column && NR >= lines { exit }' "$from/$file" >"$to/$file"
done
echo "$to"
