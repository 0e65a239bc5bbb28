from pathlib import Path

import pytest
import yaml

from fairseq_robust_xlt import benchmarks
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.text import Subset, load_subset, resolve

XNLI = benchmarks.load("xnli")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train-en", "train-sw", "dev-en", "dev-zh", "dev-sw"):
        (tmp_path / f"{name}.tsv").write_text(f"{name} A\t{name} B\tneutral\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("subset", "split", "languages"),
    [
        ("train", "train", ("en",)),
        ("valid", "dev", ("en",)),
        ("train-sw", "train", ("sw",)),
        ("dev-sw", "dev", ("sw",)),
        ("dev-en", "dev", ("en",)),
        ("dev", "dev", ("en", "sw", "zh")),
    ],
)
def test_names(folder, subset, split, languages):
    resolved = resolve(XNLI, folder, subset)
    assert (resolved.name, resolved.split, resolved.languages) == (subset, split, languages)
    assert resolved.missing == (tuple(c for c in XNLI.languages if c not in languages) if subset == "dev" else ())
    examples = load_subset(XNLI, folder, subset)
    assert [(e.language, e.sequences[0][0]) for e in examples] == [(c, f"{split}-{c} A") for c in languages]


def test_the_source_language_is_the_tables(tmp_path):
    content = yaml.safe_load(XNLI.text) | {"source": "sw"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    benchmark = benchmarks.load(tmp_path / "own.yaml")
    assert resolve(benchmark, tmp_path, "train") == Subset("train", "train", ("sw",), ())
    assert resolve(benchmark, tmp_path, "valid") == Subset("valid", "dev", ("sw",), ())


@pytest.mark.parametrize("subset", ["tset", "valid1", "valid-en", "dev-", "", "test-en-sw", "test-pairs", "-sw"])
def test_unknown_subsets(folder, subset):
    with pytest.raises(UserError, match="unknown (subset|language) "):
        resolve(XNLI, folder, subset)


def test_an_unknown_language_gives_the_nearest(folder):
    with pytest.raises(UserError, match="subset dev-swa: unknown language 'swa'; did you mean sw"):
        resolve(XNLI, folder, "dev-swa")


def test_a_subset_without_any_file(folder):
    with pytest.raises(UserError, match=r"no test file of any language in .*; looked for: test-\{lang\}\.tsv"):
        resolve(XNLI, folder, "test")
    with pytest.raises(UserError, match="no such data folder"):
        resolve(XNLI, folder / "none", "test")
    with pytest.raises(UserError, match="no dev file for language 'fr'"):
        load_subset(XNLI, folder, "dev-fr")


def test_a_split_that_no_layout_has(folder):
    content = yaml.safe_load(XNLI.text)
    del content["layouts"][0]["files"]["test"]
    (folder / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match="has no test split"):
        resolve(benchmarks.load(folder / "own.yaml"), folder, "test")
