#!/usr/bin/env bash
# Robust methods against tuned standards on real language: run.sh EXAMPLE   (sib200, xnli, xcopa; DATA= and so on as
# there). Settings are chosen by the grid on English dev with seeds 1 and 2, the methods compared with three other seeds
# (results.json); both are written into the example's folder. See README.md in this folder.
#   SECOND='freelb ear'   a second comparison (second_tier.json): the standards and RS-RP with these methods, at the
#                         radii of grid.json or, marked, at their recipes' defaults
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
script=examples/${1:?is the example}/run.sh
export METHODS="${METHODS:-standard dropout-0.3 lr-x2 epochs-x2.33 rs-rp rs-da adv fgm r3f}"
if [[ " $METHODS " = *" rs-da "* ]] && ! [ -e "${SYNONYMS:-${DATA:-}/../synonyms/counterfitted_neighbors.json}" ]; then
    echo "error: RS-DA: give its synonym table with SYNONYMS=FILE, or name methods without rs-da in METHODS=" >&2
    exit 1
fi
SEEDS="${TUNING_SEEDS:-1 2}" bash "$script" grid
export SEEDS="${SEEDS:-11 12 13}"
RECORD=1 bash "$script"
[ -z "${SECOND:-}" ] || METHODS="standard dropout-0.3 rs-rp $SECOND" RECORD=second_tier bash "$script"
