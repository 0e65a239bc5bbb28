"""The seam on real architectures: ours of every shape and fairseq's own RoBERTas, wrapped for DDP or not."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from driving import configuration, train_arguments

from fairseq_robust_xlt.encoders.shapes import SHAPES
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import added, changed, find_word_embeddings

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
    with changed(model, 0, lambda hidden: added(hidden, delta)):
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
    with changed(model, 0, lambda hidden: added(hidden, delta)):
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


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("arch", [*OURS, *STOCK])
def test_a_layer_gets_what_the_block_makes_of_its_input(models, arch, layer) -> None:
    model = models(arch)
    states = model(src_tokens=TOKENS, features_only=True, return_all_hiddens=True)[1]["inner_states"]
    delta = torch.randn(*TOKENS.shape, 32, generator=torch.Generator().manual_seed(2), requires_grad=True)
    seen = []
    with changed(model, layer, lambda hidden: seen.append(hidden) or added(hidden, delta)):
        moved = logits(model)
    torch.testing.assert_close(seen[0], states[layer - 1].transpose(0, 1))
    assert (moved - logits(model)).abs().amax(dim=1).min() > 1e-4
    (gradient,) = torch.autograd.grad(moved.square().sum(), delta)
    assert gradient[TOKENS.ne(1)].abs().sum(dim=-1).min() > 0
    hooked = (*model.encoder.sentence_encoder.layers.children(), model.encoder.sentence_encoder)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in hooked)


def test_a_layer_that_the_encoder_has_not(models) -> None:
    with pytest.raises(UserError, match="layer 4: the encoder has 3 layers"), changed(models(OURS[0]), 4, torch.neg):
        pass


def test_one_pass_a_block_at_a_layer(models) -> None:
    model = models(OURS[0])
    with pytest.raises(RuntimeError, match="second forward pass"), changed(model, 2, torch.neg):
        logits(model)
        logits(model)
    with pytest.raises(RuntimeError, match="reached nothing"), changed(model, 2, torch.neg):
        pass
    with pytest.raises(RuntimeError, match="do not nest"), changed(model, 2, torch.neg), changed(model, 2, torch.neg):
        pass


class Kept(torch.nn.ModuleList):
    """Layers of which a pass runs some, as LayerDrop's list does."""

    kept: tuple[int, ...] = ()

    def __iter__(self):
        return iter([layer for i, layer in enumerate(self.children()) if i in self.kept])


@pytest.mark.parametrize("kept", [(0, 1, 2), (0, 2), (2,), (0,), ()])
def test_layers_that_layerdrop_leaves_out(models, kept) -> None:
    """The same hidden state is changed where it is next used, at the end if no layer is left."""
    model = models(OURS[0])
    encoder, stock = model.encoder.sentence_encoder, model.encoder.sentence_encoder.layers
    delta, ran, changes = torch.full((*TOKENS.shape, 32), 0.5), [], []
    delta[..., 0] = -3
    encoder.layers = Kept(stock.children())
    encoder.layers.kept = kept
    handles = [layer.register_forward_hook(lambda *_: ran.append(1)) for layer in stock.children()]
    try:
        with changed(model, 2, lambda hidden: changes.append(len(ran)) or hidden + delta):
            noisy = logits(model)
        assert changes == [len([i for i in kept if i < 1])]
        assert (noisy - logits(model)).abs().max() > 1e-4
    finally:
        encoder.layers = stock
        for handle in handles:
            handle.remove()


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
