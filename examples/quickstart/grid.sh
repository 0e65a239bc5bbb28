#!/usr/bin/env bash
# The grid behind the radii of run.sh, where it is declared. Writes grid.json: all points, and the choice of the rule.
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" grid
