"""The controlled worlds: the generator, the measure of distance, the runner, the choice and the statistics."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, run_command, score_arguments, train_arguments, write_encoder
from scipy import stats

from fairseq_robust_xlt import benchmarks, text
from fairseq_robust_xlt.encoders import Vocabulary

FOLDER = REPOSITORY / "examples/method_comparison/worlds"
MODULES = ("make_world", "distance", "series", "choose", "analyse")


@pytest.fixture(scope="module")
def scripts():
    """The folder's scripts as modules; their names are free again afterwards."""
    sys.path.insert(0, str(FOLDER))
    kept = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        del sys.modules[name]
    sys.modules.update(kept)


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

    def test_the_rule_takes_the_largest_radius_within_one_standard_error(self, scripts):
        # The best is 0.80 of 400 examples: one standard error is 0.02.
        points = {0.0: 0.79, 0.1: 0.80, 0.3: 0.781, 1.0: 0.779}
        radius, threshold = scripts["choose"].largest_within(points, 400)
        assert radius == 0.3
        assert threshold == pytest.approx(0.78)


class TestStatistics:
    def test_the_interval_is_over_worlds(self, scripts):
        """Seeds that are all alike tell nothing: the interval is that of the five worlds' means."""
        means = np.random.default_rng(1).normal(0.02, 0.02, size=5)
        estimate, low, high = scripts["analyse"].clustered(np.repeat(means[:, None], 3, axis=1))
        expected = stats.bootstrap((means,), np.mean, method="percentile", n_resamples=20_000, rng=2)
        assert estimate == pytest.approx(means.mean(), abs=1e-4)
        assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.002)

    def test_seeds_widen_it(self, scripts):
        means = np.zeros((5, 3)) + [-0.03, 0.0, 0.03]
        estimate, low, high = scripts["analyse"].clustered(means)
        # Only seeds vary, and each of the worlds draws its own: variance of a mean of 15 draws with variance 0.0006.
        assert estimate == 0
        assert (high - low) / 2 == pytest.approx(1.96 * (0.0006 / 15) ** 0.5, rel=0.1)

    def test_p_values_are_paired_over_worlds_and_holm_corrected(self, scripts):
        rng = np.random.default_rng(3)
        world = rng.normal(0, 0.1, size=(5, 1, 1))  # worlds differ far more than methods do
        runs = {
            name: {"test": 0.5 + world + gain + rng.normal(0, 0.005, size=(5, 3, 6))}
            for name, gain in {"standard": 0.0, "good": 0.03, "weak": 0.004, "none": 0.0}.items()
        }
        found = scripts["analyse"].compare(runs, ["standard"])["standard"]
        means = {name: run["test"][..., 1:].mean(axis=(1, 2)) for name, run in runs.items()}
        p = {name: stats.ttest_rel(means[name], means["standard"]).pvalue for name in found}
        ranked = sorted(p, key=p.get)
        corrected = np.maximum.accumulate([(3 - i) * p[name] for i, name in enumerate(ranked)]).clip(max=1)
        for name, value in zip(ranked, corrected, strict=True):
            assert found[name]["p"] == pytest.approx(p[name], abs=1e-5)
            assert found[name]["p_holm"] == pytest.approx(value, abs=2e-5)
        assert found["good"]["p_holm"] < 0.01

    def test_a_planted_relation_with_distance_is_found(self, scripts):
        rng = np.random.default_rng(4)
        distance = rng.uniform(0.5, 1.5, size=(5, 5))
        standard = 0.9 - 0.3 * distance[:, None] + rng.normal(0, 0.05, size=(5, 3, 5))
        method = standard + 0.1 * distance[:, None] + rng.normal(0, 0.002, size=(5, 3, 5))
        found = scripts["analyse"].relation(method, standard, distance)
        estimate, low, high = found["slope_distance"]
        assert estimate == pytest.approx(0.1, abs=0.02)
        assert low < 0.1 < high
        assert found["rank_distance"][0] > 0.9

    def test_chance_in_the_standard_is_no_relation_with_headroom(self, scripts):
        """Noise of the standard's own seeds must not show as gain where the standard is low."""
        rng = np.random.default_rng(5)
        standard, method = (0.6 + rng.normal(0, 0.05, size=(40, 3, 5)) for _ in range(2))
        distance = rng.uniform(0.5, 1.5, size=(40, 5))
        found = scripts["analyse"].relation(method, standard, distance)
        assert abs(found["slope_headroom"][0]) < 0.1
        naive = stats.spearmanr((method - standard).mean(axis=1).ravel(), 1 - standard.mean(axis=1).ravel())
        assert naive.statistic > 0.5


def write_scores(folder: Path, dev: float, targets: list[float]) -> None:
    """A scores folder of 500 examples a subset and language, as far as the scripts read it."""

    def language(accuracy: float) -> dict:
        return {"n": 500, "correct": round(500 * accuracy), "accuracy": accuracy, "interval": [0, 1]}

    parts = {"valid": {"l0": dev}, "test": {"l0": dev} | {f"l{i + 1}": value for i, value in enumerate(targets)}}
    subsets = {
        name: {
            "signature": {},
            "languages": {key: language(value) for key, value in part.items()},
            "mean": None,
            "mean_without_source": None,
        }
        for name, part in parts.items()
    }
    scores = {"format": 1, "checkpoint_sha256": "", "benchmark": {}, "labels": [], "subsets": subsets}
    (folder / "scores").mkdir(parents=True)
    (folder / "scores/scores.json").write_text(json.dumps(scores), encoding="utf-8")


@pytest.mark.slow
def test_choice_and_comparison_of_planted_effects(scripts, tmp_path):
    """fgm helps by 5 points, adv too but only at radii that cost source dev, dropout is the tuned standard."""
    folder = tmp_path / "repository/examples/comparison/worlds"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.json", "__pycache__"))
    plan, rng = scripts["series"].PLAN, np.random.default_rng(0)

    def script(name: str) -> str:
        done = subprocess.run(
            [sys.executable, str(folder / name), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TASKS": "topic"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(phase: str, cells) -> None:
        for world in plan["worlds"][phase]:
            base = 0.5 + 0.02 * world
            (tmp_path / str(world) / "topic").mkdir(parents=True)
            (tmp_path / str(world) / "topic/dev-l0.tsv").write_text("topic0\ta\n" * 500, encoding="utf-8")
            distance = {f"l{i}": {"word": 0, "topic": 0, "cosine": 0, "length": 1 + i / 10} for i in range(1, 6)}
            (tmp_path / str(world) / "distance.json").write_text(json.dumps(distance), encoding="utf-8")
            for cell in cells:
                dev = 0.85 if cell.method == "dropout" else 0.3 if cell.method == "adv" else 0.84
                gain = {"fgm": 0.05, "adv": 0.2}.get(cell.method, 0.0)
                for seed in plan["seeds"][phase]:
                    targets = (base + gain + rng.normal(0, 0.003, size=5)).tolist()
                    write_scores(tmp_path / str(world) / f"topic.{cell.name}.{seed}", dev, targets)

    cells = scripts["series"].grid("topic")
    run("tune", cells)
    script("choose.py")
    chosen = json.loads((folder / "chosen.json").read_text(encoding="utf-8"))["tasks"]["topic"]
    assert {name: given["radius"] for name, given in chosen["methods"].items()} == {"rs-rp": 2.0, "adv": 0, "fgm": 0.5}
    assert chosen["tuned_standard"] == "dropout"
    assert chosen["dev_examples"] == 1000

    run("confirm", [cell for cell in cells if cell.name in ("rs-rp.2", "fgm.0.5") or not cell.radius])
    script("analyse.py")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = results["tasks"]["topic"]
    assert found["not_run"] == ["adv"]
    for reference in ("standard", "dropout", "longer"):
        estimate, low, high = found["against"][reference]["fgm"]["difference"]
        assert estimate == pytest.approx(0.05, abs=0.004)
        assert 0.04 < low < estimate < high < 0.06
        assert found["against"][reference]["fgm"]["p_holm"] < 0.01
    assert found["against"]["standard"]["rs-rp"]["p_holm"] > 0.05
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert scripts["analyse"].tables(results) in readme
    (row,) = [line for line in readme.splitlines() if line.startswith("| rs-rp 2 |")]
    assert " null |" in row
    assert "Radius 0 was chosen, which is the standard method: adv." in readme
    before, after = (text.partition("## Results")[0] for text in ((FOLDER / "README.md").read_text("utf-8"), readme))
    assert before == after


def test_the_script_parses():
    subprocess.run(["bash", "-n", str(FOLDER / "run.sh")], check=True)
