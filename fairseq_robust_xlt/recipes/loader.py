"""Recipe files -> the settings of one training objective (see `recipe.Recipe`).

A recipe is a YAML file; its keys are those of `Recipe`, which are the flags of the criterion `robust_classification`
without dashes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fairseq_robust_xlt.errors import UserError, shortened, unknown
from fairseq_robust_xlt.files import is_file
from fairseq_robust_xlt.recipes.recipe import KEYS, Recipe, check, flag, idle

FOLDER = Path(__file__).parent
#: Settings that only a recipe file can make: what the method is, not how much of it.
NO_FLAG = ("noise", "perturbation", "spectral_norm")
#: Settings that are flags of the criterion, and the type of each one's value.
FLAGS: dict[str, type] = {
    key: {"int": int, "str": str}.get(kind, float) for key, kind in KEYS.items() if key not in NO_FLAG
}


def names() -> list[str]:
    """The methods that the package brings."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def resolve(method: str, overrides: Mapping[str, Any] | None = None, choice: bool = False) -> Recipe:
    """The recipe `method` ("adv", "adv:paper", or the path of a recipe file) with explicit flags on top.

    overrides: flag name (underscores) -> value; None means "from the recipe".
    choice: for a multiple choice, where a recipe's `choice` settings replace its `defaults`. (Each option is a sequence
        that is moved by itself, so that a ball that another task bears may leave nothing to tell options by.)
    Raises `UserError` for an unknown method or value, a flag that the method has no use for, and a method whose
    published values are not known.
    """
    name, _, variant = method.partition(":")
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not is_file(path):
        if path.parent != FOLDER:
            raise UserError(f"--method {method}: there is no recipe file {path}")
        raise unknown("method", name, names(), "--method")
    table = _read(path)
    if variant not in ("", "defaults", "paper"):
        raise unknown("variant of the recipe", variant, ("defaults", "paper"), f"--method {method}")
    values = {**table["defaults"], **(table.get("choice", {}) if choice else {})}
    if variant == "paper":
        if not table.get("paper"):
            raise UserError(f"--method {method}: {path.name} holds no published values; use --method {name}")
        values.update(table["paper"])
    for key, value in (overrides or {}).items():
        if value is None:
            continue
        if key not in values:
            raise UserError(f"{flag(key)} {value}: has no meaning for --method {method}, which knows {_flags(values)}")
        values[key] = value
    recipe = Recipe(method=method, **values)
    check(recipe, path.name)
    for key, needs in idle(recipe).items():
        if (overrides or {}).get(key) is not None:
            raise UserError(f"{flag(key)} {values[key]}: has no effect with --method {method} as it is; needs {needs}")
    return recipe


def _flags(values: Mapping[str, Any]) -> str:
    return ", ".join(flag(key) for key in sorted(values) if key not in NO_FLAG)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # not UTF-8; a date that is none
        raise UserError(f"{path}: not a readable YAML file: {error}") from error
    allowed = {"summary", "citation", "defaults", "choice", "paper"}
    if not isinstance(table, dict) or set(table) - allowed or not isinstance(table.get("defaults"), dict):
        raise UserError(f"{path}: a recipe has the keys {', '.join(sorted(allowed))}; `defaults` holds its settings")
    for part in ("defaults", "choice", "paper"):
        settings = table.get(part, {})
        if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
            raise UserError(f"{path}: `{part}` holds settings, each with a name, not {shortened(repr(settings))}")
    if foreign := set(table.get("choice", {})) - set(table["defaults"]):
        raise UserError(f"{path}: `choice` has {', '.join(sorted(foreign))}, which `defaults` has not")
    for part in ("defaults", "choice", "paper"):
        for key, value in table.get(part, {}).items():
            if key not in KEYS:
                raise unknown(f"setting in `{part}`", key, KEYS, str(path))
            if not _fits(value, KEYS[key]):
                raise UserError(f"{path}: {part}.{key} is {shortened(repr(value))}; it must be of type {KEYS[key]}")
    return table


def _fits(value: Any, kind: str) -> bool:
    if value is None or isinstance(value, bool):
        return kind == "bool" if value is not None else kind.endswith("None")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return False
    return kind != "bool" and isinstance(value, {"str": str, "int": int}.get(kind, (int, float)))
