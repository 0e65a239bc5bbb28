"""Recipes: what the package brings, one's own files, and one clear message for each mistake."""

from __future__ import annotations

import math

import pytest
import yaml

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.recipes import Recipe


def own(tmp_path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_methods_of_the_package() -> None:
    assert {"standard", "rs-rp", "rs-da", "adv", "fgm"} <= set(recipes.names())
    for name in recipes.names():
        recipe = recipes.resolve(name)
        assert recipe.method == name
        assert recipe.settings()["method"] == name
        assert yaml.safe_load(yaml.safe_dump(recipe.settings())) == recipe.settings()  # plain data


def test_what_they_mean() -> None:
    standard = recipes.resolve("standard")
    assert (standard.clean_weight, standard.perturbed_weight, standard.perturbation, standard.noise) == (
        1,
        0,
        "none",
        "",
    )
    assert recipes.resolve("rs-da").noise == "synonyms"
    smoothing = recipes.resolve("rs-rp")
    assert (smoothing.clean_weight, smoothing.perturbed_weight, smoothing.perturbation) == (0, 1, "random")
    ascent = recipes.resolve("adv")
    assert (ascent.perturbation, ascent.perturb_steps, ascent.perturb_start) == ("ascent", 2, 1)
    fgm = recipes.resolve("fgm")
    assert (fgm.clean_weight, fgm.perturbed_weight, fgm.perturb_steps, fgm.perturb_start) == (0.5, 0.5, 1, 0)


def test_flags_win_and_the_rest_stays() -> None:
    recipe = recipes.resolve("adv", {"radius": 0.1, "perturb_steps": 5, "perturb_norm": None})
    default = recipes.resolve("adv")
    assert (recipe.radius, recipe.perturb_steps, recipe.perturb_norm) == (0.1, 5, default.perturb_norm)
    assert recipes.resolve("adv:defaults").settings() | {"method": "adv"} == default.settings()


def test_a_recipe_of_ones_own(tmp_path) -> None:
    text = (
        "defaults: {clean_weight: 1, perturbed_weight: 2.5, perturbation: random, radius: 0.2}\npaper: {radius: 0.7}\n"
    )
    path = own(tmp_path, text)
    assert recipes.resolve(path) == Recipe(
        path, clean_weight=1, perturbed_weight=2.5, perturbation="random", radius=0.2
    )
    assert recipes.resolve(path + ":paper").radius == 0.7
    assert recipes.resolve(path + ":paper", {"radius": 0.3}).radius == 0.3


@pytest.mark.parametrize(
    ("method", "overrides", "said"),
    [
        ("advv", {}, ["--method", "unknown method 'advv'", "did you mean adv", "standard"]),
        ("adv:papre", {}, ["--method adv:papre", "unknown variant", "did you mean paper"]),
        ("adv:paper", {}, ["--method adv:paper", "adv.yaml", "no published values", "--method adv"]),
        ("nowhere/mine.yaml", {}, ["--method nowhere/mine.yaml", "no recipe file"]),
        ("standard", {"radius": 0.1}, ["--radius 0.1", "no meaning for --method standard", "--clean-weight"]),
        ("rs-rp", {"perturb_steps": 3}, ["--perturb-steps 3", "no meaning for --method rs-rp"]),
        ("rs-da", {"perturb_norm": "l2"}, ["--perturb-norm l2", "no meaning for --method rs-da"]),
        ("adv", {"radius": -0.1}, ["--radius -0.1", "finite", "0 or larger"]),
        ("adv", {"radius": math.nan}, ["--radius nan", "finite"]),
        ("adv", {"radius": math.inf}, ["--radius inf", "finite"]),
        ("adv", {"perturb_steps": 0}, ["--perturb-steps 0", "1 or larger"]),
        ("adv", {"perturb_step_size": 0.0}, ["--perturb-step-size 0.0", "above 0"]),
        ("adv", {"perturb_norm": "l1"}, ["--perturb-norm", "'l1'", "l2", "linf"]),
        ("adv", {"radius_unit": "relativ"}, ["--radius-unit", "did you mean relative"]),
        ("fgm", {"clean_weight": 0.0, "perturbed_weight": 0.0}, ["all 0"]),
        ("fgm", {"clean_weight": -1.0}, ["--clean-weight -1.0"]),
    ],
)
def test_mistakes_in_flags(method, overrides, said) -> None:
    with pytest.raises(UserError) as caught:
        recipes.resolve(method, overrides)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults: {radus: 0.1}", ["mine.yaml", "unknown setting in `defaults` 'radus'", "did you mean radius"]),
        ("defaults: {radius: large}", ["mine.yaml", "defaults.radius is 'large'", "float"]),
        ("defaults: {perturb_steps: 2.5}", ["defaults.perturb_steps is 2.5", "int"]),
        ("defaults: {perturb_steps: true}", ["defaults.perturb_steps is True", "int"]),
        ("defaults: {spectral_norm: 1}", ["defaults.spectral_norm is 1", "bool"]),
        ("defaults: {noise: 3}", ["defaults.noise is 3", "str"]),
        ("defaults: {radius: null}", ["defaults.radius is None"]),
        ("defaults: {clean_weight: 1}\npaper: {radius: x}", ["paper.radius is 'x'"]),
        ("defaults: {clean_weight: 1}\npaper: [1]", ["mine.yaml", "`paper` holds settings", "[1]"]),
        ("defaults: {clean_weight: 1}\npaper:", ["mine.yaml", "`paper` holds settings", "None"]),
        ("default: {}", ["mine.yaml", "defaults"]),
        ("defaults: {}\nauthor: me", ["mine.yaml", "keys"]),
        ("defaults: [", ["mine.yaml", "YAML"]),
        ("- 1", ["mine.yaml", "defaults"]),
        ("", ["mine.yaml", "defaults"]),
        ("defaults: {perturbed_weight: 1}", ["mine.yaml", "without a perturbation"]),
        ("defaults: {radius: .nan}", ["nan", "finite"]),
        ("defaults: {perturbation: both}", ["perturbation", "'both'", "ascent"]),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, said) -> None:
    with pytest.raises(UserError) as caught:
        recipes.resolve(own(tmp_path, text))
    for part in said:
        assert part in str(caught.value)


def test_a_file_that_is_not_text(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"mine\.yaml: not a readable YAML file"):
        recipes.resolve(str(path))


def test_data_only(tmp_path) -> None:
    """YAML that would build Python objects is refused, not run."""
    mark = tmp_path / "ran"
    with pytest.raises(UserError, match="not a readable YAML file"):
        recipes.resolve(own(tmp_path, f"defaults: !!python/object/apply:os.system ['touch {mark}']"))
    assert not mark.exists()
