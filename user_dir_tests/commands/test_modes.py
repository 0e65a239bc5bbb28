"""Each mode of fairseq's trainer once as a command: a method of several passes trains, its checkpoint is scored.

`criterions/test_every_method_in_every_mode.py` has every method, in one process; two processes are in
test_distributed.py but for what is here.
"""

from __future__ import annotations

import pytest
import torch
from driving import json_lines, load_checkpoint, run_command, score_arguments, train_arguments, validate_in_process
from test_distributed import run_in_two

from fairseq_robust_xlt import scoring

MODES = {
    "fp32": (),
    "update-freq": ("--update-freq", "2"),
    "recomputed activations, LayerDrop": ("--checkpoint-activations", "--encoder-layerdrop", "0.2"),
    "bf16": ("--bf16",),
    "memory-efficient bf16": ("--memory-efficient-bf16",),
    "fp16": ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", "4"),
    "memory-efficient fp16": ("--memory-efficient-fp16", "--fp16-init-scale", "4"),
    "amp": ("--amp",),
}
IN_TWO = {
    "pytorch_ddp, unused parameters looked for": ("--ddp-backend", "pytorch_ddp", "--find-unused-parameters"),
    "no_c10d": ("--ddp-backend", "no_c10d"),
}


@pytest.mark.parametrize("mode", [*MODES, *IN_TWO])
def test_it_trains_and_is_scored(mode, tmp_path, sib_folder, encoder_dir):
    flags = ("--method", "fgm", "--max-update", "4", "--dropout", "0", *(MODES | IN_TWO)[mode])
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path, *flags, task="sib200")
    done = run_in_two("fairseq-train", *arguments) if mode in IN_TWO else run_command("fairseq-train", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = json_lines(done.stdout, "train_inner")
    assert [int(line["num_updates"]) for line in lines] == [1, 2, 3, 4]
    assert all(float(line["perturb_norm"]) > 0 and float(line["non_finite"]) == 0 for line in lines)
    saved = load_checkpoint(tmp_path / "checkpoint_last.pt")
    start = load_checkpoint(encoder_dir / "model.pt")["model"]
    key = "encoder.sentence_encoder.layers.1.fc1.weight"
    assert torch.isfinite(saved["model"][key]).all()
    assert not torch.equal(saved["model"][key].float(), start[key].to(saved["model"][key].dtype).float())
    arguments = score_arguments(sib_folder, tmp_path / "checkpoint_last.pt", "--valid-subset", "dev", task="sib200")
    validate_in_process(*arguments, "--scores", str(tmp_path / "scores"))
    languages = scoring.read(tmp_path / "scores")["subsets"]["dev"]["languages"]
    assert {one["n"] for one in languages.values()} == {45}
