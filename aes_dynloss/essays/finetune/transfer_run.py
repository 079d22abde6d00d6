"""The part of a run whose scorer is for prompts that it has not seen: a regression that source prompts teach."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.classical.transfer import LEAST_OF_TARGET, TransferRegression
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.finetune.classical_run import Array, ClassicalRun, rows_of
from aes_dynloss.essays.finetune.predicted import Predicted
from aes_dynloss.essays.model.model_config import ModelConfig

logger = logging.getLogger(__name__)

_LEAST_SOURCES = 2  # one is left out in turn


class TransferRun(ClassicalRun):
    """A scorer of unseen prompts, from its essays to its predictions.

    Prompts with training essays are its source prompts, others are new ones. All essays are predicted by a model that
    was fitted without any essay of their prompt, so that every figure of the run is of a prompt never seen.

    Args:
        config: How it is built.
        prompts: All prompts.
        parts: Essays by part: train, dev, and where it is there test.

    Raises:
        DataError: There are too few source prompts, a prompt has too few essays, or training essays have weights.
    """

    unseen = True

    def __init__(self, config: ModelConfig, prompts: Sequence[Prompt], parts: Mapping[str, EssayTable]) -> None:
        super().__init__(config, prompts, parts)
        self.compared_with = (
            "the training essays of all prompts"
            if config.form == "strict"
            else "the essays of the same prompt to which the model was adapted"
        )
        self._places = {name: rows_of(parts[name], prompts) for name in ("train", "dev", "test") if name in parts}
        self._by_trait: dict[str, list[str]] = {prompt.trait or "": [] for prompt in prompts}
        for prompt in prompts:
            if len(self._rows[prompt.id]):
                self._by_trait[prompt.trait or ""].append(prompt.id)
        _check_sources(parts["train"], self._by_trait)
        for prompt in prompts:
            essays = sum(len(rows[prompt.id]) for rows in self._places.values())
            if config.form == "with_target_essays" and not len(self._rows[prompt.id]) and essays < LEAST_OF_TARGET:
                raise DataError(
                    f"Prompt {prompt.id}: {essays} essays, but a model of form with_target_essays adapts to "
                    f"{LEAST_OF_TARGET} or more of a prompt without training essays. Add essays, or set model.form to "
                    "strict."
                )

    def fit(self, folder: Path, *, resume: bool) -> dict[str, Predicted]:
        """Fit the model of each prompt, and for source prompts one without it.

        Args:
            folder: The run's; nothing is kept there on the way.
            resume: Whether the run was stopped before; it begins anew.

        Returns:
            Predictions of train, dev and test, each essay's by a model that was fitted without its prompt.
        """
        del folder, resume
        predicted = {name: np.empty(len(self._parts[name])) for name in self._places}
        for trait, sources in self._by_trait.items():
            transfer = self.scorer.transfers[trait] = self._learned_from(sources)
            for prompt in (one.id for one in self.scorer.prompts.values() if (one.trait or "") == trait):
                model = unseen = self._model(transfer, prompt)
                if prompt in sources:
                    model = self._model(transfer, prompt, known=True)
                    unseen = self._model(self._learned_from([one for one in sources if one != prompt]), prompt)
                self.scorer.models[prompt] = model
                self._scales[prompt] = model.numbers.mean[1:], model.numbers.sd[1:]
                for name, places in self._places.items():
                    rows = places[prompt]
                    predicted[name][rows] = unseen.of_numbers(self.numbers(name)[rows])
            logger.info("Prompts %s: left out, r %.3f in the mean.", ", ".join(sources), transfer.accuracy)
        return {name: Predicted(raw) for name, raw in predicted.items()}

    def _adapted_to(self, prompt: str) -> Array:
        """The numbers of the essays by which a prompt's are standardised: of train, for a new prompt all there are."""
        parts = ["train"] if len(self._rows[prompt]) else list(self._places)
        return np.concatenate([self.numbers(name)[self._places[name][prompt]] for name in parts])

    def _learned_from(self, sources: Sequence[str]) -> TransferRegression:
        """What some source prompts teach."""
        numbers, scores = self.numbers("train"), self._parts["train"].scores
        form, own = self.scorer.config.form, len(self.scorer.own_features)
        return TransferRegression.fit(
            {prompt: numbers[self._rows[prompt]] for prompt in sources},
            {prompt: scores[self._rows[prompt]] for prompt in sources},
            {prompt: self.scorer.prompts[prompt].range for prompt in sources},
            form or "with_target_essays",
            own=own,
        )

    def _model(self, transfer: TransferRegression, prompt: str, *, known: bool = False) -> TextRegression:
        """A prompt's model, to which its own scores are known or not."""
        score_range = self.scorer.prompts[prompt].range
        if transfer.form == "strict":
            return transfer.strict(score_range)
        numbers = self._adapted_to(prompt)
        scores = self._parts["train"].scores[self._rows[prompt]]
        return transfer.adapted(numbers, score_range, (numbers, scores) if known else None)


def _check_sources(train: EssayTable, by_trait: Mapping[str, Sequence[str]]) -> None:
    """Refuse training essays on too few prompts, or with weights."""
    for trait, sources in by_trait.items():
        if len(sources) < _LEAST_SOURCES:
            scores = f"scores of {trait} on" if trait else "essays on"
            raise DataError(
                f"model.kind transfer needs training {scores} {_LEAST_SOURCES} prompts at least, each of which is "
                f"scored without it in turn; found {len(sources)} ({', '.join(sources)}). Add essays on others, or set "
                "model.kind to strings."
            )
    if train.weights is not None and np.ptp(train.weights) > 0:
        raise DataError(
            "model.kind transfer lets all essays of a prompt count alike, but training essays have weights "
            "(data.columns.weight, data.trusted_weight or data.balance). Leave these out."
        )
