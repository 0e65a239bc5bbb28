"""The criterion `robust_classification`: fairseq's side of the robust objective (see `recipes` and `passes`)."""

import logging
import math
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from fairseq_robust_xlt import recipes
from fairseq_robust_xlt.criterions.config import RobustClassificationConfig
from fairseq_robust_xlt.criterions.one_network import one_network
from fairseq_robust_xlt.criterions.passes import Passes, fairscale_wrapper
from fairseq_robust_xlt.criterions.proximal import Proximal
from fairseq_robust_xlt.criterions.teacher import Teacher
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.perturbation import find_word_embeddings, unwrapped

logger = logging.getLogger(__name__)

#: How much of a perturbation rounding may be before a warning says so: from there on less than about nine tenths of
#: what arrives points where it was to point.
MOST_ROUNDING = 0.5


@register_criterion("robust_classification", dataclass=RobustClassificationConfig)
class RobustClassificationCriterion(FairseqCriterion):
    """Minimises `clean_weight * CE(x) + perturbed_weight * CE(x~) + consistency_weight * D(x, x~)` (see `recipes`).

    In training x~ follows the recipe; in evaluation this is the plain classifier whatever the method. Works with the
    tasks of this package and with fairseq's `sentence_prediction`.
    Raises `UserError` for an unknown method or setting, and for what the task or the model cannot do.
    """

    def __init__(self, cfg: RobustClassificationConfig, task):
        super().__init__(task)
        if cfg.regression_target:
            raise UserError("--regression-target: robust_classification is for classification only")
        self.classification_head_name = cfg.classification_head_name
        choice = hasattr(task, "benchmark") and task.benchmark.kind == "choice"
        # A checkpoint is used as it was trained: the recipe file that it was trained with may be elsewhere, or changed.
        trained = task.record if hasattr(task, "settings") and task.settings.scoring else None
        if trained:
            self.recipe = recipes.Recipe.stored(trained.recipe)
        else:
            self.recipe = recipes.resolve(cfg.method, {name: getattr(cfg, name) for name in recipes.FLAGS}, choice)
        if cfg.perturb_options == "shared" and hasattr(task, "benchmark") and not choice:
            raise UserError(
                f"--perturb-options shared: is for a multiple choice, and {task.benchmark.name} is of kind "
                f"{task.benchmark.kind}"
            )
        if (self.recipe.noise or self.recipe.two_views) and not getattr(task, "makes_noise", False):
            raise UserError(
                f"--method {cfg.method}: needs noise in the text ({self.recipe.noise or 'a second view'}), which only "
                "the tasks of fairseq_robust_xlt make from raw files; fairseq's own reads binarised data"
            )
        self.proximal = Proximal(self.recipe.bregman_decay) if self.recipe.bregman_weight else None
        self.teacher = self._teacher(cfg.teacher, task)
        if hasattr(task, "benchmark") and not task.settings.scoring:
            _say_other_classes(self.recipe, len(task.benchmark.labels))
        self.languages = tuple(task.benchmark.languages) if hasattr(task, "benchmark") else ()
        #: Set by our tasks before each step; fairseq's own tasks leave it None, and have the seed (see `Passes._keys`).
        self.seed_and_update: tuple | None = None
        self.seed = getattr(getattr(task, "cfg", None), "seed", None) or 0
        cost = recipes.thirds(self.recipe)
        logger.info("method %s: cost %d/3 of a standard update, %s", cfg.method, cost, self.recipe.settings())

    def _teacher(self, checkpoint, task):
        if not self.recipe.teacher_weight:
            if checkpoint:
                raise UserError(f"--teacher {checkpoint}: has no meaning without a --teacher-weight above 0")
            return None
        if not checkpoint:
            raise UserError(f"--method {self.recipe.method}: needs --teacher, the checkpoint of a finished run")
        # In evaluation there is no teacher, and its file may be gone.
        return Teacher.open(checkpoint, task.identity()) if not task.settings.scoring else None

    def _check_model(self, model):
        """Our tasks say the same before the model is built; with fairseq's own this is the first to see the wrapper."""
        if not self.recipe.one_pass and (wrapper := fairscale_wrapper(model)):
            self.recipe.check_wrapper(wrapper)
        find_word_embeddings(model)  # says so of another architecture
        heads: Any = unwrapped(model).classification_heads
        layer = heads[self.classification_head_name].out_proj
        if self.recipe.spectral_norm and not hasattr(layer, "weight_orig"):
            raise UserError(
                f"--method {self.recipe.method}: needs a spectral norm on the classification head; add "
                "--spectral-norm-classification-head"
            )

    def logits(self, model, sample):
        """Class scores [batch, classes] of a collated batch; in a multiple choice the classes are the options, each of
        which has a row of its own and one score."""
        logits, _ = model(
            **sample["net_input"], features_only=True, classification_head_name=self.classification_head_name
        )
        return logits.view(-1, sample["options"]) if "options" in sample else logits

    def forward(self, model, sample, reduce=True):
        """Returns the summed loss, the number of examples (which divides the gradient), and what is logged."""
        if not self.training:
            return self.evaluate(self.logits(model, sample), sample)
        targets = sample["target"].view(-1)
        self._check_model(model)
        with one_network(model, self.classification_head_name):
            passes = Passes(self, model, sample).run()
        loss = passes.loss.sum()
        log = self._log(loss, targets, sample)
        if passes.clean_logits is not None:
            log["ncorrect"] = correct(passes.clean_logits, targets)
        if passes.perturbed_logits is not None:
            log["perturbed_ncorrect"] = correct(passes.perturbed_logits, targets)
        if passes.norms is not None:
            log |= {f"perturb_{name}": value for name, value in passes.norms._asdict().items()}
            log["non_finite"] = passes.non_finite
        return loss, targets.numel(), log

    def evaluate(self, logits, sample):
        """Loss, number of examples and log of the plain classifier, from its class scores [batch, classes].

        Examples without a gold label (target -1) do not count.
        """
        targets = sample["target"].view(-1)
        language = sample.get("language")
        if (unknown := targets < 0).any():
            logits, targets = logits[~unknown], targets[~unknown]
            language = None if language is None else language[~unknown]
        loss = F.cross_entropy(logits.float(), targets, reduction="sum")
        log = self._log(loss, targets, sample)
        predicted = logits.argmax(dim=-1)
        hits = predicted.eq(targets)
        log["ncorrect"] = hits.sum()
        for label, count in enumerate(torch.bincount(predicted, minlength=logits.size(-1))):
            log[f"predicted/{label}"] = count
        if language is not None:
            n = torch.bincount(language, minlength=len(self.languages))
            right = torch.bincount(language[hits], minlength=len(self.languages))
            for index, language in enumerate(self.languages):
                log[f"n/{language}"] = n[index]
                log[f"correct/{language}"] = right[index]
        return loss, targets.numel(), log

    @staticmethod
    def _log(loss, targets, sample):
        return {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": targets.numel(),
            "sample_size": targets.numel(),
        }

    @classmethod
    def reduce_metrics(cls, logging_outputs) -> None:
        """Aggregate over batches and processes: accuracies in percent with four digits (fairseq rounds to one)."""
        keys = sorted({key for log in logging_outputs for key in log})
        sums = {key: float(sum(log.get(key, 0) for log in logging_outputs)) for key in keys}
        size = sums["sample_size"]
        if not size:
            return
        # In bits, as fairseq logs every loss.
        metrics.log_scalar("loss", sums["loss"] / size / math.log(2), size, round=4)
        for key, name in (("ncorrect", "accuracy"), ("perturbed_ncorrect", "perturbed_accuracy")):
            if key in sums:
                metrics.log_scalar(name, 100 * sums[key] / size, size, round=4)
        if count := sums.get("perturb_counted"):
            applied, wanted, rounding = (sums[f"perturb_{name}"] / count for name in ("applied", "wanted", "rounding"))
            metrics.log_scalar("perturb_norm", applied, count, round=5)
            if rounding:
                metrics.log_scalar("perturb_rounding", rounding, count, round=5)
            if rounding > MOST_ROUNDING * wanted:
                _say_rounded(f"{rounding:.3g}", f"{wanted:.3g}")
            metrics.log_scalar_sum("non_finite", sums["non_finite"])
        predicted = [value for key, value in sums.items() if key.startswith("predicted/")]
        if predicted:
            metrics.log_scalar("most_predicted", 100 * max(predicted) / size, size, round=1)
        for language in [key[2:] for key in keys if key.startswith("n/") and sums[key]]:
            n = sums[f"n/{language}"]
            metrics.log_scalar(f"accuracy_{language}", 100 * sums[f"correct/{language}"] / n, n, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _say_other_classes(recipe, classes):
    """The published code of xTune averages a KL over the classes, of which its values have XNLI's number."""
    if recipe.method in ("xtune:paper", "xtune-stage2:paper") and classes != 3:
        logger.info(
            "method %s: its weights are for the 3 classes of XNLI, and this task has %d: averaged over these, as by "
            "the published code, they would be --consistency-weight %.4g%s",
            recipe.method,
            classes,
            recipe.consistency_weight * 3 / classes,
            f" --teacher-weight {recipe.teacher_weight * 3 / classes:.4g}" if recipe.teacher_weight else "",
        )


_rounded = False


def _say_rounded(rounding, wanted):
    """Warn once in a process that perturbations get lost, or others, between the numbers of 16 bits."""
    global _rounded
    if not _rounded:
        logger.warning(
            "perturb_rounding: perturbations of mean norm %s are moved by %s more as they are added, since embeddings "
            "in 16 bits have no numbers that near to each other; give a larger --radius, or train in fp32 (--amp on a "
            "GPU keeps embeddings in it)",
            wanted,
            rounding,
        )
    _rounded = True


def correct(logits, targets):
    return logits.detach().argmax(dim=-1).eq(targets).sum()
