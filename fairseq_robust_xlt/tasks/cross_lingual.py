"""The task: published files in, a trained classifier and zero-shot scores out."""

from __future__ import annotations

import atexit
import contextlib
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask, register_task
from omegaconf import DictConfig, open_dict

from fairseq_robust_xlt import benchmarks, recipes, text
from fairseq_robust_xlt.encoders import Vocabulary
from fairseq_robust_xlt.encoders.vocabulary import DICTIONARY
from fairseq_robust_xlt.errors import UserError
from fairseq_robust_xlt.files import sha256
from fairseq_robust_xlt.inference import record
from fairseq_robust_xlt.noise import NoiseChain, NoiseOptions, SynonymNoise, build
from fairseq_robust_xlt.tasks.config import CrossLingualConfig
from fairseq_robust_xlt.tasks.dataset import CrossLingualDataset
from fairseq_robust_xlt.tasks.evaluation import Evaluation
from fairseq_robust_xlt.tasks.settings import Settings

logger = logging.getLogger(__name__)


@register_task("cross_lingual", dataclass=CrossLingualConfig)
class CrossLingualTask(FairseqTask):
    """Sentence and pair classification, trained on one language and scored in every other.

    The benchmark's table says what the files are; the encoder directory gives dictionary and pieces. Raises
    `UserError` for whatever does not fit: see `settings`, `text`, `inference.record` and `models.fitting`.
    """

    #: The benchmark of a named task; None where --benchmark names it.
    preset: str | None = None
    #: The criterion may ask for noise in the text.
    makes_noise = True

    def __init__(self, cfg, settings: Settings):
        super().__init__(cfg)
        self.settings = settings
        self.benchmark = benchmarks.load(settings.benchmark)
        if settings.selects is not None:
            subset = text.resolve(self.benchmark, settings.data, settings.selects)
            if (subset.split, subset.languages) != ("dev", (self.benchmark.source,)):
                raise UserError(
                    f"--valid-subset {settings.selects}: the first one selects checkpoints, and selecting on other "
                    "than source-language development data is not zero-shot; put valid first: --valid-subset "
                    f"valid,{settings.selects}"
                )
        text.encoding.check_max_length(cfg.max_length)
        self.vocabulary = Vocabulary.load(settings.encoder)
        self.dictionary = Dictionary.load(str(Path(settings.encoder) / DICTIONARY))
        if self.dictionary.index("<mask>") == self.dictionary.unk():
            self.dictionary.add_symbol("<mask>")
        self.noise: NoiseChain | None = None
        self.two_views = False
        self.evaluation = Evaluation(self, settings) if settings.scoring else None
        self.collapsed: str | None = None
        self._begun = False
        self.record: record.RunRecord | None = None
        self.pooling = "first"
        self.proximal: Any = None  # what the criterion keeps from update to update, if anything

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        return cls(cfg, Settings.of(cfg, cls.preset, from_checkpoint=kwargs.get("from_checkpoint", False)))

    @property
    def source_dictionary(self):
        return self.dictionary

    @property
    def target_dictionary(self):
        return None

    def max_positions(self):
        return self.cfg.max_length

    # ---- model and criterion ---------------------------------------------------------------------------------------

    def build_model(self, cfg, from_checkpoint=False):
        if self.settings.spectral_norm:
            # Into the configuration that checkpoints store, so that the head is the same when they are used.
            with open_dict(cfg) if isinstance(cfg, DictConfig) else contextlib.nullcontext():
                cfg.spectral_norm_classification_head = True
        if isinstance(cfg, Namespace):
            # fairseq reads the model's settings from one flat namespace, in which `encoder` is a group of its own.
            cfg = Namespace(**{key: value for key, value in vars(cfg).items() if key != "encoder"})
        model = super().build_model(cfg, from_checkpoint)
        if not hasattr(model, "weights_loaded"):
            raise UserError(f"--arch: the tasks of fairseq_robust_xlt need one of xlmr_*, not {type(model).__name__}")
        if self.cfg.max_length > model.max_positions():
            raise UserError(f"--max-length {self.cfg.max_length}: the encoder has {model.max_positions()} positions")
        model.register_classification_head(self.cfg.classification_head_name, num_classes=self.benchmark.outputs)
        model.heads_required = self.settings.continues
        self.pooling, self.layers = model.args.pooling, model.args.encoder_layers
        return model

    def build_criterion(self, cfg, **kwargs):
        criterion = super().build_criterion(cfg, **kwargs)
        if not hasattr(criterion, "recipe"):
            raise UserError(f"--criterion {cfg._name}: the tasks of fairseq_robust_xlt need robust_classification")
        if criterion.classification_head_name != self.cfg.classification_head_name:
            raise UserError(
                f"classification_head_name: the task has {self.cfg.classification_head_name!r} and the criterion "
                f"{criterion.classification_head_name!r}; give both the same name"
            )
        criterion.recipe.check_layers(self.layers)
        if not self.settings.scoring:
            self._begin_run(criterion.recipe, criterion.teacher)
            self.proximal = criterion.proximal
        return criterion

    def _begin_run(self, recipe, teacher) -> None:
        """Fix what this training run is: its noise and its record."""
        spec, self.two_views = self.cfg.noise or recipe.noise, recipe.two_views
        noise: dict[str, Any] = {}
        if spec:
            self.noise = build(spec, NoiseOptions(self.settings.synonyms, self.cfg.synonym_match))
            noise = {"noise": spec, "synonym_match": self.cfg.synonym_match}
            if self.settings.synonyms:
                noise["synonyms_sha256"] = sha256(self.settings.synonyms)
        elif recipe.two_views:
            raise UserError(f"--method {recipe.method}: compares a text with a noised one; say how with --noise")
        elif self.settings.synonyms:
            raise UserError(f"--synonyms {self.settings.synonyms}: has no effect without --noise synonyms")
        elif self.cfg.synonym_match != CrossLingualConfig.synonym_match:
            raise UserError(f"--synonym-match {self.cfg.synonym_match}: has no effect without --noise synonyms")
        weights = self.settings.weights
        self.record = record.RunRecord(
            **self.identity(),
            encoder={"file": weights, "sha256": sha256(weights)} if weights and Path(weights).is_file() else None,
            recipe={**recipe.settings(), "cost": recipes.thirds(recipe)},
            noise=noise,
            teacher=teacher.source if teacher else None,
            seed=self.cfg.seed,
            versions=record.versions(),
        )
        if self.settings.save_dir:
            self.record = record.check_folder(self.settings.save_dir, self.record, self.settings.continues)

    def identity(self) -> dict[str, Any]:
        """The parts of the run record by which a checkpoint and its use have to agree."""
        return {
            "benchmark": record.describe(self.benchmark),
            "labels": list(self.benchmark.labels),
            "vocabulary": {"rows": len(self.dictionary), **record.vocabulary_hashes(self.settings.encoder)},
            "head": {"name": self.cfg.classification_head_name, "pooling": self.pooling},
            "max_length": self.cfg.max_length,
        }

    def state_dict(self):
        return {"run_record": self.record.asdict()} if self.record else {}

    def load_state_dict(self, state_dict):
        """Take the record of a checkpoint that is to be used. Raises `UserError` if it cannot be used so."""
        saved = state_dict.get("run_record")
        if saved is None:
            raise UserError("the checkpoint has no run record: it was not trained by a task of fairseq_robust_xlt")
        self.pooling = saved["head"]["pooling"]
        record.check_use(saved, self.identity())
        self.record = record.RunRecord(**saved)

    def get_checkpoint_dict(self):
        """What a run that goes on needs beside model and optimiser; fairseq hands it back to `set_checkpoint_dict`."""
        return {} if self.proximal is None else {type(self).__name__: self.proximal.state_dict()}

    def set_checkpoint_dict(self, state):
        if self.proximal is not None:
            self.proximal.load_state_dict(state)

    # ---- data ------------------------------------------------------------------------------------------------------

    def load_dataset(self, split, combine=False, task_cfg=None, epoch=1, **kwargs):
        """Read and encode a subset (see `text.subsets` for the names)."""
        subset = text.resolve(self.benchmark, self.settings.data, split)
        examples = text.load_subset(self.benchmark, self.settings.data, subset)
        encoded = text.encode(examples, self.vocabulary, self.cfg.max_length)
        training = subset.split == "train" and not self.settings.scoring
        unlabelled = next((example for example in examples if example.label is None), None)
        if unlabelled and not self.settings.scoring:
            raise UserError(
                f"{unlabelled.where}: no gold label, so {split} cannot be validated in training; fairseq-validate "
                "writes predictions for it"
            )
        languages = " ".join(subset.languages)
        logger.info(
            "%s: %d examples in %s, mean length %.1f tokens, %d truncated to %d",
            split,
            len(examples),
            f"{len(subset.pairs)} pairs of {languages}" if subset.pairs else languages,
            encoded.sizes.mean(),
            encoded.truncated,
            self.cfg.max_length,
        )
        if subset.missing:
            logger.warning("%s: no file for %s of the benchmark's languages", split, " ".join(subset.missing))
        self.datasets[split] = CrossLingualDataset(
            examples,
            encoded,
            self.benchmark,
            self.vocabulary,
            self.cfg.max_length,
            self.cfg.seed,
            name=split,
            shuffle=training,
            noise=self.noise if training else None,
            two_views=self.two_views and training,
        )
        if training and self.noise:
            self._log_noise(examples)

    def _log_noise(self, examples) -> None:
        texts = [t for example in examples[:2000] for sequence in example.sequences for t in sequence]
        for noise in self.noise.noises if self.noise else ():
            if isinstance(noise, SynonymNoise):
                logger.info(
                    "noise synonyms: %.1f %% of the words have a synonym, %.1f %% are replaced in a draw",
                    100 * noise.coverage(texts),
                    100 * noise.replaced(texts, self.cfg.seed),
                )

    def get_batch_iterator(self, dataset, *args, **kwargs):
        # fairseq drops the tail of a data set whose size is not a multiple of 8, also when it is scored.
        kwargs["required_batch_size_multiple"] = 1
        limit, longest = kwargs.get("max_tokens"), int(dataset.num_tokens_vec(slice(None)).max())
        if limit and longest > limit:
            each = f" ({dataset.options} options, each as long as the longest)" if dataset.options else ""
            raise UserError(
                f"--max-tokens {limit}: the longest example of {dataset.name} has {longest} tokens{each}; give at "
                "least that, or a smaller --max-length"
            )
        if not kwargs.get("num_workers"):
            kwargs["data_buffer_size"] = 0  # its reader thread aborts the interpreter at the end of a run
        return super().get_batch_iterator(dataset, *args, **kwargs)

    # ---- training --------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch, model):
        if not model.weights_loaded and not self.cfg.from_scratch:
            raise UserError(
                "the encoder's weights were never loaded, so a random encoder would be trained; give them with "
                f"--finetune-from-model {self.settings.encoder}/model.pt, or allow it with --from-scratch"
            )
        model.keep_embedding_norm()
        if self._begun or not self.settings.first:
            return
        self._begun = True
        if self.record and self.settings.saves:
            record.write_beside(self.settings.save_dir, self.record, self.settings.encoder, self.benchmark)
        atexit.register(self._say_if_collapsed)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        criterion.seed_and_update = (self.cfg.seed, update_num)
        if self.two_views and "noised_input" not in sample:
            # Where the batches do not go round, fairseq lets a process train on its dummy batch, which counts nothing:
            # one of a validation set, if there was a validation since the last epoch began.
            sample = {**sample, "noised_input": sample["net_input"]}
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def begin_valid_epoch(self, epoch, model):
        self._validated = 0

    def post_validate(self, model, stats, agg):
        """Notice a classifier that predicts one class, on the subset that selects checkpoints."""
        if self._validated == 0 and "most_predicted" in stats:
            share = float(stats["most_predicted"])
            self.collapsed = f"{share:.1f} %" if share >= 99.0 else None
        self._validated += 1

    def _say_if_collapsed(self) -> None:
        if self.collapsed:
            logger.warning(
                "this training ended at a single class: %s of the predictions on the first --valid-subset are the "
                "same label. Lower --radius or the learning rate, lengthen the warm-up, or train longer.",
                self.collapsed,
            )

    # ---- scoring ---------------------------------------------------------------------------------------------------

    def valid_step(self, sample, model, criterion):
        if self.evaluation is None:
            return super().valid_step(sample, model, criterion)
        return self.evaluation.step(sample, model, criterion)

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        if self.evaluation is not None:
            self.evaluation.finish()


def _named(benchmark: str) -> None:
    name = "".join(part.capitalize() for part in benchmark.split("_")) + "Task"
    task = type(name, (CrossLingualTask,), {"preset": benchmark, "__doc__": f"The benchmark {benchmark}."})
    register_task(benchmark, dataclass=CrossLingualConfig)(task)


for _benchmark in benchmarks.known():
    _named(_benchmark)
