"""From published files to checked examples to token ids."""

from fairseq_robust_xlt.text.batching import length_grouped_order
from fairseq_robust_xlt.text.encoding import Encoded, encode, join
from fairseq_robust_xlt.text.examples import Example
from fairseq_robust_xlt.text.readers import locate, read
from fairseq_robust_xlt.text.subsets import Subset, load_subset, resolve

__all__ = [
    "Encoded",
    "Example",
    "Subset",
    "encode",
    "join",
    "length_grouped_order",
    "load_subset",
    "locate",
    "read",
    "resolve",
]
