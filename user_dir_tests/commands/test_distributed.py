"""Two processes on the CPU do what one does with --update-freq 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from driving import (
    json_lines,
    load_checkpoint,
    logged,
    run_command,
    score_arguments,
    train_arguments,
    train_in_process,
    validate_in_process,
)

from fairseq_robust_xlt import recipes

#: The method and the DDP wrapper of each run that is compared; the test that resumes compares adv with legacy_ddp too.
CASES = [
    pytest.param("rs-rp", "pytorch_ddp"),
    pytest.param("adv", "legacy_ddp", marks=pytest.mark.slow),
    pytest.param("adv", "pytorch_ddp", marks=pytest.mark.slow),
    pytest.param("rs-rp", "legacy_ddp", marks=pytest.mark.slow),
]


def run_in_two(command: str, *arguments: str):
    """The command in two processes, as torchrun starts them."""
    # A port of its own: two test runs on one machine must not meet.
    launch = ("--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "--no-python")
    done = run_command("torchrun", *launch, str(Path(sys.executable).parent / command), *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def settings(method: str, *more: str) -> list[str]:
    return ["--method", method, "--dropout", "0", "--attention-dropout", "0", "--batch-size", "8", *more]


def curve(output: str) -> dict[int, tuple[float, float]]:
    """Update -> (loss, norm of the gradient)."""
    lines = json_lines(output, "train_inner")
    return {int(line["num_updates"]): (float(line["loss"]), float(line["gnorm"])) for line in lines}


def assert_same_curve(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for update in one:
        assert one[update] == pytest.approx(other[update], rel=2e-3, abs=2e-4), update


@pytest.fixture(scope="module")
def alone(tmp_path_factory, xnli_folder, encoder_dir):
    """method -> (run folder, curve) of one process that gathers two batches an update."""
    runs = {}
    for method in ("adv", "rs-rp"):
        folder = tmp_path_factory.mktemp(method)
        arguments = train_arguments(xnli_folder, encoder_dir, folder, *settings(method, "--update-freq", "2"))
        with logged() as records:
            train_in_process(*arguments)
        output = "\n".join(f"| INFO | {record.name} | {record.getMessage()}" for record in records)
        runs[method] = (folder, curve(output))
        assert len(runs[method][1]) == 13
    return runs


@pytest.mark.parametrize(("method", "backend"), CASES)
def test_two_processes_follow_the_curve_of_one(alone, tmp_path, xnli_folder, encoder_dir, method, backend):
    arguments = train_arguments(xnli_folder, encoder_dir, tmp_path, *settings(method, "--ddp-backend", backend))
    both = curve(run_in_two("fairseq-train", *arguments).stdout)
    folder, expected = alone[method]
    assert_same_curve(both, expected)
    assert len(set(expected.values())) == 13, "a curve that does not move compares nothing"
    one, two = (load_checkpoint(path / "checkpoint_last.pt")["model"] for path in (folder, tmp_path))
    key = "classification_heads.sentence_classification_head.out_proj.weight"
    assert two[key].numpy() == pytest.approx(one[key].numpy(), abs=1e-3)


def all_methods(*arguments: str, processes: int) -> list[dict]:
    """What `every_method.py` leaves in each process: method -> parameters after a few updates."""
    script = Path(__file__).with_name("every_method.py")
    if processes == 1:
        done = run_command("python", str(script), *arguments)
    else:
        launch = ("--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0")
        done = run_command("torchrun", *launch, str(script), *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(Path(arguments[0]) / f"rank{rank}.pt") for rank in range(processes)]


@pytest.fixture(scope="module")
def places(tmp_path_factory, sib_folder, encoder_dir, synonyms) -> list[str]:
    """Data, encoder, synonyms and a teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    train_in_process(*train_arguments(sib_folder, encoder_dir, folder, task="sib200"))
    return [str(path) for path in (sib_folder, encoder_dir, synonyms, folder / "checkpoint_last.pt")]


@pytest.fixture(scope="module")
def every_method_alone(tmp_path_factory, places):
    return all_methods(str(tmp_path_factory.mktemp("alone")), *places, "all", "--update-freq", "2", processes=1)[0]


@pytest.mark.parametrize(
    "backend",
    [
        ("pytorch_ddp", "--find-unused-parameters"),
        pytest.param(("pytorch_ddp",), marks=pytest.mark.slow),
        pytest.param(("legacy_ddp",), marks=pytest.mark.slow),
        pytest.param(("no_c10d",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_every_method_in_two_processes(every_method_alone, backend, tmp_path, places):
    """Both processes have the same parameters, those of one process that gathers two batches an update."""
    first, second = all_methods(str(tmp_path), *places, "all", "--ddp-backend", *backend, processes=2)
    assert first.keys() == second.keys() == every_method_alone.keys() == set(recipes.names())
    for method, parameters in first.items():
        start = every_method_alone["standard"] if method != "standard" else every_method_alone["adv"]
        for name, value in parameters.items():
            assert torch.equal(value, second[method][name]), (method, name)
            if method == "r4f":
                continue  # a power iteration a pass: one process has made twice as many as each of two
            wanted = every_method_alone[method][name]
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, msg=lambda m: f"{method} {name}: {m}")  # noqa: B023
        if method not in ("r4f", "rs-da"):
            assert any(not torch.allclose(parameters[n], start[n], rtol=1e-4, atol=1e-5) for n in parameters)


def test_layers_that_are_left_out_in_two_processes(tmp_path, places):
    """DDP takes the parameters that the last pass reaches for those of the whole step."""
    methods = "fgm,freelb,r3f,smart,alum:paper,xtune:paper,ear"
    flags = ("--dropout-masks", "own", "--dropout", "0.1", "--encoder-layerdrop", "0.5")
    backend = ("--ddp-backend", "pytorch_ddp", "--find-unused-parameters")
    first, second = all_methods(str(tmp_path), *places, methods, *flags, *backend, processes=2)
    assert list(first) == methods.split(",")
    for method, parameters in first.items():
        for name, value in parameters.items():
            assert torch.isfinite(value).all(), (method, name)
            assert torch.equal(value, second[method][name]), (method, name)


@pytest.mark.parametrize(
    "flags",
    [
        ("--broadcast-buffers", "--find-unused-parameters"),
        pytest.param(("--broadcast-buffers",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_an_example_that_is_not_finite_in_one_of_two_processes(tmp_path, places, flags):
    """That process makes a pass more, and does not wait in it for the other, which makes none."""
    methods = "rs-rp,fgm,freelb,r3f,smart"
    backend = ("--overflow", "--ddp-backend", "pytorch_ddp", *flags)
    first, second = all_methods(str(tmp_path), *places, methods, *backend, processes=2)
    assert list(first) == methods.split(",")
    for method, parameters in first.items():
        for name, value in parameters.items():
            assert torch.isfinite(value).all(), (method, name)
            assert torch.equal(value, second[method][name]), (method, name)


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("r3f", ("--clean-weight", "0", "--consistency-stop", "clean")),
        ("mine.yaml", ("--find-unused-parameters",)),
    ],
    ids=["the clean pass trains nothing", "the clean pass is not the last"],
)
def test_detached_embeddings_in_two_processes(tmp_path, places, method, flags):
    """DDP waits for each parameter: also for the word table, which the perturbed pass does not train."""
    settings = "clean_weight: 1, perturbed_weight: 1, perturbation: ascent, perturbed_embeddings: detached, radius: 0.1"
    (tmp_path / "mine.yaml").write_text(f"defaults: {{{settings}}}", encoding="utf-8")
    method = str(tmp_path / method) if method == "mine.yaml" else method
    (first, second) = all_methods(str(tmp_path), *places, method, "--ddp-backend", "pytorch_ddp", *flags, processes=2)
    for name, value in first[method].items():
        assert torch.equal(value, second[method][name]), name
    table = first[method]["encoder.sentence_encoder.embed_tokens.weight"]
    start = load_checkpoint(Path(places[1]) / "model.pt")["model"]["encoder.sentence_encoder.embed_tokens.weight"]
    assert torch.equal(table, start) is (method == "r3f")


def test_two_views_where_the_batches_do_not_go_round(tmp_path, places):
    """The last batch is one process's alone; the other one goes through what fairseq keeps for that, which may have
    been validated on and has one view."""
    data, encoder, synonyms, _ = places
    flags = ("--method", "xtune", "--noise", "synonyms", "--synonyms", synonyms, "--batch-size", "9")
    arguments = train_arguments(Path(data), Path(encoder), tmp_path / "run", *flags, task="sib200")
    done = run_in_two("fairseq-train", *arguments)
    assert max(curve(done.stdout)) == 12  # of 203 examples: 23 batches


def test_two_processes_resume_under_weights_only_and_score_each_example_once(alone, tmp_path, xnli_folder, encoder_dir):
    arguments = train_arguments(
        xnli_folder, encoder_dir, tmp_path / "run", *settings("adv", "--ddp-backend", "legacy_ddp")
    )
    first = curve(run_in_two("fairseq-train", *arguments, "--max-update", "6").stdout)
    second = curve(run_in_two("fairseq-train", *arguments).stdout)
    assert list(first) == list(range(1, 7))
    assert_same_curve(first | second, alone["adv"][1])
    assert min(second) == 7

    checkpoint = tmp_path / "run/checkpoint_last.pt"
    arguments = score_arguments(xnli_folder, checkpoint, "--batch-size", "7", "--valid-subset", "test,dev-sw")
    run_in_two("fairseq-validate", *arguments, "--scores", str(tmp_path / "two"))
    validate_in_process(*arguments, "--scores", str(tmp_path / "one"))
    two, one = (read(tmp_path / name) for name in ("two", "one"))
    assert two == one
    assert two["test"]["sw"] == {"n": 45, "correct": two["test"]["sw"]["correct"]}


def read(scores: Path) -> dict:
    subsets = json.loads((scores / "scores.json").read_text(encoding="utf-8"))["subsets"]
    return {
        name: {language: {"n": c["n"], "correct": c["correct"]} for language, c in subset["languages"].items()}
        for name, subset in subsets.items()
    }
