"""Print how many training examples a folder of published files holds and a hash of all that a run will read: what is
wrong with the files that are scored is said before anything is trained, and a run on other content is another run.

Usage: rows.py BENCHMARK FOLDER SCORED_BENCHMARK SCORED_FOLDER SUBSET   ("-": none is scored)
"""

import hashlib
import sys

from fairseq_robust_xlt import benchmarks, text
from fairseq_robust_xlt.errors import UserError

name, folder, scored_name, scored_folder, subset = sys.argv[1:]
try:
    benchmark, scored = benchmarks.load(name), benchmarks.load(scored_name)
    content = hashlib.sha256()

    def read(benchmark: benchmarks.Benchmark, folder: str, subset: str) -> int:
        examples = text.load_subset(benchmark, folder, subset)
        for example in examples:
            if example.label is None:
                raise UserError(f"{example.where}: no gold label, so {subset} cannot be compared")
            content.update(repr((example.language, example.label, example.sequences)).encode())
        return len(examples)

    rows = read(benchmark, folder, "train")
    read(benchmark, folder, "valid")
    if subset != "-":
        read(scored, scored_folder, subset)
    print(rows, content.hexdigest()[:12])
except UserError as error:
    sys.exit(f"error: {error}")
