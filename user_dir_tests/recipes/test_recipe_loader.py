"""Recipes: what the package brings, one's own files, and one clear message for each mistake."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import fields

import pytest
import yaml
from fairseq.dataclass import FairseqDataclass

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.recipes import Recipe


def own(tmp_path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_methods_of_the_package() -> None:
    assert set(recipes.names()) == METHODS
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
    assert (ascent.perturbation, ascent.perturb_steps, ascent.perturb_start) == ("ascent", 1, 1)
    fgm = recipes.resolve("fgm")
    assert (fgm.clean_weight, fgm.perturbed_weight, fgm.perturb_steps, fgm.perturb_start) == (0.5, 0.5, 1, 0)


METHODS = {
    *("standard", "rs-rp", "rs-da", "adv", "fgm", "freelb", "r3f", "r4f", "smart", "alum", "mixup"),
    *("xtune", "xtune-stage2", "ear"),
}
PUBLISHED = {"freelb", "r3f", "r4f", "alum", "xtune", "xtune-stage2", "ear"}


def test_the_published_values() -> None:
    """As the papers' code has them; where it is not known, there are none."""
    freelb = recipes.resolve("freelb:paper")
    assert (freelb.radius, freelb.radius_unit, freelb.perturb_scope, freelb.perturb_steps) == (
        0.3,
        "absolute",
        "sequence",
        3,
    )
    assert freelb.perturb_step_size * freelb.radius == pytest.approx(0.1)
    assert freelb.perturb_start * freelb.radius == pytest.approx(0.1)
    for method in ("r3f:paper", "r4f:paper"):
        r3f = recipes.resolve(method)
        assert (r3f.radius, r3f.perturb_norm, r3f.perturb_draw, r3f.consistency_weight) == (1e-5, "linf", "uniform", 1)
    alum = recipes.resolve("alum:paper")
    assert (alum.radius_unit, alum.perturb_norm, alum.perturb_direction) == ("absolute", "linf", "scaled")
    assert alum.perturb_step_size * alum.radius == pytest.approx(1e-3)
    assert (alum.perturb_draw, alum.perturb_start * alum.radius / 2) == ("gaussian", pytest.approx(1e-5))
    assert alum.consistency_weight == 1  # its script's 10 is of pre-training
    xtune = recipes.resolve("xtune:paper")
    assert (xtune.clean_weight, xtune.perturbed_weight, xtune.teacher_weight) == (1, 0, 0)
    assert xtune.consistency_weight == pytest.approx(5 / 3)
    second = recipes.resolve("xtune-stage2:paper")
    assert (second.clean_weight, second.perturbed_weight) == (0.5, 0.5)
    assert (second.consistency_weight, second.teacher_weight) == pytest.approx((5 / 3, 5 / 3))
    ear = recipes.resolve("ear:paper")
    assert (ear.embedding_push, ear.attention_pull, ear.attention_layer) == (0.1, 1, 6)  # its code counts from 0
    own = {m for m in METHODS if recipes.resolve(m + (":paper" if m in PUBLISHED else "")).dropout_masks == "own"}
    assert own == {"r3f", "r4f", "alum", "xtune", "xtune-stage2", "ear"}
    assert {recipes.resolve(m).dropout_masks for m in METHODS} == {"shared"}
    for method in METHODS - PUBLISHED:
        with pytest.raises(UserError, match="no published values"):
            recipes.resolve(method + ":paper")


def test_flags_win_and_the_rest_stays() -> None:
    recipe = recipes.resolve("adv", {"radius": 0.1, "perturb_steps": 5, "perturb_norm": None})
    default = recipes.resolve("adv")
    assert (recipe.radius, recipe.perturb_steps, recipe.perturb_norm) == (0.1, 5, default.perturb_norm)
    assert recipes.resolve("adv:defaults").settings() | {"method": "adv"} == default.settings()


def test_a_multiple_choice_has_settings_of_its_own() -> None:
    plain, choice = recipes.resolve("adv"), recipes.resolve("adv", choice=True)
    assert choice == dataclasses.replace(plain, radius=0.003)
    assert recipes.resolve("adv", {"radius": 0.1}, choice=True).radius == 0.1
    assert recipes.resolve("freelb:paper", choice=True) == recipes.resolve("freelb:paper")
    assert recipes.resolve("standard", choice=True) == recipes.resolve("standard")
    # Each ball that is found by an ascent or by chance has one.
    for name in recipes.names():
        if recipes.resolve(name).perturbation in ("random", "ascent", "virtual"):
            assert recipes.resolve(name, choice=True).radius < recipes.resolve(name).radius


def test_the_flags_are_those_of_the_criterion() -> None:
    from fairseq_robust_xlt.criterions.config import RobustClassificationConfig

    others = {"method", "teacher", "classification_head_name", "regression_target"}
    mine = {field.name for field in fields(RobustClassificationConfig)} - {f.name for f in fields(FairseqDataclass)}
    assert set(recipes.FLAGS) == mine - others
    assert (recipes.FLAGS["perturb_steps"], recipes.FLAGS["perturb_norm"]) == (int, str)
    assert recipes.FLAGS["perturb_step_size"] is recipes.FLAGS["radius"] is float


@pytest.mark.parametrize(
    ("method", "flags", "one"),
    [
        ("standard", {}, True),
        ("rs-rp", {}, True),
        ("mixup", {}, True),
        ("ear", {"clean_weight": 0.0}, False),  # its embeddings and attention are compared with the clean view's
        ("ear", {"clean_weight": 0.0, "embedding_push": 0.0, "attention_pull": 0.0}, True),
        ("r3f", {}, False),
        ("adv", {}, False),
    ],
)
def test_methods_of_one_pass(method, flags, one) -> None:
    assert recipes.resolve(method, flags).one_pass is one


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
        ("adv", {"perturb_layer": -1}, ["--perturb-layer -1", "word embeddings"]),
        ("adv", {"perturb_start": math.nan}, ["--perturb-start nan", "finite"]),
        ("adv", {"consistency": "kl"}, ["--consistency kl", "no meaning for --method adv"]),
        ("smart", {"perturb_start": 0.0}, ["--perturb-start 0", "no gradient"]),
        ("smart", {"consistency_stop": "perturbed"}, ["--consistency-stop perturbed"]),
        ("smart", {"consistency": "mse", "consistency_stop": "each"}, ["each", "symmetric_kl", "mse"]),
        ("smart", {"consistency": "kll"}, ["--consistency", "did you mean kl"]),
        ("smart", {"bregman_decay": 1.0}, ["--bregman-decay 1.0", "below 1"]),
        ("r3f", {"bregman_weight": 1.0}, ["--bregman-weight 1.0", "no meaning for --method r3f"]),
        ("mixup", {"radius": 0.1}, ["--radius 0.1", "no meaning for --method mixup"]),
        ("fgm", {"perturb_draw": "sphere"}, ["--perturb-draw sphere", "no effect", "--perturb-start above 0"]),
        ("fgm", {"perturb_direction": "scaled"}, ["--perturb-direction scaled", "no effect", "--perturb-norm linf"]),
        ("smart", {"bregman_decay": 0.5}, ["--bregman-decay 0.5", "no effect", "--bregman-weight above 0"]),
        ("ear", {"attention_pull": 0.0, "attention_layer": 3}, ["--attention-layer 3", "--attention-pull above 0"]),
        ("r3f", {"consistency_weight": 0.0, "radius": 3.0}, ["--radius 3.0", "no effect with --method r3f"]),
        ("r3f", {"consistency_weight": 0.0, "consistency": "js"}, ["--consistency js", "no effect"]),
        ("r3f", {"consistency_weight": 0.0, "dropout_masks": "own"}, ["--dropout-masks own", "a second pass"]),
        ("smart", {"consistency_weight": 0.0, "consistency": "kl"}, ["--consistency kl", "no effect"]),
        (
            "adv",
            {"perturb_norm": "linf", "perturb_scope": "sequence"},
            ["--perturb-scope sequence", "no effect", "in linf both scopes are one ball"],
        ),
        ("a" * 300, {}, ["cannot read", "too long"]),
        (
            "freelb",
            {"perturb_steps": 1, "perturb_step_size": 0.5},
            ["--perturb-step-size 0.5", "--perturb-steps above 1"],
        ),
        (
            "mixup",
            {"clean_weight": 1.0, "perturbed_weight": 0.0, "mixup_alpha": 0.4},
            ["--mixup-alpha 0.4", "no effect", "mixed input"],
        ),
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
        ("defaults: {radius: 1}\nchoice: 2", ["mine.yaml", "`choice` holds settings", "2"]),
        ("defaults: {radius: 1}\nchoice: {radius: x}", ["choice.radius is 'x'"]),
        ("defaults: {radius: 1}\nchoice: {clean_weight: 1}", ["`choice` has clean_weight, which `defaults` has not"]),
        ("default: {}", ["mine.yaml", "defaults"]),
        ("defaults: {}\nauthor: me", ["mine.yaml", "keys"]),
        ("defaults: [", ["mine.yaml", "YAML"]),
        ("- 1", ["mine.yaml", "defaults"]),
        ("", ["mine.yaml", "defaults"]),
        ("defaults: {perturbed_weight: 1}", ["mine.yaml", "without a perturbation"]),
        ("defaults: {radius: .nan}", ["nan", "finite"]),
        ("defaults: {perturbation: both}", ["perturbation", "'both'", "ascent"]),
        ("defaults: {consistency_weight: 1}", ["mine.yaml", "without a perturbation"]),
        ("defaults: {perturbation: mixup, mixup_alpha: 0}", ["mine.yaml", "--mixup-alpha 0", "above 0"]),
        ("defaults: {perturbation: mixup, mixup_alpha: .inf}", ["--mixup-alpha inf"]),
        ("defaults: {perturbation: mixup, mixup_alpha: 1, consistency_weight: 1}", ["no meaning with mixup"]),
        ("defaults: {perturbation: random, teacher_weight: 1}", ["teacher_weight", "perturbation: text"]),
        ("defaults: {perturbation: none, embedding_push: 1}", ["embedding_push", "perturbation: text"]),
        ("defaults: {perturbation: random, perturbed_points: all}", ["--perturbed-points all", "ascent"]),
        ("defaults: {perturbation: text, perturbed_embeddings: detached}", ["detached", "of the embeddings"]),
        ("defaults: {perturbation: text, attention_layer: 0}", ["--attention-layer 0", "1 or larger"]),
        ("defaults: {clean_weight: 0, bregman_weight: 1}", ["all 0"]),
        ("defaults: {1: 2}", ["mine.yaml: `defaults`", "each with a name, not {1: 2}"]),
        ("{defaults: {radius: 1}, choice: {1: 2}}", ["mine.yaml: `choice`", "each with a name"]),
        ("{summary: 2020-13-45, defaults: {radius: 1}}", ["mine.yaml: not a readable YAML file"]),
        (f"defaults: {{clean_weight: {10**400}}}", ["defaults.clean_weight", "must be of type float"]),
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
