"""SMART's Bregman proximal term: the loss, the running average, and a resumed run that goes on with it."""

from __future__ import annotations

import pytest
import torch
from driving import Training, load_checkpoint, train_arguments, train_in_process

from fairseq_robust_xlt.criterions.proximal import Proximal
from fairseq_robust_xlt.errors import UserError

SMART = ("--method", "smart", "--bregman-weight", "3", "--bregman-decay", "0.7")
NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0")


def test_the_average_follows_the_updates() -> None:
    model, proximal = torch.nn.Linear(2, 1), Proximal(0.75)
    model.bias.requires_grad_(False)
    first = model.weight.detach().clone()
    proximal.follow(model, 0)
    assert proximal.average.keys() == {"weight"}
    with torch.no_grad():
        model.weight += 1
    proximal.follow(model, 0)  # another batch of the same update
    torch.testing.assert_close(proximal.average["weight"], first)
    proximal.follow(model, 1)
    torch.testing.assert_close(proximal.average["weight"], first + 0.25)
    proximal.follow(model, 2)
    torch.testing.assert_close(proximal.average["weight"], 0.75 * (first + 0.25) + 0.25 * (first + 1))


def test_a_fresh_start_has_an_average_of_its_own() -> None:
    """fairseq hands back the state of the checkpoint's run with --reset-optimizer too."""
    model, proximal = torch.nn.Linear(2, 1), Proximal(0.9)
    proximal.load_state_dict({"average": {"weight": torch.full((1, 2), 7.0)}, "update": 40})
    proximal.follow(model, 0)
    torch.testing.assert_close(proximal.average["weight"], model.weight.detach())


def test_a_run_that_lost_its_average_is_refused() -> None:
    with pytest.raises(UserError, match="no running average"):
        Proximal(0.9).follow(torch.nn.Linear(2, 1), 5)


def logits(model, batch) -> torch.Tensor:
    head = "sentence_classification_head"
    return model(**batch["net_input"], features_only=True, classification_head_name=head)[0]


def test_loss_and_gradient(sib_folder, encoder_dir, tmp_path) -> None:
    """Against two models of the host, the other one with averaged weights; the perturbed part has weight 0."""
    flags = (*SMART, "--consistency-weight", "0", *NO_DROPOUT)
    run, other = (
        Training(*train_arguments(sib_folder, encoder_dir, tmp_path / name, *flags, task="sib200")) for name in "ab"
    )
    for training in (run, other):
        training.model.train().keep_embedding_norm()
        training.criterion.train()
    batch = next(iter(run.groups()))[0]
    generator = torch.Generator().manual_seed(0)
    run.criterion.seed_and_update = (1, 0)
    loss, _, _ = run.criterion(run.model, batch)
    expected = torch.nn.functional.cross_entropy(logits(run.model, batch), batch["target"], reduction="sum")
    torch.testing.assert_close(loss, expected)  # the average is the model itself
    with torch.no_grad():
        for mine, average in zip(run.model.parameters(), other.model.parameters(), strict=True):
            average.copy_(mine)
            mine += 0.05 * torch.randn(mine.shape, generator=generator)
            average.mul_(0.7).add_(0.3 * mine)
    run.criterion.seed_and_update = (1, 1)
    run.criterion(run.model, batch)[0].backward()
    found = [p.grad.clone() for p in run.model.parameters()]
    run.model.zero_grad()
    p, q = (logits(t.model, batch).double().softmax(-1) for t in (run, other))
    q = q.detach()
    ce = -p[torch.arange(len(p)), batch["target"]].log().sum()
    (ce + 3 * (p * (p / q).log() + q * (q / p).log()).sum()).backward()
    for mine, parameter in zip(found, run.model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=2e-3, atol=2e-5)


def test_an_update_that_overflows_is_skipped(sib_folder, encoder_dir, tmp_path, monkeypatch) -> None:
    """In fp16 with a scale that is too large: nothing moves, and the next try is the same update of the average."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)  # fairseq's trainer puts a zero there
    flags = (*SMART, "--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", str(2**22))
    run = Training(*train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200"))
    groups = iter(run.groups())
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for _ in range(2):
        run.trainer.train_step(next(groups))
        assert run.trainer.get_num_updates() == run.criterion.proximal.update == 0
        for name, parameter in run.model.named_parameters():
            assert torch.equal(parameter, before[name]), name
            assert torch.equal(run.criterion.proximal.average[name], before[name].float()), name
    for samples in groups:
        run.trainer.train_step(samples)
        if run.trainer.get_num_updates() == 2:
            break
    assert run.criterion.proximal.update == 1
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in run.model.named_parameters())


def test_it_survives_a_resume(sib_folder, encoder_dir, tmp_path) -> None:
    """Two epochs at once, and one after the other: the same model and the same average, bit for bit."""

    def run(name: str, epochs: int) -> dict:
        arguments = train_arguments(sib_folder, encoder_dir, tmp_path / name, *SMART, task="sib200")
        train_in_process(*arguments, "--max-epoch", str(epochs))
        return load_checkpoint(tmp_path / name / "checkpoint_last.pt")

    whole = run("whole", 2)
    first, second = run("halved", 1), run("halved", 2)
    averages = [state["extra_state"]["Sib200Task"]["average"] for state in (whole, second, first)]
    for name, value in averages[0].items():
        assert torch.equal(averages[1][name], value), name
    assert any(not torch.equal(averages[2][name], value) for name, value in averages[0].items())
    for name, value in whole["model"].items():
        assert torch.equal(second["model"][name], value), name
