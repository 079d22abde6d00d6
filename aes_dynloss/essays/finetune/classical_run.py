"""The part of a run that is a classical scorer's own: for each prompt a regression or trees."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.classical.boosting import BoostedTrees
from aes_dynloss.essays.classical.forest import LEAST_EXAMPLES as LEAST_OF_FOREST
from aes_dynloss.essays.classical.forest import WordForest
from aes_dynloss.essays.classical.left_out import PARTS, Groups
from aes_dynloss.essays.classical.ridge import LEAST_EXAMPLES
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.classical.transfer import LEAST_OF_SOURCE
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.finetune.predicted import Predicted, feature_table
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer, PromptModel
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import measure_scales
from aes_dynloss.essays.model.training_essays import FeatureSpread, TrainingEssays
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.reports.features import FeatureTable

logger = logging.getLogger(__name__)

# Training essays of a prompt, by kind of model.
_LEAST = {"strings": LEAST_EXAMPLES, "boosting": PARTS, "forest": LEAST_OF_FOREST, "transfer": LEAST_OF_SOURCE}

Array = NDArray[np.float64]


class ClassicalRun:
    """A scorer without an encoder, from its essays to its predictions.

    Args:
        config: How it is built.
        prompts: All prompts.
        parts: Essays by part: train, dev, and where it is there test.

    Raises:
        DataError: A prompt has too few training essays.
    """

    ratings = None  # no loss is learned
    compared_with = "the training essays of the same prompt"  # in the report's section of features
    unseen = False  # whether prompts without training essays are scored too, by what all others tell

    def __init__(self, config: ModelConfig, prompts: Sequence[Prompt], parts: Mapping[str, EssayTable]) -> None:
        self._parts = parts
        train = parts["train"]
        self._rows = rows_of(train, prompts)
        least = _LEAST[config.kind]
        for prompt, rows in self._rows.items():
            if len(rows) < least and (len(rows) or not self.unseen):
                raise DataError(
                    f"Prompt {prompt}: {len(rows)} training essays, but model.kind {config.kind} needs at least "
                    f"{least}. Add essays, change data.split, or leave the prompt out with data.keep_prompts."
                )
        groups = np.empty(len(train), dtype=np.int64)
        for number, rows in enumerate(self._rows.values()):
            groups[rows] = number
        lengths = np.log1p([len(text.split()) for text in train.values("text")])
        self._scales: dict[str, tuple[Array, Array]] = {}
        self._counted: dict[str, Array] = {}
        scales = measure_scales(prompts, groups, train.scores, lengths, shared=self.unseen)
        self.scorer = ClassicalScorer(config, scales, {})

    def fit(self, folder: Path, *, resume: bool) -> dict[str, Predicted]:
        """Fit each prompt's model.

        Args:
            folder: The run's; nothing is kept there on the way.
            resume: Whether the run was stopped before; it begins anew.

        Returns:
            Predictions of dev and test, and of train, each essay's by a model that was fitted without it.
        """
        del folder, resume
        train = self._parts["train"]
        texts, targets, weights, groups = train.values("text"), train.scores, train.weights, train.groups
        numbers = self.numbers("train")
        left_out = np.empty(len(train))
        for alike in self._alike():
            first = self._rows[alike[0]]
            weighted = None if weights is None else weights[first]
            grouped = None if groups is None else [groups[row] for row in first]
            essays = [texts[row] for row in first]
            of_each = [targets[self._rows[prompt]] for prompt in alike]
            fits = self._fit_prompts(essays, numbers[first], of_each, weighted, grouped)
            for prompt, (model, left) in zip(alike, fits, strict=True):
                rows = self._rows[prompt]
                self._scales[prompt] = numbers[first, 1:].mean(0), numbers[first, 1:].std(0)
                self.scorer.models[prompt], left_out[rows] = model, left
                r2 = 1 - np.mean((left - targets[rows]) ** 2) / targets[rows].var()
                logger.info("Prompt %s: %d essays, out-of-fold R^2 %.3f.", prompt, len(rows), r2)
        predicted = {"train": Predicted(left_out)}
        for name in ("dev", "test"):
            if name in self._parts:
                part = self._parts[name]
                prompt_ids, own = part.values("prompt_id"), part.numbers(self.scorer.own_features)
                raw = self.scorer.raw_scores(part.values("text"), prompt_ids, own, f"score {name}")
                predicted[name] = Predicted(raw)
        return predicted

    def features(self, name: str) -> FeatureTable | None:
        """The features of a part's essays, beside those of the training essays; None where the model sees none."""
        names = self.scorer.config.feature_names
        return feature_table(self._parts[name], names, self.numbers(name)[:, 1:], self._scales, self.compared_with)

    def numbers(self, name: str) -> Array:
        """What is known of a part's essays in numbers, (N, 1 + F), the length first; each essay is counted once."""
        if name not in self._counted:
            part = self._parts[name]
            texts, answered = part.values("text"), np.array(part.answered, dtype=object)
            scales, own = part.values("prompt_id"), part.numbers(self.scorer.own_features)
            counted = np.empty((len(part), 1 + len(self.scorer.config.feature_names)))
            for prompt in dict.fromkeys(answered):
                rows = np.flatnonzero(answered == prompt)
                place = {text: number for number, text in enumerate(dict.fromkeys(texts[row] for row in rows))}
                of_texts = self.scorer.numbers(list(place), scales[rows[0]], np.empty((len(place), 0)))
                counted[rows] = np.concatenate([of_texts[[place[texts[row]] for row in rows]], own[rows]], axis=1)
            self._counted[name] = counted
        return self._counted[name]

    def _alike(self) -> list[list[str]]:
        """Prompts and traits with the same training essays and weights: all traits of a prompt, if none is blank."""
        train = self._parts["train"]
        ids, weights = np.array(train.essay_ids, dtype=object), train.weights
        groups: dict[tuple[Any, ...], list[str]] = {}
        for prompt, rows in self._rows.items():
            own = () if weights is None else tuple(weights[rows])
            groups.setdefault((self.scorer.prompts[prompt].prompt_id, *ids[rows], *own), []).append(prompt)
        return list(groups.values())

    def _fit_prompts(
        self,
        texts: list[str],
        numbers: Array,
        targets: Sequence[Array],
        weights: Array | None,
        groups: Groups | None,
    ) -> list[tuple[PromptModel, Array]]:
        """The models of a prompt's traits, and their predictions of each training essay without it."""
        if self.scorer.config.kind == "boosting":
            return [
                (BoostedTrees.fit(numbers, one, weights), BoostedTrees.cross_fitted(numbers, one, weights, groups))
                for one in targets
            ]
        if self.scorer.config.kind == "forest":
            return [WordForest.fit(texts, numbers, one, weights, groups) for one in targets]
        kernel = self.scorer.config.solver == "kernel_ridge"
        return [
            *TextRegression.fit_all(texts, numbers, targets, weights, own=len(self.scorer.own_features), kernel=kernel)
        ]

    def add_training(self, scores: Array, *, keep_ids: bool) -> None:
        """Give the scorer what it is to know of its training essays' features; it has no vectors, and needs no ids.

        Args:
            scores: Their human scores as they were given, (N,).
            keep_ids: Without effect.
        """
        del keep_ids
        names = self.scorer.config.feature_names
        values = self.numbers("train")[:, 1:]
        spreads = {
            prompt: FeatureSpread.of(values[rows], scores[rows]) for prompt, rows in self._rows.items() if len(rows)
        }
        self.scorer.training = TrainingEssays({}, {}, names, spreads) if names else None

    def add_screen(self, screen: Screen) -> None:
        """Give the scorer what was learned from training essays' words."""
        self.scorer.screen = screen


def rows_of(part: EssayTable, prompts: Sequence[Prompt]) -> dict[str, NDArray[np.int64]]:
    """The rows of each prompt in a part of the essays.

    Args:
        part: The part.
        prompts: The prompts.
    """
    answered = np.array(part.values("prompt_id"), dtype=object)
    return {prompt.id: np.flatnonzero(answered == prompt.id) for prompt in prompts}
