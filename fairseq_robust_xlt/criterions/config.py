"""The flags of the criterion."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass


# No postponed annotations in this module: fairseq reads the types of the fields.
@dataclass
class RobustClassificationConfig(FairseqDataclass):
    method: str = field(
        default="standard", metadata={"help": "robust-training method: the name of a recipe, or the path of one"}
    )
    radius: Optional[float] = field(
        default=None, metadata={"help": "radius of the ball of perturbations; default: from the recipe"}
    )
    radius_unit: Optional[str] = field(
        default=None,
        metadata={
            "help": "relative (to the mean l2 norm of the encoder's word embeddings, per token; above them to that of "
            "the text's hidden states) or absolute"
        },
    )
    perturb_layer: Optional[int] = field(
        default=None, metadata={"help": "0: behind the word embeddings; k: at the input of encoder layer k"}
    )
    perturb_norm: Optional[str] = field(default=None, metadata={"help": "norm of the ball: l2 or linf"})
    perturb_scope: Optional[str] = field(
        default=None, metadata={"help": "what the ball bounds: each token, or the whole sequence"}
    )
    perturb_options: Optional[str] = field(
        default=None,
        metadata={
            "help": "in a multiple choice, each option's own perturbation, or one shared by a question's options"
        },
    )
    perturb_tokens: Optional[str] = field(
        default=None, metadata={"help": "tokens that are perturbed: all, or words (without <s> and </s>)"}
    )
    perturb_draw: Optional[str] = field(
        default=None, metadata={"help": "law of random perturbations and starts: gaussian, uniform, sphere or cube"}
    )
    perturb_steps: Optional[int] = field(
        default=None, metadata={"help": "steps of the ascent; its points, where all of them count"}
    )
    perturb_step_size: Optional[float] = field(
        default=None, metadata={"help": "size of an ascent step, as a fraction of the radius"}
    )
    perturb_direction: Optional[str] = field(
        default=None, metadata={"help": "a step goes along the steepest ascent in the norm, or the scaled gradient"}
    )
    perturb_start: Optional[float] = field(
        default=None, metadata={"help": "size of the ascent's random start, as a fraction of the radius"}
    )
    perturbed_points: Optional[str] = field(
        default=None, metadata={"help": "points of the ascent that are trained on: last or all"}
    )
    perturbed_embeddings: Optional[str] = field(
        default=None, metadata={"help": "in the perturbed pass, what lies below the perturbation: trained or detached"}
    )
    dropout_masks: Optional[str] = field(
        default=None, metadata={"help": "of the passes of an update: shared by all, or each its own"}
    )
    clean_weight: Optional[float] = field(default=None, metadata={"help": "weight of the loss on the clean input"})
    perturbed_weight: Optional[float] = field(
        default=None, metadata={"help": "weight of the loss on the perturbed input"}
    )
    consistency_weight: Optional[float] = field(
        default=None, metadata={"help": "weight of the divergence between the two predictions"}
    )
    consistency: Optional[str] = field(default=None, metadata={"help": "that divergence: kl, symmetric_kl, js or mse"})
    consistency_stop: Optional[str] = field(
        default=None, metadata={"help": "the side of it without a gradient: none, clean, perturbed or each"}
    )
    mixup_alpha: Optional[float] = field(default=None, metadata={"help": "mixing weights are from Beta(alpha, alpha)"})
    teacher: Optional[str] = field(default=None, metadata={"help": "checkpoint of the run that is the teacher"})
    teacher_weight: Optional[float] = field(
        default=None, metadata={"help": "weight of the divergence from the teacher"}
    )
    bregman_weight: Optional[float] = field(
        default=None, metadata={"help": "weight of the divergence from a running average of the model"}
    )
    bregman_decay: Optional[float] = field(default=None, metadata={"help": "how much of that average an update keeps"})
    embedding_push: Optional[float] = field(
        default=None, metadata={"help": "weight that pushes the embeddings of the two views apart"}
    )
    attention_pull: Optional[float] = field(
        default=None, metadata={"help": "weight that pulls the attention maps of the two views together"}
    )
    attention_layer: Optional[int] = field(
        default=None, metadata={"help": "the layer of those attention maps, counted from 1"}
    )
    classification_head_name: str = field(
        default="sentence_classification_head", metadata={"help": "name of the classification head"}
    )
    # fairseq's own task sentence_prediction reads this field of its criterion.
    regression_target: bool = field(default=False, metadata={"help": "not supported: classification only"})
