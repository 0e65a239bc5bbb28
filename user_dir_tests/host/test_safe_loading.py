"""Checkpoints load under torch's protection: what fairseq's need is allowed, each of it; all else is refused unrun."""

from __future__ import annotations

import argparse
import builtins
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from driving import load_checkpoint, mistake, train_arguments, train_in_process

import fairseq_robust_xlt
from fairseq_robust_xlt import host, inference
from fairseq_robust_xlt.errors import UserError

fairseq_robust_xlt.register()


def renamed(path: Path, old: str, new: str) -> Path:
    """The file with a module's name changed: a pickle without zip holds it as a line of text."""
    content = path.read_bytes()
    assert f"c{old}\n".encode() in content
    path.write_bytes(content.replace(f"c{old}\n".encode(), f"c{new}\n".encode()))
    return path


@pytest.fixture(scope="module")
def checkpoints(standard_run, encoder_dir, tmp_path_factory) -> list[Path]:
    """One of each kind: current, published XLM-R, with NumPy 1's and 2's numbers, with old meters, broadcast."""
    from fairseq.distributed.utils import _TensorPlaceholder
    from fairseq.logging import meters

    folder = tmp_path_factory.mktemp("checkpoints")

    def save(state, name: str) -> Path:
        torch.save(state, folder / name, _use_new_zipfile_serialization=False)
        return folder / name

    numbers = {"best": np.float64(81.5), "loss": np.float32(0.25), "n": np.int64(3), "all": np.arange(3.0)}
    averages = {"valid_loss": meters.AverageMeter(), "wps": meters.TimeMeter(), "wall": meters.StopwatchMeter()}
    # What rank 0 sends to the others when a run resumes: the loaded state, its tensors sent on their own.
    state = load_checkpoint(standard_run / "checkpoint_last.pt")
    sent = {**state, "model": {name: _TensorPlaceholder(index=i) for i, name in enumerate(state["model"])}}
    numpy_2 = "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    one, two = (save({"extra_state": numbers}, f"numpy{version}.pt") for version in (1, 2))
    return [
        standard_run / "checkpoint_last.pt",
        encoder_dir / "model.pt",
        renamed(one, numpy_2, "numpy.core.multiarray"),
        renamed(two, numpy_2, "numpy._core.multiarray"),
        renamed(save({"extra_state": averages}, "meters.pt"), "fairseq.logging.meters", "fairseq.meters"),
        save(sent, "broadcast.pt"),
    ]


def loads(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        assert "refused, because loading it would run or build" in str(host.load_error(path, error))
        return False
    return True


def test_every_kind_of_checkpoint_loads(checkpoints) -> None:
    assert [path.name for path in checkpoints if not loads(path)] == []
    assert torch.load(checkpoints[2])["extra_state"]["best"] == 81.5
    assert torch.load(checkpoints[3])["extra_state"]["all"].tolist() == [0, 1, 2]


def name_of(allowed) -> str:
    return allowed[1] if isinstance(allowed, tuple) else f"{allowed.__module__}.{allowed.__name__}"


@pytest.mark.parametrize("index", range(len(host.checkpoint_classes())), ids=map(name_of, host.checkpoint_classes()))
def test_the_allow_list_is_exact(checkpoints, index) -> None:
    """Without any one entry some of these checkpoints does not load."""
    before = torch.serialization.get_safe_globals()
    classes = host.checkpoint_classes()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(classes[:index] + classes[index + 1 :])
        assert not all(loads(path) for path in checkpoints), f"{name_of(classes[index])} is not needed"
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_nothing_else_was_allowed_by_us() -> None:
    allowed = {str(name_of(entry)) for entry in torch.serialization.get_safe_globals()}
    assert {name_of(entry) for entry in host.checkpoint_classes()} <= allowed
    assert not [name for name in allowed if name.startswith(("os.", "builtins.eval", "subprocess", "posix"))]


class Touch:
    """Runs a command when it is unpickled without protection."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


class Evaluate(Touch):
    def __reduce__(self):
        return builtins.eval, (f"open({str(self.mark)!r}, 'w').close()",)


class Settings(argparse.Namespace):
    """A namespace that acts when it is restored."""

    def __setstate__(self, state):
        Path(state["mark"]).touch()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "payload", [Touch, Evaluate, lambda mark: Settings(mark=str(mark))], ids=["os", "eval", "class"]
)
def test_a_payload_is_refused_and_does_not_run(encoder_dir, tmp_path, payload, zipped) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.pt"
    state = torch.load(encoder_dir / "model.pt")
    torch.save({**state, "extra": payload(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    with pytest.raises(pickle.UnpicklingError):  # as fairseq main asks for
        torch.load(path, weights_only=False)
    with pytest.raises(
        UserError, match="refused, because loading it would run or build '.*', which no fairseq"
    ) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert not mark.exists()


def test_it_does_not_run_in_training_or_inference(encoder_dir, sib_folder, standard_run, tmp_path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.pt"
    torch.save({**torch.load(standard_run / "checkpoint_last.pt"), "extra": Touch(mark)}, path)
    arguments = train_arguments(sib_folder, encoder_dir, tmp_path / "run", task="sib200")
    arguments[arguments.index("--finetune-from-model") + 1] = str(path)
    assert "refused, because loading it would run" in mistake(train_in_process, *arguments)
    assert "refused, because loading it would run" in mistake(inference.open, str(path))
    assert not mark.exists()
    assert not list((tmp_path / "run").glob("*.pt"))


@pytest.mark.parametrize("content", ["half", "empty", "text", "tab", "python", "list", "missing", "folder"])
def test_what_is_not_a_checkpoint(standard_run, tmp_path, content) -> None:
    path = tmp_path / "model.pt"
    whole = (standard_run / "checkpoint_last.pt").read_bytes()
    if content == "folder":
        path.mkdir()
    elif content != "missing":
        bytes_of = {"half": whole[: len(whole) // 2], "empty": b"", "text": b"no checkpoint\n", "tab": b"a\tb\n"}
        path.write_bytes(bytes_of.get(content, b"import os\nos.system('ls')\n"))
    if content == "list":
        torch.save([1, 2], path)
    text = mistake(load_checkpoint, path)
    assert text.startswith(f"{path}: ")
    assert ("no such checkpoint" if content in ("missing", "folder") else "not a whole checkpoint") in text
    assert "\n" not in text


def test_the_protection_is_said_to_be_on() -> None:
    assert host.protected() is None
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
