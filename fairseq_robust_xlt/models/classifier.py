"""XLM-R with a classification head: `--arch xlmr_base|xlmr_large|xlmr_xl|xlmr_xxl|xlmr_mini|xlmr_nano`."""

from __future__ import annotations

import functools
import logging
from contextlib import nullcontext

import torch
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import RobertaEncoder, base_architecture
from fairseq.models.transformer import TransformerEncoder
from fairseq.utils import safe_getattr
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from fairseq_robust_xlt import host
from fairseq_robust_xlt.encoders.shapes import SHAPES
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.models.fitting import HEADS, check_heads, check_shapes, fit_rows
from fairseq_robust_xlt.perturbation import mean_embedding_norm

logger = logging.getLogger(__name__)

WORD_TABLE = "encoder.sentence_encoder.embed_tokens.weight"


class XLMREncoder(RobertaEncoder):
    """fairseq's RoBERTa encoder without the masked-LM head, whose parameters would never get a gradient.

    Weights are drawn once, by the model: fairseq would draw the word table, most of the parameters, three times.
    """

    def build_embedding(self, vocab_size, embedding_dim, padding_idx):
        return nn.utils.skip_init(nn.Embedding, vocab_size, embedding_dim, padding_idx)

    def build_encoder(self, args, dictionary, embed_tokens):
        return host.without_layer_copies(TransformerEncoder(args, dictionary, embed_tokens))

    def build_lm_head(self, embed_dim, output_dim, activation_fn, weight):
        return None


@register_model("xlmr_classifier")
class XLMRClassifier(RobertaModel):
    """fairseq's RoBERTa encoder (which XLM-R is) with classification heads on a pooled vector.

    It differs from `RobertaModel` in what multi-pass training needs: no masked-LM head, activation checkpointing that
    works with `torch.autograd.grad`, and loading that refuses what fairseq would leave random with a warning.
    """

    embedding_norm: Tensor

    def __init__(self, args, encoder):
        super().__init__(args, encoder)
        table = encoder.sentence_encoder.embed_tokens
        if args.freeze_embeddings:
            table.weight.requires_grad = False
        #: Mean l2 norm of the ordinary rows of the word table as first loaded: the unit of relative radii.
        self.register_buffer("embedding_norm", torch.zeros(()))
        #: Whether weights were loaded from a checkpoint; training on a random encoder is refused (see the task).
        self.weights_loaded = False
        #: Whether a checkpoint has to hold the heads of this model: when scoring and when resuming.
        self.heads_required = False

    @staticmethod
    def add_args(parser):
        RobertaModel.add_args(parser)
        parser.add_argument(
            "--pooling", choices=("first", "mean"), help="classify from the first token (<s>) or the mean of all tokens"
        )
        parser.add_argument("--freeze-embeddings", action="store_true", help="do not train the word-embedding table")
        parser.add_argument(
            "--checkpoint-activations",
            action="store_true",
            help="recompute activations in the backward pass to save memory",
        )

    @classmethod
    def build_model(cls, args, task):
        # fairseq's own activation checkpointing refuses autograd.grad, so its layers must not see the flag.
        wanted, args.checkpoint_activations = args.checkpoint_activations, False
        try:
            model = cls(args, XLMREncoder(args, task.source_dictionary))
        finally:
            args.checkpoint_activations = wanted
        # children(): with LayerDrop, iterating over the list itself draws random numbers and skips layers.
        for layer in model.encoder.sentence_encoder.layers.children():
            layer.self_attn.forward = functools.partial(_attend, layer.self_attn.forward)
            if wanted:
                layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        return model

    def forward(self, src_tokens, features_only=False, return_all_hiddens=False, classification_head_name=None, **_):
        """Class scores [batch, classes] where a head is named, otherwise token features [batch, length, dim]."""
        if not (features_only or classification_head_name):
            raise UserError("xlmr_* architectures have no masked-LM head; name a classification head")
        x, extra = self.encoder(src_tokens, features_only=True, return_all_hiddens=return_all_hiddens)
        if classification_head_name is not None:
            x = self.classification_heads[classification_head_name](self.pool(x, src_tokens).unsqueeze(1))
        return x, extra

    def pool(self, features: Tensor, src_tokens: Tensor) -> Tensor:
        """One vector a text, [batch, dim], from token features [batch, length, dim]."""
        if self.args.pooling == "first":
            return features[:, 0]
        real = src_tokens.ne(self.encoder.dictionary.pad()).unsqueeze(-1).type_as(features)
        return (features * real).sum(dim=1) / real.sum(dim=1)

    def upgrade_state_dict_named(self, state_dict, name):
        """Bring a checkpoint's names to ours and check that it fits.

        Raises `UserError` for heads, shapes or a dictionary that do not fit.
        """
        assert name == "", "a classifier is not part of another model"
        unused = ("encoder.lm_head.", "decoder.lm_head.")
        for key in [key for key in state_dict if key.startswith(unused) or host.is_layer_copy(key)]:
            del state_dict[key]
        check_heads(state_dict, self.classification_heads, required=self.heads_required)
        # fairseq looks for the size of a head in its `weight`, which a spectral norm keeps under another name.
        plain = {k.removesuffix("_orig"): v for k, v in state_dict.items() if k.endswith(".out_proj.weight_orig")}
        plain = {k: v for k, v in plain.items() if k.startswith(HEADS) and k not in state_dict}
        state_dict.update(plain)
        # fairseq takes the last layer norm away from a model whose checkpoint does not say its version.
        for key in [key for key in state_dict if key.endswith(".sentence_encoder.layer_norm.weight")]:
            state_dict.setdefault(key.replace("layer_norm.weight", "version"), torch.Tensor([3]))
        super().upgrade_state_dict_named(state_dict, name)
        for key in plain:
            state_dict.pop(key, None)
        rows = self.encoder.sentence_encoder.embed_tokens.num_embeddings
        fit_rows(state_dict, WORD_TABLE, rows)
        if WORD_TABLE in state_dict and "embedding_norm" not in state_dict:
            state_dict["embedding_norm"] = mean_norm(state_dict[WORD_TABLE])
        check_shapes(state_dict, self.state_dict(), self.args.arch if hasattr(self.args, "arch") else None)
        self.weights_loaded = True

    def _apply(self, fn, *args, **kwargs):
        """Half precision is for the network: the unit of radii keeps its digits."""
        norm = self.embedding_norm
        super()._apply(fn, *args, **kwargs)
        self.embedding_norm = norm.to(self.embedding_norm.device)
        return self

    def keep_embedding_norm(self) -> None:
        """Take the unit of relative radii from the word table as it stands, unless a checkpoint brought one."""
        if not float(self.embedding_norm):
            self.embedding_norm.copy_(mean_norm(self.encoder.sentence_encoder.embed_tokens.weight))


def _attend(attention, query, **inputs):
    """Attention [length, batch, dim] by the fastest kernel: torch's fused one, but not in training on the CPU in 16
    bits, where its backward pass takes two fifths of a step of `xlmr_mini` (torch 2.13, AMX)."""
    slow = query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16) and torch.is_grad_enabled()
    with sdpa_kernel(SDPBackend.MATH) if slow else nullcontext():
        return attention(query=query, **inputs)


def mean_norm(table: Tensor) -> Tensor:
    """The mean l2 norm of the word embeddings without the four special symbols in front and <mask> at the end."""
    return torch.tensor(mean_embedding_norm(table.detach(), special=(0, 1, 2, 3, len(table) - 1)))


def _architecture(name: str) -> None:
    shape = SHAPES[name]

    def set_defaults(args):
        for key, value in (
            ("encoder_layers", shape.layers),
            ("encoder_embed_dim", shape.dim),
            ("encoder_ffn_embed_dim", shape.ffn),
            ("encoder_attention_heads", shape.heads),
            ("encoder_normalize_before", shape.pre_norm),
            ("layernorm_embedding", not shape.pre_norm),
            # Not the task's --max-length, which fairseq would take: the table of positions has the encoder's size.
            ("max_positions", 512),
            ("pooling", "first"),
            ("freeze_embeddings", False),
            ("checkpoint_activations", False),
            # fairseq 0.12.2 compares it with 0 when it loads a checkpoint, and under Hydra what is not set is None.
            ("base_layers", 0),
        ):
            setattr(args, key, safe_getattr(args, key, value))
        base_architecture(args)

    register_model_architecture("xlmr_classifier", name)(set_defaults)


for _name in SHAPES:
    _architecture(_name)
