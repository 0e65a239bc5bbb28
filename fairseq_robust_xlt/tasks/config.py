"""The one configuration that every task of the package has.

fairseq-validate takes the task from the checkpoint and drops flags that its configuration has not: so every field,
those of scoring included, belongs to every task. No field refers to the criterion, so validation needs no criterion.
"""

# No postponed annotations in this module: fairseq reads the types of the fields.
from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II, MISSING


@dataclass
class CrossLingualConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "folder of the benchmark's published files"})
    benchmark: Optional[str] = field(
        default=None, metadata={"help": "benchmark: a name (xnli, sib200) or a YAML table of one's own"}
    )
    encoder: Optional[str] = field(
        default=None,
        metadata={"help": "encoder directory: dict.txt and sentencepiece.bpe.model as published with XLM-R"},
    )
    max_length: int = field(
        default=128, metadata={"help": "tokens of an input, special ones included; the longer text is cut first"}
    )
    noise: Optional[str] = field(
        default=None, metadata={"help": "noise in the training text (synonyms); default: what the method needs"}
    )
    synonyms: Optional[str] = field(
        default=None, metadata={"help": "JSON file of word -> list of synonyms, for the noise synonyms"}
    )
    synonym_match: str = field(
        default="word",
        metadata={"help": "word: inside punctuation and capitals too; exact: the released code of RS-DA"},
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "allow training an encoder whose weights were not loaded"}
    )
    classification_head_name: str = field(
        default="sentence_classification_head", metadata={"help": "name of the classification head"}
    )
    scores: Optional[str] = field(
        default=None, metadata={"help": "fairseq-validate: folder for scores.json and predictions.tsv"}
    )
    # fairseq keeps data workers over epochs, and then they never learn of a new epoch: its noise would repeat.
    reuse_dataloader: bool = field(default=False, metadata={"help": "not supported: noise would repeat each epoch"})
    # Nobody would use them again: each epoch would leave its workers behind, which take seconds each to be collected.
    persistent_workers: bool = field(default=False, metadata={"help": "not supported: each epoch has its own workers"})
    seed: int = II("common.seed")
