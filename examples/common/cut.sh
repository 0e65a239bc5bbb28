#!/usr/bin/env bash
# cut.sh FROM TO TRAIN OTHER: a folder TO with the first TRAIN lines of each training file of FROM and the first OTHER
# lines of each other file, whatever their layout (of one file a language); prints TO.
set -euo pipefail
from=$1 to=$2
[ -d "$from" ] || { echo "error: no such data folder: $from" >&2; exit 1; }
rm -rf "$to"
(cd "$from" && find . -type f \( -name '*.tsv' -o -name '*.jsonl' \)) | while IFS= read -r file; do
    case ${file##*/} in *train*) lines=$3 ;; *) lines=$4 ;; esac
    mkdir -p "$to/$(dirname "$file")"
    head -n "$lines" "$from/$file" >"$to/$file"
done
echo "$to"
