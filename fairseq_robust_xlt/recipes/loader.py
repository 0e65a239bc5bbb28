"""Recipe files -> the settings of one training objective.

Every method minimises `clean_weight * CE(x) + perturbed_weight * CE(x + delta)` over word embeddings x, where delta is
nothing, a random draw or the result of gradient ascent inside a ball. A recipe is a YAML file that says which; its
keys are the flags of the criterion `robust_classification` without dashes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from fairseq_robust_xlt.errors import UserError, unknown

FOLDER = Path(__file__).parent
CHOICES: dict[str, tuple[str, ...]] = {
    "perturbation": ("none", "random", "ascent"),
    "perturb_draw": ("gaussian", "uniform", "sphere"),
    "perturb_norm": ("l2", "linf"),
    "perturb_scope": ("token", "sequence"),
    "radius_unit": ("relative", "absolute"),
}


@dataclass(frozen=True)
class Recipe:
    """One method with every value resolved.

    method:            the recipe's name, with `:paper` where the published values are meant
    noise:             noise in the text that the method needs ("" for none)
    clean_weight:      weight of the loss on the clean input
    perturbed_weight:  weight of the loss on the perturbed input
    perturbation:      "none", "random" (randomized smoothing) or "ascent" (adversarial training)
    perturb_draw:      law of a random perturbation, and of the start of an ascent
    perturb_norm, perturb_scope, radius, radius_unit: the ball (see `perturbation.radius`)
    perturb_steps:     steps of the ascent
    perturb_step_size: size of a step, as a fraction of the radius (None: 1 for one step, else 1.25 / steps)
    random_start:      whether the ascent starts at a random point of the ball (else at 0)
    """

    method: str
    noise: str = ""
    clean_weight: float = 1.0
    perturbed_weight: float = 0.0
    perturbation: str = "none"
    perturb_draw: str = "gaussian"
    perturb_norm: str = "l2"
    perturb_scope: str = "token"
    radius: float = 0.0
    radius_unit: str = "relative"
    perturb_steps: int = 1
    perturb_step_size: float | None = None
    random_start: bool = False

    def settings(self) -> dict[str, Any]:
        """The resolved values as plain data, for the log and the run record."""
        return asdict(self)


KEYS = {f.name: str(f.type) for f in fields(Recipe) if f.name != "method"}


def names() -> list[str]:
    """The methods that the package brings."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def resolve(method: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe `method` ("adv", "adv:paper", or the path of a recipe file) with explicit flags on top.

    overrides: flag name (underscores) -> value; None means "from the recipe".
    Raises `UserError` for an unknown method or value, a flag that the method has no use for, and a method whose
    published values are not known.
    """
    name, _, variant = method.partition(":")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        if path.parent != FOLDER:
            raise UserError(f"--method {method}: there is no recipe file {path}")
        raise unknown("method", name, names(), "--method")
    table = _read(path)
    if variant not in ("", "defaults", "paper"):
        raise unknown("variant of the recipe", variant, ("defaults", "paper"), f"--method {method}")
    values = {**table["defaults"]}
    if variant == "paper":
        if not table.get("paper"):
            raise UserError(f"--method {method}: {path.name} knows no published values; use --method {name}")
        values.update(table["paper"])
    for key, value in (overrides or {}).items():
        if value is None:
            continue
        if key not in values:
            flag = "--" + key.replace("_", "-")
            raise UserError(f"{flag} {value}: has no meaning for --method {method}, which knows {_flags(values)}")
        values[key] = value
    recipe = Recipe(method=method, **values)
    _check(recipe, path)
    return recipe


def _flags(values: Mapping[str, Any]) -> str:
    return ", ".join("--" + key.replace("_", "-") for key in sorted(values) if key not in ("noise", "perturbation"))


def _read(path: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML file: {error}") from error
    allowed = {"summary", "citation", "defaults", "paper"}
    if not isinstance(table, dict) or set(table) - allowed or not isinstance(table.get("defaults"), dict):
        raise UserError(f"{path}: a recipe has the keys {', '.join(sorted(allowed))}; `defaults` holds its settings")
    if not isinstance(table.get("paper", {}), dict):
        raise UserError(f"{path}: `paper` holds settings as `defaults` does, not {table['paper']!r}")
    for part in ("defaults", "paper"):
        for key, value in table.get(part, {}).items():
            if key not in KEYS:
                raise unknown(f"setting in `{part}`", key, KEYS, str(path))
            if not _fits(value, KEYS[key]):
                raise UserError(f"{path}: {part}.{key} is {value!r}; it must be of type {KEYS[key]}")
    return table


def _fits(value: Any, kind: str) -> bool:
    if value is None or isinstance(value, bool):
        return kind == "bool" if value is not None else kind.endswith("None")
    return kind != "bool" and isinstance(value, {"str": str, "int": int}.get(kind, (int, float)))


def _check(recipe: Recipe, path: Path) -> None:
    for key, allowed in CHOICES.items():
        if getattr(recipe, key) not in allowed:
            raise unknown(f"value of --{key.replace('_', '-')}", getattr(recipe, key), allowed)
    for key in ("radius", "clean_weight", "perturbed_weight"):
        value = getattr(recipe, key)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--{key.replace('_', '-')} {value}: must be a finite number, 0 or larger")
    step = recipe.perturb_step_size
    if step is not None and not (math.isfinite(step) and step > 0):
        raise UserError(f"--perturb-step-size {step}: must be a finite number above 0")
    if recipe.perturb_steps < 1:
        raise UserError(f"--perturb-steps {recipe.perturb_steps}: must be 1 or larger")
    if recipe.clean_weight + recipe.perturbed_weight == 0:
        raise UserError(f"{path.name}: --clean-weight and --perturbed-weight are both 0, so nothing would be trained")
    if recipe.perturbed_weight and recipe.perturbation == "none":
        raise UserError(f"{path.name}: perturbed_weight without a perturbation (allowed: random, ascent)")
