"""Print how many training examples a folder of published files holds, after reading all that a run will read: what is
wrong with the files that are scored is said before anything is trained.

Usage: rows.py BENCHMARK FOLDER SCORED_BENCHMARK SCORED_FOLDER SUBSETS   (subsets with commas between; "-": none)
"""

import sys

from fairseq_robust_xlt import benchmarks, text
from fairseq_robust_xlt.errors import UserError

name, folder, scored_name, scored_folder, subsets = sys.argv[1:]
try:
    benchmark, scored = benchmarks.load(name), benchmarks.load(scored_name)
    rows = len(text.load_subset(benchmark, folder, "train"))
    text.load_subset(benchmark, folder, "valid")
    for subset in subsets.split(",") if subsets != "-" else ():
        for example in text.load_subset(scored, scored_folder, subset):
            if example.label is None:
                raise UserError(f"{example.where}: no gold label, so {subset} cannot be compared")
    print(rows)
except UserError as error:
    sys.exit(f"error: {error}")
