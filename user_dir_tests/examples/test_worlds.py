"""The controlled worlds: the generator, the measure of distance, the runner, the plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_encoder
from driving import REPOSITORY, run_command, score_arguments, train_arguments
from worlds_scripts import FOLDER, scripts

from fairseq_robust_xlt import benchmarks, text
from fairseq_robust_xlt.encoders import Vocabulary

__all__ = ["scripts"]  # a fixture


@pytest.fixture(scope="module")
def world(scripts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    scripts["make_world"].write(scripts["make_world"].World(7), folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestWorld:
    def test_the_number_decides_everything(self, scripts, world, tmp_path):
        for number, name in ((7, "same"), (8, "other")):
            scripts["make_world"].write(scripts["make_world"].World(number), tmp_path / name)
        assert files(tmp_path / "same") == files(world)
        other = files(tmp_path / "other")
        assert [name for name, content in files(world).items() if content == other[name]] == []

    @pytest.mark.parametrize("task", ["topic", "pair", "choice"])
    def test_tasks_are_balanced_aligned_and_disjoint(self, scripts, world, task):
        table = benchmarks.load(FOLDER / f"{task}.yaml")
        splits = {split: text.read(table, world / task, split, "l0") for split in ("train", "dev", "test")}
        for split, size in {"train": scripts["make_world"].TRAIN[task], "dev": 500, "test": 500}.items():
            counts = Counter(example.label for example in splits[split])
            assert sum(counts.values()) == size
            assert set(counts) == set(range(len(table.labels)))
            assert max(counts.values()) - min(counts.values()) <= 1
        labels = [example.label for example in splits["test"]]
        for language in table.languages[1:]:
            assert [example.label for example in text.read(table, world / task, "test", language)] == labels
        sequences = {split: {example.sequences for example in examples} for split, examples in splits.items()}
        repeated = len(sequences["train"] & sequences["test"]) / len(sequences["test"])
        assert repeated < 0.05

    def test_languages_are_as_far_as_they_are_said_to_be(self, scripts, world):
        words = json.loads((world / "words.json").read_text(encoding="utf-8"))
        source = words["forms"]["l0"]
        assert len({form for forms in source for form in forms}) == sum(map(len, source))
        for language in words["languages"][1:]:
            own = words["forms"][language["name"]]
            shared = sum(forms == its for forms, its in zip(own, source, strict=True)) / len(own)
            assert shared == pytest.approx(language["shared"], abs=0.01)
            merged = 1 - len({tuple(forms) for forms in own}) / len(own)
            assert merged == pytest.approx(language["merged"], abs=0.01)
        lines = {
            language["name"]: (world / "corpus" / f"{language['name']}.txt").read_text(encoding="utf-8").count("\n\n")
            for language in words["languages"]
        }
        for language in words["languages"]:
            assert lines[language["name"]] / lines["l0"] == pytest.approx(language["weight"], abs=0.01)

    def test_a_target_sentence_says_the_same_in_its_own_order(self, scripts):
        make_world = scripts["make_world"]
        made = make_world.World(7)
        scene = make_world.Scene(subject=0, verb=60, object=1, adjective=100, place=130)
        for language in make_world.LANGUAGES:
            said = made.say(made.generator("test"), scene, language).split()
            place = {
                concept: said.index(word)
                for concept in (0, 1, 60, 100, 130)
                for word in made.forms[language.name][concept]
                if word in said
            }
            assert len(place) == 5
            assert (place[60] > place[1]) == language.verb_last
            assert (place[100] > place[0]) == language.adjective_after

    def test_every_word_is_one_piece(self, world):
        vocabulary = Vocabulary.load(world / "encoder")
        for language in ("l0", "l5"):
            rows = (world / "topic" / f"test-{language}.tsv").read_text(encoding="utf-8").splitlines()
            texts = [row.split("\t")[1] for row in rows]
            encoded = vocabulary.encode(texts)
            assert [len(ids) for ids in encoded] == [len(one.split()) for one in texts]
            assert not any((ids == vocabulary.unk).any() for ids in encoded)


class TestDistance:
    def test_a_language_with_the_source_s_vectors_is_at_no_distance(self, scripts, world):
        vocabulary = Vocabulary.load(world / "encoder")
        write_encoder(world / "encoder", rows=vocabulary.size)
        state = torch.load(world / "encoder/model.pt", weights_only=False)
        table = state["model"]["encoder.sentence_encoder.embed_tokens.weight"]
        forms = json.loads((world / "words.json").read_text(encoding="utf-8"))["forms"]
        for own, its in zip(forms["l1"], forms["l0"], strict=True):
            if own != its:  # l1: exactly the source's vectors; l2: those, twice as long; l3 to l5: random
                ids = np.concatenate(vocabulary.encode(its))
                table[int(vocabulary.encode(own)[0][0])] = table[ids].mean(dim=0)
        for own, its in zip(forms["l2"], forms["l0"], strict=True):
            if own != its:
                ids = np.concatenate(vocabulary.encode(its))
                table[int(vocabulary.encode(own)[0][0])] = 2 * table[ids].mean(dim=0)
        torch.save(state, world / "encoder/model.pt")
        measured = scripts["distance"].measure(world)
        assert measured["l1"]["word"] == measured["l1"]["topic"] == 1
        assert measured["l1"]["cosine"] == pytest.approx(1)
        assert measured["l1"]["length"] == pytest.approx(0, abs=1e-6)
        assert measured["l2"]["cosine"] == pytest.approx(1)
        norms = table[4:-1].double().norm(dim=1)
        means = [table[np.concatenate(vocabulary.encode(its))].double().mean(dim=0).norm() for its in forms["l0"]]
        assert measured["l2"]["length"] == pytest.approx(float(np.mean(means) / norms.mean()), rel=0.05)
        assert measured["l5"]["word"] < 0.1
        assert measured["l5"]["topic"] < 0.3


def run_many(lines: list[str], folder: Path, *flags: str) -> subprocess.CompletedProcess:
    (folder / "lines").write_text("\n".join(lines), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(FOLDER / "many.py"), *flags, str(folder / "lines")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_many_runs_in_one_process_are_those_of_the_commands(tmp_path, xnli_folder, encoder_dir):
    def commands(folder: Path, seed: int, *more: str) -> tuple[list[str], list[str]]:
        train = train_arguments(xnli_folder, encoder_dir, folder, "--seed", str(seed), *more)
        score = score_arguments(xnli_folder, folder / "checkpoint_last.pt", "--scores", str(folder / "scores"))
        return train, score

    def line(folder: Path, seed: int, *more: str) -> str:
        train, score = commands(folder, seed, *more)
        return f"{folder} fairseq-train {' '.join(train)} && fairseq-validate {' '.join(score)}"

    method = ("--method", "fgm", "--radius", "0.1")
    lines = [
        line(tmp_path / "one", 1),
        line(tmp_path / "bad", 1, "--method", "none"),
        line(tmp_path / "two", 2, *method),
    ]
    done = run_many(lines, tmp_path)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "bad" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "two").glob("*.pt"))
    for arguments, program in zip(commands(tmp_path / "alone", 2, *method), ("train", "validate"), strict=True):
        assert run_command(f"fairseq-{program}", *arguments).returncode == 0
    tables = [(tmp_path / name / "scores/predictions.tsv").read_text(encoding="utf-8") for name in ("two", "alone")]
    assert tables[0] == tables[1]

    again = run_many([lines[0], lines[2].replace("--seed 2", "--seed 3")], tmp_path, "--keep")
    assert again.returncode == 0
    assert [row.split(" (")[0] for row in again.stdout.splitlines()] == [str(tmp_path / "two")]  # `one` was done
    assert list((tmp_path / "two").glob("*.pt"))


class TestSeries:
    def test_every_command_is_one_that_the_plan_says(self, scripts):
        series = scripts["series"]
        lines = list(series.lines("tune", Path("runs"), 0))
        assert len(lines) == len(set(lines)) == sum(2 * len(series.grid(task)) for task in series.TASKS)
        assert len({line.split()[0] for line in lines}) == len(lines)
        longer = [line for line in lines if ".longer." in line]
        plain = [line for line in lines if ".standard." in line]
        updates = [[int(line.split("--max-update ")[1].split()[0]) for line in some] for some in (longer, plain)]
        assert np.divide(*updates) == pytest.approx(7 / 3, rel=0.01)

    def test_confirmation_worlds_and_seeds_are_new(self, scripts):
        plan = scripts["series"].PLAN
        for what in ("worlds", "seeds"):
            assert not set(plan[what]["tune"]) & set(plan[what]["confirm"])
        assert len(plan["worlds"]["confirm"]) >= 5
        assert len(plan["seeds"]["confirm"]) >= 3


def test_the_script_parses():
    subprocess.run(["bash", "-n", str(FOLDER / "run.sh")], check=True)
