"""Print how many training examples a folder of published files holds. Usage: rows.py BENCHMARK FOLDER"""

import sys

from fairseq_robust_xlt import benchmarks, text
from fairseq_robust_xlt.errors import UserError

try:
    print(len(text.load_subset(benchmarks.load(sys.argv[1]), sys.argv[2], "train")))
except UserError as error:
    sys.exit(f"error: {error}")
