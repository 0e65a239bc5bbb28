"""What one method is: the settings of the training objective, and which of them go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fairseq_robust_xlt.errors import UserError, unknown

CHOICES: dict[str, tuple[str, ...]] = {
    "perturbation": ("none", "random", "ascent", "virtual", "text", "mixup"),
    "perturb_draw": ("gaussian", "uniform", "sphere", "cube"),
    "perturb_norm": ("l2", "linf"),
    "perturb_scope": ("token", "sequence"),
    "perturb_options": ("own", "shared"),
    "perturb_tokens": ("all", "words"),
    "perturb_direction": ("steepest", "scaled"),
    "perturbed_points": ("last", "all"),
    "perturbed_embeddings": ("trained", "detached"),
    "dropout_masks": ("shared", "own"),
    "radius_unit": ("relative", "absolute"),
    "consistency": ("kl", "symmetric_kl", "js", "mse"),
    "consistency_stop": ("none", "clean", "perturbed", "each"),
}
WEIGHTS = ("clean_weight", "perturbed_weight", "consistency_weight", "teacher_weight")
AT_LEAST_0 = (*WEIGHTS, "radius", "perturb_start", "bregman_weight", "embedding_push", "attention_pull")
AT_LEAST_1 = ("perturb_steps", "attention_layer")


@dataclass(frozen=True)
class Recipe:
    """One method with every value resolved. It minimises, with x the clean and x~ the perturbed input,

        clean_weight * CE(x) + perturbed_weight * CE(x~) + consistency_weight * D(x, x~)

    method:            the recipe's name, with `:paper` where the published values are meant
    noise:             noise in the text that the method needs ("" for none)
    clean_weight, perturbed_weight, consistency_weight: of the three terms

    perturbation:      what x~ is. "none"; in the embeddings "random" (randomized smoothing), "ascent" (on CE:
                       adversarial training) or "virtual" (ascent on D, which needs no label); "text" (the text under
                       `noise`, while x stays clean); "mixup" (each example mixed with one of its batch)
    perturb_layer:     where: 0 behind the word embeddings, k >= 1 at the input of encoder layer k, counted from 1
    perturb_draw:      law of a random perturbation, and of the start of an ascent
    perturb_norm, perturb_scope, radius, radius_unit: the ball (see `perturbation.radius`)
    perturb_options:   in a multiple choice each option's text has its "own" perturbation, or one is "shared" by all
                       options of a question, position by position (its stem comes first in each)
    perturb_tokens:    which tokens are perturbed: "all", or "words", which leaves <s> and </s> as they are (padding is
                       never perturbed)
    perturb_steps:     steps of the ascent; where all points count, points (the last of which takes no step)
    perturb_step_size: size of a step, as a fraction of the radius (None: 1 for one step, else 1.25 / steps)
    perturb_direction: a step goes along the steepest ascent in the norm (for l-infinity the gradient's sign), or along
                       the gradient scaled to norm 1 ("scaled")
    perturb_start:     the ball that the random start of an ascent is drawn from, as a fraction of the radius (0: no
                       random start)
    perturbed_points:  x~ is the last point of the ascent, or all its points, whose losses are averaged (FreeLB)
    perturbed_embeddings: "detached": the perturbed pass does not train what lies below the perturbation (R3F)
    dropout_masks:     "shared": all passes of an update have the same, so that nothing but the perturbation sets x~
                       apart from x; "own": each pass draws its own, and a consistency compares two of them too.
                       Layers that LayerDrop leaves out are left out of all passes of an update either way

    consistency:       D: "kl" (clean || perturbed), "symmetric_kl", "js" (Jensen-Shannon) or "mse" of probabilities
    consistency_stop:  the side whose gradient is stopped in D; "each": in each direction of symmetric_kl its target

    mixup_alpha:       the mixing weight is drawn from Beta(alpha, alpha)
    teacher_weight:    of KL(teacher(x~) || x~), the teacher being a checkpoint of an earlier run (xTune)
    bregman_weight:    of the symmetric KL to a running average of the model itself (SMART)
    bregman_decay:     how much of that average an update keeps
    embedding_push:    of the mean square between the embeddings of x and x~, which is maximised (EAR)
    attention_pull:    of the mean square between their attention maps in `attention_layer` (counted from 1; EAR)
    spectral_norm:     whether the head's last layer is divided by its largest singular value (R4F)
    """

    method: str
    noise: str = ""
    clean_weight: float = 1.0
    perturbed_weight: float = 0.0
    consistency_weight: float = 0.0
    perturbation: str = "none"
    perturb_layer: int = 0
    perturb_draw: str = "gaussian"
    perturb_norm: str = "l2"
    perturb_scope: str = "token"
    perturb_options: str = "own"
    perturb_tokens: str = "all"
    perturb_direction: str = "steepest"
    perturb_steps: int = 1
    perturb_step_size: float | None = None
    perturb_start: float = 0.0
    perturbed_points: str = "last"
    perturbed_embeddings: str = "trained"
    dropout_masks: str = "shared"
    radius: float = 0.0
    radius_unit: str = "relative"
    consistency: str = "symmetric_kl"
    consistency_stop: str = "none"
    mixup_alpha: float = 0.0
    teacher_weight: float = 0.0
    bregman_weight: float = 0.0
    bregman_decay: float = 0.99
    embedding_push: float = 0.0
    attention_pull: float = 0.0
    attention_layer: int = 1
    spectral_norm: bool = False

    def settings(self) -> dict[str, Any]:
        """The resolved values as plain data, for the log and the run record."""
        return asdict(self)

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Recipe:
        """The recipe of a run record, which a recipe file may have left: its name may be a path."""
        return cls(**{f.name: settings[f.name] for f in fields(cls) if f.name in settings})

    @property
    def perturbs(self) -> bool:
        """Whether a term of the loss looks at the perturbed input; otherwise it is not made."""
        weights = (self.perturbed_weight, self.consistency_weight, self.teacher_weight)
        return self.perturbation != "none" and any((*weights, self.embedding_push, self.attention_pull))

    @property
    def trains_clean(self) -> bool:
        """Whether the loss has a gradient through the clean pass; a stopped side of the consistency is made, but
        nothing flows back through it on that account."""
        compares = self.consistency_weight > 0 and self.consistency_stop != "clean"
        return any((self.clean_weight, self.bregman_weight, compares, self.embedding_push, self.attention_pull))

    @property
    def two_views(self) -> bool:
        """Whether a batch has to hold a noised view of its text beside the clean one."""
        return self.perturbation == "text"

    @property
    def one_pass(self) -> bool:
        """Whether an update is one forward pass and one backward pass."""
        passes = bool(self.trains_clean or self.consistency_weight) + self.perturbs
        ascends = self.perturbs and self.perturbation in ("ascent", "virtual")
        return passes == 1 and not ascends and not self.bregman_weight

    def check_layers(self, count: int) -> None:
        """Raise `UserError` for a layer that an encoder of `count` layers does not have."""
        used = {"perturb_layer": self.perturbs, "attention_layer": self.attention_pull > 0}
        for key in (key for key, matters in used.items() if matters):
            if getattr(self, key) > count:
                raise UserError(f"{flag(key)} {getattr(self, key)}: the encoder has {count} layers")

    def check_wrapper(self, name: str) -> None:
        """Raise `UserError` for a method of several passes under one of fairscale's wrappers, `name`."""
        if not self.one_pass:
            raise UserError(
                f"{name}: not with --method {self.method}, which makes several passes an update or takes gradients for "
                "its input alone: fairscale's wrapper expects each backward pass to end at its parameters; use "
                "--ddp-backend legacy_ddp, with --checkpoint-activations and --freeze-embeddings to save memory"
            )


KEYS = {f.name: str(f.type) for f in fields(Recipe) if f.name != "method"}


def flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def check(recipe: Recipe, name: str) -> None:
    """Raise `UserError` for a value that is not allowed, and for settings that contradict each other."""
    for key, allowed in CHOICES.items():
        if getattr(recipe, key) not in allowed:
            raise unknown(f"value of {flag(key)}", getattr(recipe, key), allowed)
    for key in AT_LEAST_0:
        value = getattr(recipe, key)
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{flag(key)} {value}: must be a finite number, 0 or larger")
    for key in AT_LEAST_1:
        if getattr(recipe, key) < 1:
            raise UserError(f"{flag(key)} {getattr(recipe, key)}: must be 1 or larger")
    if recipe.perturb_layer < 0:
        raise UserError(f"--perturb-layer {recipe.perturb_layer}: must be 0 (word embeddings) or larger")
    step = recipe.perturb_step_size
    if step is not None and not (math.isfinite(step) and step > 0):
        raise UserError(f"--perturb-step-size {step}: must be a finite number above 0")
    if not 0 <= recipe.bregman_decay < 1:
        raise UserError(f"--bregman-decay {recipe.bregman_decay}: must be 0 or larger, and below 1")
    if not any(getattr(recipe, key) for key in WEIGHTS):
        given = ", ".join(flag(key) for key in WEIGHTS)
        raise UserError(f"{name}: {given} are all 0, so nothing would be trained")
    for wrong, why in _contradictions(recipe):
        if wrong:
            raise UserError(f"{name}: {why}")


def _contradictions(recipe: Recipe) -> list[tuple[bool, str]]:
    kind = recipe.perturbation
    ascends = kind in ("ascent", "virtual")
    needs_text = [key for key in ("teacher_weight", "embedding_push", "attention_pull") if getattr(recipe, key)]
    return [
        (
            kind == "none" and (recipe.perturbed_weight > 0 or recipe.consistency_weight > 0),
            "perturbed_weight or consistency_weight without a perturbation (allowed: "
            f"{', '.join(CHOICES['perturbation'][1:])})",
        ),
        (
            bool(needs_text) and kind != "text",
            f"{', '.join(needs_text)} compares the text with its noised view, which needs `perturbation: text`",
        ),
        (
            kind == "mixup" and recipe.consistency_weight > 0,
            "--consistency-weight has no meaning with mixup: a mixed input agrees with none of its two examples",
        ),
        (
            kind == "mixup" and not (math.isfinite(recipe.mixup_alpha) and recipe.mixup_alpha > 0),
            f"--mixup-alpha {recipe.mixup_alpha}: must be a finite number above 0",
        ),
        (
            kind == "virtual" and not recipe.perturb_start > 0,
            "--perturb-start 0: a virtual ascent has no gradient at the clean input, so its start must be above 0",
        ),
        (
            kind == "virtual" and recipe.consistency_stop == "perturbed",
            "--consistency-stop perturbed: leaves a virtual ascent without a gradient",
        ),
        (
            recipe.consistency_stop == "each" and recipe.consistency != "symmetric_kl",
            f"--consistency-stop each: goes with symmetric_kl, whose two directions have a target each, not with "
            f"{recipe.consistency}",
        ),
        (
            recipe.perturbed_points == "all" and not ascends,
            "--perturbed-points all: averages over the points of an ascent (perturbation: ascent or virtual)",
        ),
        (
            recipe.perturbed_embeddings == "detached" and kind in ("none", "text", "mixup"),
            "--perturbed-embeddings detached: belongs to a perturbation of the embeddings",
        ),
    ]


def idle(recipe: Recipe) -> dict[str, str]:
    """The settings that change nothing beside the others, each with what they would need."""
    ascends = recipe.perturbation in ("ascent", "virtual")
    ball = [key for key in KEYS if key.startswith(("perturb_", "perturbed_embeddings", "perturbed_points", "radius"))]
    steps = recipe.perturb_steps - (recipe.perturbed_points == "all")
    compares = recipe.consistency_weight > 0 or (recipe.perturbs and recipe.perturbation == "virtual")
    one_cube = recipe.perturb_norm == "linf" and recipe.perturb_direction != "scaled"
    conditions = [
        (ball, recipe.perturbs, "a weight above 0 of a term that looks at the perturbed input"),
        (["perturb_draw"], not ascends or recipe.perturb_start > 0, "--perturb-start above 0"),
        (["perturb_step_size", "perturb_direction"], not ascends or steps > 0, "--perturb-steps above 1"),
        (["mixup_alpha"], recipe.perturbs, "a weight above 0 of a term that looks at the mixed input"),
        (["dropout_masks"], not recipe.one_pass, "a second pass in the update"),
        (["perturb_scope"], not one_cube, "--perturb-norm l2: in linf both scopes are one ball"),
        (["perturb_direction"], recipe.perturb_norm != "l2", "--perturb-norm linf: in l2 both directions are one"),
        (["consistency", "consistency_stop"], compares, "--consistency-weight above 0"),
        (["bregman_decay"], recipe.bregman_weight > 0, "--bregman-weight above 0"),
        (["attention_layer"], recipe.attention_pull > 0, "--attention-pull above 0"),
    ]
    return {key: needs for keys, used, needs in conditions if not used for key in keys}
