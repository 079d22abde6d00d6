"""The configuration of a fine-tuning run, and its commented template, generated from descriptions and defaults."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.finetune.presets import WORDS, PresetName, with_preset
from aes_dynloss.essays.model.card import CardConfig
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.teaching.losses.component_table import COMPONENTS, those_that_need
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.teaching.teachers.config import (
    DlfConfig,
    FrozenTeacherConfig,
    GlcConfig,
    LearningTeacherConfig,
    MwnConfig,
    PolicyConfig,
    RewritingConfig,
    TeacherConfig,
    forward_correction,
)
from aes_dynloss.training.config import TrainingConfig, check_averaging


class EvaluationConfig(ConfigModel):
    """How predictions are measured."""

    resamples: int = Field(default=1000, ge=100, le=1_000_000, description="Bootstrap resamples behind each interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    floors: bool = Field(
        default=True,
        description="Whether simple scorers stand beside the figures: mean_score, length, length_rescaled, "
        "tfidf_ridge, tfidf_ridge_rescaled, words_and_ngrams, words_and_ngrams_rescaled.",
    )
    floors_cache: str | None = Field(
        default=None,
        min_length=1,
        description="Folder that keeps the floors' figures, so that later runs on the same essays and splits need not "
        "fit them again; null: none.",
    )
    page: bool = Field(
        default=True, description="Whether report.html is written beside report.json; drawing it takes seconds."
    )
    screen: bool = Field(
        default=True, description="Whether the model learns to flag unusual essays; false: it flags none of them."
    )
    explained: int = Field(
        default=20,
        ge=0,
        le=10_000,
        description="Judged essays of a prompt that tell what scores come from: parts of essays and groups of "
        "features, a section of the report of `finetune`; 0: none.",
    )
    keep_ids: bool = Field(
        default=True,
        description="Whether the model folder keeps ids of up to 256 training essays a prompt, beside their vectors, "
        "so that `explain` names those nearest to an essay; false: it gives their scores alone.",
    )


def default_values() -> dict[str, Any]:
    """All keys but ``data.source`` and ``data.prompts`` with their defaults."""
    config = FinetuneConfig(data=DataConfig(source="made-up-essays"))
    return config.model_dump(mode="json", exclude={"data": {"source", "prompts"}})


class FinetuneConfig(ConfigModel):
    """Essays, scorer, loss, training and evaluation of one run.

    Example:
        >>> terms = {"stde": {"schedule": "morris", "a": 0.5, "b": 0.15, "c": 1.1}, "mse": "rest"}
        >>> config = FinetuneConfig(
        ...     data={"source": "made-up-essays"}, loss={"terms": terms}, training={"epochs": 5}
        ... )
        >>> config.loss.terms
        {'stde': Morris(schedule='morris', a=0.5, b=0.15, c=1.1), 'mse': 'rest'}
        >>> config.training.epochs, config.model.head
        (5, 'regression')
    """

    preset: PresetName | None = Field(
        default=None,
        description="What stands in the place of defaults, one of "
        + "; ".join(f"{name}: {words}" for name, words in WORDS.items())
        + ". Keys beside it go before it. null: none. For a table, `aes-dynloss finetune` chooses one.",
    )
    data: DataConfig
    model: ModelConfig = Field(default=ModelConfig())
    loss: LossConfig = Field(default=LossConfig())
    teacher: TeacherConfig | None = Field(
        default=None,
        description="A teacher that steers the loss instead of schedules: kind dlf, dln, mwn or glc, or from: DIR.",
    )
    training: TrainingConfig = Field(default=TrainingConfig())
    evaluation: EvaluationConfig = Field(default=EvaluationConfig())
    card: CardConfig = Field(default=CardConfig())

    @property
    def leaves_out_of_fold(self) -> bool:
        """Whether a run predicts its train essays, each by a model that was fitted without it.

        An encoder that has learned from the same essays is no other one's for any of them: beside dev essays, an exact
        head over one predicts none.
        """
        if self.model.solver == "sgd":
            return self.model.cross_fit is not None
        return self.model.start_from is None or self.data.split.cross_fit is not None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: object) -> object:
        """The model sees the data's own numeric columns; what a preset says stands in the place of defaults."""
        if not isinstance(values, Mapping):
            return values
        values = with_preset(values)
        data, model = values.get("data"), values.get("model") or {}
        columns = data.get("columns") if isinstance(data, Mapping) else getattr(data, "columns", None)
        own = columns.get("features") if isinstance(columns, Mapping) else getattr(columns, "features", None)
        is_list = isinstance(own, list) and all(isinstance(name, str) for name in own)  # else the section data says so
        if not own or not is_list or not isinstance(model, Mapping):
            return values
        return {**values, "model": {"own_features": own, **model}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_own_columns()
        target, prompts = self.data.split.target_prompt, self.model.prompts
        transfers = self.model.kind == "transfer"
        if target is not None and prompts != "shared" and not transfers:
            raise ValueError(
                f"data.split.target_prompt leaves prompt {target} without training essays, but model.prompts is "
                f"{prompts}, which learns from every prompt's own. Set model.prompts to shared (with model.head "
                "regression), or model.kind to transfer"
            )
        if transfers and self.data.split.cross_fit is not None:
            raise ValueError(
                "model.kind transfer scores each prompt without its essays already; leave data.split.cross_fit out"
            )
        augmentation = self.data.augmentation
        if augmentation is not None and "off_topic" in augmentation.kinds and self.model.prompts == "shared":
            raise ValueError(
                "data.augmentation.kinds names off_topic, but with model.prompts shared the model is not told the "
                "prompt, and one text would be on topic and off it; leave the kind out"
            )
        self._check_fits("the loss", list(self.loss.terms))
        if self.model.cross_fit is not None and isinstance(self.teacher, LearningTeacherConfig):
            raise ValueError(
                "model.cross_fit: a teacher that learns would be another one for each head. Leave cross_fit out, or "
                "freeze the teacher (teacher: {from: DIR})"
            )
        if self.model.cross_fit is not None and augmentation is not None:
            raise ValueError("model.cross_fit: a changed copy would betray its essay; leave data.augmentation out")
        if self.model.solver != "sgd":
            self._check_no_training(augmentation is not None)
        return self

    def _check_own_columns(self) -> None:
        """Refuse columns that the model does not see, or that would go by a feature's name."""
        columns, names = self.data.columns.features, self.model.feature_names
        if self.model.own_features != columns:
            raise ValueError(
                f"model.own_features is [{', '.join(self.model.own_features)}], but data.columns.features is "
                f"[{', '.join(columns)}]; name the columns in data.columns.features alone"
            )
        for name in columns:
            if names.count(name) > 1:
                raise ValueError(
                    f"data.columns.features names {name!r}, which is a feature of model.linguistic, too; rename that "
                    "column"
                )

    def _check_no_training(self, has_copies: bool) -> None:
        """Refuse what belongs to training by batches."""
        model = self.model
        what = f"model.solver {model.solver}" if model.kind == "encoder" else f"model.kind {model.kind}"
        instead = "set model.solver to sgd" if model.kind == "encoder" else "set model.kind to encoder"
        if self.loss != LossConfig() or self.teacher is not None:
            raise ValueError(
                f"{what} minimises the squared error, not batch by batch; leave the sections loss and teacher out, or "
                f"{instead}"
            )
        if has_copies:
            raise ValueError(
                f"{what} predicts training essays by models that were fitted without them, which a changed copy would "
                f"betray; leave data.augmentation out, or {instead}"
            )

    @model_validator(mode="after")
    def _check_raters(self) -> Self:
        if self.loss.by and not isinstance(self.teacher, DlfConfig | FrozenTeacherConfig):
            raise ValueError(
                "loss.by: a teacher learns those weights; set teacher: {kind: dlf}, or from: DIR of one that did. For "
                "fixed weights there are data.untrusted, data.trusted_weight and data.columns.weight"
            )
        if "rater" in self.loss.by and self.data.columns.rater is None:
            raise ValueError("loss.by rater needs to know who gave each score; name the column in data.columns.rater")
        self._check_traits()
        if "score" not in self.loss.by and self.loss.levels != LossConfig().levels:
            raise ValueError("loss.levels are those of scores; add score to loss.by, or leave loss.levels out")
        what = "loss.by" if self.loss.by else forward_correction(self.teacher)
        if what is not None and self.data.augmentation is not None:
            raise ValueError(f"{what}: nobody rated changed copies of essays; leave data.augmentation out")
        fitted_on_train = self.model.solver != "sgd" or self.model.cross_fit is not None
        if self.data.untrusted == "standardise" and self.model.postprocessing == "cut_points" and fitted_on_train:
            raise ValueError(
                "model.postprocessing cut_points would be fitted on train essays, whose scores are no score points "
                "after data.untrusted standardise; set it to rescale"
            )
        return self

    def _check_traits(self) -> None:
        """Refuse weights of traits that there are not."""
        traits = self.data.columns.traits
        unknown = [name for name in self.loss.traits if name not in traits]
        if unknown:
            known = f"known are {', '.join(traits)}" if traits else "data.columns.score names no traits"
            raise ValueError(f"loss.traits names {', '.join(unknown)}; {known}")
        weights = [self.loss.traits.get(name, 1.0) for name in traits]
        if weights and (min(weights) < 0 or max(weights) == 0):
            raise ValueError("loss.traits: weights are at least 0, and one of them is above")
        if "trait" in self.loss.by and (not traits or "rater" in self.loss.by):
            raise ValueError(
                "loss.by trait needs several traits in data.columns.score, and goes with score alone, not with rater"
            )

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        if self.teacher is None:
            return self
        self._check_taught_loss()
        if (what := forward_correction(self.teacher)) is not None:
            self._check_trust(what)
        if isinstance(self.teacher, FrozenTeacherConfig | GlcConfig | PolicyConfig):
            return self
        if self.teacher.measure is not None:
            self._check_fits("teacher.measure", [self.teacher.measure])
        check_averaging(self.training, self.teacher)
        return self

    def _check_taught_loss(self) -> None:
        """Refuse a section loss that the teacher has no use for, or cannot steer."""
        if isinstance(self.teacher, DlfConfig) and (self.model.head == "regression" or self.loss.by):
            self._check_terms_can_be_steered(self.teacher)
        elif isinstance(self.teacher, PolicyConfig | RewritingConfig):
            self._check_terms_are_numbers(self.teacher)
        elif self.loss.by:
            pass  # a frozen teacher's terms are compared with these
        elif isinstance(self.teacher, MwnConfig) and self.model.head == "regression":
            self._check_terms_are_of_elements()
        elif self.loss != LossConfig():
            raise ValueError(
                "this teacher brings its own loss; leave the section loss out (with kind dlf or mwn and model.head "
                "regression the teacher steers loss.terms, and so does one of your own)"
            )

    def _check_trust(self, what: str) -> None:
        """Refuse a forward correction without what it compares."""
        if self.loss.by:
            raise ValueError(f"{what} is a loss of its own; leave loss.by out")
        if self.data.trusted is None or self.model.head == "regression":
            raise ValueError(
                f"{what} needs adjudicated essays (data.trusted) and a distribution (model.head softmax or ordinal)"
            )
        if self.data.untrusted == "leave_out" or self.data.split.teacher_dev_fraction > 0:
            raise ValueError(
                f"{what} compares trusted training essays with the others; leave out data.untrusted leave_out and "
                "data.split.teacher_dev_fraction"
            )

    def _check_terms_can_be_steered(self, teacher: DlfConfig) -> None:
        for name, weight in self.loss.terms.items():
            if isinstance(weight, float) and weight <= 0:
                raise ValueError(
                    f"loss.terms.{name} is {weight:g}, but a teacher starts from weights above 0; write a small one, "
                    "such as 0.1"
                )
        self._check_kinks(teacher)

    def _check_terms_are_numbers(self, teacher: PolicyConfig | RewritingConfig) -> None:
        for name, weight in self.loss.terms.items():
            if not isinstance(weight, float):
                raise ValueError(
                    f"loss.terms.{name} is not a number, but a teacher of kind {teacher.kind} starts from plain "
                    "numbers; write one"
                )
        if isinstance(teacher, RewritingConfig):
            self._check_kinks(teacher)

    def _check_kinks(self, teacher: DlfConfig | RewritingConfig) -> None:
        for name in self.loss.terms:
            if COMPONENTS[name].kinked and teacher.hypergradient.by_differences:
                raise ValueError(
                    f"teacher.hypergradient.estimator by differences finds curvature at the kink of {name} that is not "
                    "there; take huber in its place, or the estimator exact"
                )

    def _check_terms_are_of_elements(self) -> None:
        for name, weight in self.loss.terms.items():
            if COMPONENTS[name].over_batch:
                raise ValueError(
                    f"loss.terms.{name} is one number for a whole batch, but a teacher of kind mwn weights each essay "
                    "by its own loss; take losses of essays, such as mse or huber"
                )
            if not isinstance(weight, float):
                raise ValueError(
                    f"loss.terms.{name} is not a number, but a teacher of kind mwn weights a loss that stays the same; "
                    "write a number"
                )

    def _check_fits(self, what: str, names: list[str]) -> None:
        """Refuse components that read what the head does not give."""
        if self.model.head == "regression":
            for name in those_that_need("log_probs", names):
                raise ValueError(f"{what} {name} needs a distribution; set model.head to softmax or ordinal")
        if self.model.link != "sigmoid":
            for name in those_that_need("logits", names):
                raise ValueError(f"{what} {name} needs model.head regression with model.link sigmoid")


_WIDTH = 110
_HEADER = """\
# Configuration of `aes-dynloss finetune`. Every key but data.source may be left out; what stands here is the default.
# On the command line KEY=VALUE goes before it, such as training.epochs=3. Paths are relative to the current folder.
"""
# What a default cannot show.
_EXAMPLES = {
    "data.source": "essays.csv",
    "data.prompts": '\n# Such as: {"1": {low: 2, high: 12}, "2": {low: 1, high: 6}}',
    "loss.terms": "\n# Such as Morris's: {stde: {schedule: morris, a: 1.0, b: 0.15, c: 1.1}, mse: rest}"
    "\n# Schedules: constant (value), morris (a, b, c), linear (start, end), cosine (start, end).",
    "model.lora": '\n# Such as: {rank: 8, alpha: 16, dropout: 0.0, targets: ["query", "value"]}',
    "teacher": "\n# Such as: {kind: dlf, episodes: 20, average: 2, hypergradient: {estimator: exact}}"
    "\n# A teacher that learns needs data.trusted or data.split.teacher_dev_fraction."
    "\n# Its keys: aes_dynloss/teaching/README.md.",
}


def config_template(values: Mapping[str, Any] = {}) -> str:
    """The text of a configuration file with every key, its meaning and its default.

    Args:
        values: What stands in the place of defaults, as nested mappings.
    """
    return _HEADER + "".join(_lines(FinetuneConfig, "", "", values))


def _lines(model: type[BaseModel], path: str, indent: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{path}{name}"
        comment = (field.description or "") + (_EXAMPLES.get(key, "") if key != "data.source" else "")
        annotation = field.annotation
        inner = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        if not indent:
            yield "\n"
        for paragraph in comment.split("\n"):
            for line in textwrap.wrap(paragraph.removeprefix("# "), _WIDTH - len(indent), break_on_hyphens=False):
                yield f"{indent}# {line}\n"
        if inner is not None:
            yield f"{indent}{name}:\n"
            yield from _lines(inner, f"{key}.", indent + "  ", values.get(name) or {})
        elif name in values:
            yield f"{indent}{name}: {json.dumps(values[name], ensure_ascii=False)}\n"
        elif field.is_required():
            yield f"{indent}{name}: {_EXAMPLES[key]}\n"
        else:
            yield f"{indent}{name}: {json.dumps(field.get_default(call_default_factory=False))}\n"
