"""Pooled vectors depend on the text alone, and the mean is the mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from driving import Training, train_arguments

HEAD = "sentence_classification_head"


@pytest.fixture(scope="module", params=["first", "mean"])
def run(request, sib_folder, encoder_dir, tmp_path_factory) -> Training:
    folder = tmp_path_factory.mktemp("run")
    training = Training(*train_arguments(sib_folder, encoder_dir, folder, "--pooling", request.param, task="sib200"))
    training.model.eval()
    return training


def test_the_rest_of_the_batch_has_no_say(run) -> None:
    dataset = run.task.datasets["train"]
    shortest, longest = int(dataset.sizes.argmin()), int(dataset.sizes.argmax())
    assert dataset.sizes[shortest] < dataset.sizes[longest]
    with torch.no_grad():
        alone = run.criterion.logits(run.model, dataset.collater([dataset[shortest]]))
        together = run.criterion.logits(run.model, dataset.collater([dataset[longest], dataset[shortest]]))
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_against_numpy(run) -> None:
    dataset = run.task.datasets["train"]
    batch = dataset.collater([dataset[int(i)] for i in dataset.sizes.argsort()[::40]])
    tokens = batch["net_input"]["src_tokens"]
    with torch.no_grad():
        features, _ = run.model(tokens, features_only=True)
        pooled = run.model.pool(features, tokens)
        logits = run.criterion.logits(run.model, batch)
    rows = features.numpy().astype(np.float64)
    lengths = (tokens.numpy() != 1).sum(axis=1)
    assert len(set(lengths)) > 1
    mean = run.model.args.pooling == "mean"
    expected = np.stack([row[:n].mean(axis=0) if mean else row[0] for row, n in zip(rows, lengths, strict=True)])
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-5, atol=1e-6)
    head = {
        name: value.detach().double().numpy() for name, value in run.model.classification_heads[HEAD].named_parameters()
    }
    hidden = np.tanh(expected @ head["dense.weight"].T + head["dense.bias"])
    np.testing.assert_allclose(
        logits.numpy(), hidden @ head["out_proj.weight"].T + head["out_proj.bias"], rtol=1e-4, atol=1e-5
    )
