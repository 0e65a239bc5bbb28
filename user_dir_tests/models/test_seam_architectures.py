"""The seam on real architectures: ours of every shape and fairseq's own RoBERTas, wrapped for DDP or not."""

from __future__ import annotations

import sys
from argparse import Namespace

import pytest
import torch
from conftest import configuration, train_arguments

from fairseq_robust_xlt.encoders.shapes import SHAPES
from fairseq_robust_xlt.perturbation import find_word_embeddings, perturbed

OURS = tuple(SHAPES)
STOCK = ("roberta", "roberta_base", "roberta_large", "roberta_prenorm", "xlm")
# Three layers instead of 24 or 48, and the rest small: what an architecture does is kept, its size is not.
SMALL = (
    *("--encoder-layers", "3", "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "64"),
    *("--encoder-attention-heads", "4"),
)
HEAD = "sentence_classification_head"
TOKENS = torch.tensor([[0, 5, 9, 30, 2], [0, 7, 2, 1, 1]])
BACKENDS = ("none", "legacy_ddp", "pytorch_ddp")


@pytest.fixture(scope="module")
def models(sib_folder, encoder_dir, tmp_path_factory):
    """Architecture -> a small model in evaluation mode with a head; made once each."""
    made: dict[str, torch.nn.Module] = {}

    def model(arch: str) -> torch.nn.Module:
        if arch not in made:
            from fairseq import models, tasks, utils

            folder = tmp_path_factory.mktemp("run")
            cfg = configuration(
                *train_arguments(sib_folder, encoder_dir, folder, "--arch", arch, *SMALL, task="sib200")
            )
            utils.set_torch_seed(1)
            task = tasks.setup_task(cfg.task)
            if arch in OURS:
                made[arch] = task.build_model(cfg.model).eval()
            else:
                # fairseq's own tasks have no flag --encoder, which its RoBERTas cannot bear in their settings.
                settings = Namespace(**{k: v for k, v in vars(cfg.model).items() if k != "encoder"})
                made[arch] = models.build_model(settings, task).eval()
                made[arch].register_classification_head(HEAD, num_classes=7)
            torch.nn.init.normal_(made[arch].classification_heads[HEAD].out_proj.weight)
        return made[arch]

    return model


@pytest.fixture(scope="module")
def one_process_group(tmp_path_factory):
    import torch.distributed as dist

    hook = sys.excepthook  # torch puts its own around it, which names the rank, and leaves it there
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('gloo') / 'store'}", rank=0, world_size=1
    )
    yield dist.group.WORLD
    dist.destroy_process_group()
    sys.excepthook = hook


def wrap(model, backend: str, request):
    if backend == "none":
        return model
    from fairseq.models import DistributedFairseqModel

    settings = configuration("DATA", "--task", "sib200", "--arch", "xlmr_nano", "--ddp-backend", backend)
    group = request.getfixturevalue("one_process_group")
    return DistributedFairseqModel(settings.distributed_training, model, group, torch.device("cpu"))


def logits(model):
    return model(src_tokens=TOKENS, features_only=True, classification_head_name=HEAD)[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arch", [*OURS, *STOCK])
def test_a_large_perturbation_changes_the_logits(models, arch, backend, request) -> None:
    model = wrap(models(arch), backend, request)
    table = find_word_embeddings(model)
    assert table is models(arch).encoder.sentence_encoder.embed_tokens
    delta = torch.randn(*TOKENS.shape, table.embedding_dim, generator=torch.Generator().manual_seed(0))
    delta = 3 * delta * TOKENS.ne(1).unsqueeze(-1)
    clean = logits(model)
    with perturbed(table, delta):
        noisy = logits(model)
    assert (noisy - clean).abs().amax(dim=1).min() > 0.01
    assert torch.equal(logits(model), clean)


@pytest.mark.parametrize("arch", [*OURS, *STOCK])
def test_it_is_what_the_encoder_makes_of_these_embeddings(models, arch) -> None:
    """fairseq's encoder takes embeddings in place of tokens; only its model drops them."""
    model = models(arch)
    table = find_word_embeddings(model)
    delta = torch.randn(*TOKENS.shape, table.embedding_dim, generator=torch.Generator().manual_seed(1))
    delta = (delta * TOKENS.ne(1).unsqueeze(-1)).requires_grad_()
    with perturbed(table, delta):
        seam = logits(model)
    features, _ = model.encoder.extract_features(TOKENS, token_embeddings=table(TOKENS) + delta)
    direct = model.classification_heads[HEAD](features)
    torch.testing.assert_close(seam, direct)
    (through_seam,) = torch.autograd.grad(seam.square().sum(), delta)
    (through_encoder,) = torch.autograd.grad(direct.square().sum(), delta)
    torch.testing.assert_close(through_seam, through_encoder)
    real = TOKENS.ne(1)
    assert through_seam[real].abs().sum(dim=-1).min() > 0
    assert (through_seam[~real] == 0).all()


@pytest.mark.parametrize("arch", OURS)
def test_the_published_shape(models, arch) -> None:
    """Where layer norms stand: before attention and at the end (XL, XXL), or after the embeddings (the rest)."""
    encoder = models(arch).encoder.sentence_encoder
    pre_norm = arch in ("xlmr_xl", "xlmr_xxl")
    assert encoder.layers[0].normalize_before is pre_norm
    assert (encoder.layer_norm is not None) is pre_norm
    assert (encoder.layernorm_embedding is None) is pre_norm
    assert len(encoder.layers) == 3
    assert encoder.embed_positions.num_embeddings == 514
