"""A scorer without an encoder: for each prompt a regression on n-grams and features, or boosted trees on features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError, DataError
from aes_dynloss.essays.classical.boosting import BoostedTrees
from aes_dynloss.essays.classical.forest import WordForest
from aes_dynloss.essays.classical.strings import ngram_keys
from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.classical.transfer import LEAST_OF_TARGET, TransferRegression
from aes_dynloss.essays.data.essay_table import Prompt, prompts_of_scales
from aes_dynloss.essays.features.linguistic import essay_numbers, feature_names
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import (
    CONFIG,
    FORMAT,
    SCREENING,
    TRANSFER,
    WEIGHTS,
    Fitted,
    check_files,
    damage_named,
    damaged,
    read_arrays,
    read_config,
    read_training,
    screen_arrays,
    screen_from_arrays,
    write_scorer_folder,
    write_training,
)
from aes_dynloss.essays.model.prompt_scales import Postprocessing, PromptScale
from aes_dynloss.essays.model.protocol import Scores, answered_prompts, check_essays, finished_scores, own_numbers
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.essays.model.training_essays import TrainingEssays
from aes_dynloss.essays.model.trait_rows import asks_for_traits, scored_on_traits
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.progress import Progress

Array = NDArray[np.float64]
PromptModel = TextRegression | BoostedTrees | WordForest
# Of other kinds: TextRegression.
_MODELS: Mapping[str, type[PromptModel]] = {"boosting": BoostedTrees, "forest": WordForest}

_ESSAYS_AT_ONCE = 256


class ClassicalScorer:
    """Scores essays by what can be counted in them; no part of it needs torch.

    Example:
        >>> scorer = ClassicalScorer.from_pretrained("runs/strings/model")  # doctest: +SKIP
        >>> scorer.score(["Dear editor, ..."], prompt_ids=["1"]).score  # doctest: +SKIP
        array([8.])
        >>> ClassicalScorer.from_pretrained("runs/none/model")
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: There is no model folder runs/none/model. Give a run of
        finetune, or its folder model/.

    Args:
        config: Its kind and features.
        scales: Its prompts with statistics of their training essays.
        models: What was fitted, by prompt.
        postprocessing: From raw to score.
        intervals: Prediction intervals fitted on dev; by default of no prompt.
        certainty: Sets chances right, and knows how sure it is of dev essays; by default of no prompt's.
        screen: What it knows of training essays' words; by default nothing.
        training: What explanations put beside an essay; by default nothing.
        transfers: Of kind transfer, what makes a new prompt's model, by trait; ``""`` where essays have one score.
    """

    def __init__(
        self,
        config: ModelConfig,
        scales: Sequence[PromptScale],
        models: Mapping[str, PromptModel],
        postprocessing: Postprocessing | None = None,
        intervals: Intervals | None = None,
        certainty: Certainty | None = None,
        screen: Screen | None = None,
        training: TrainingEssays | None = None,
        transfers: Mapping[str, TransferRegression] | None = None,
    ) -> None:
        self.config = config
        self.scales = list(scales)
        self.models = dict(models)
        self.postprocessing = postprocessing or Postprocessing()
        self.intervals = intervals or Intervals({})
        self.certainty = certainty or Certainty({})
        self.screen = screen
        self.training = training
        self.transfers = dict(transfers or {})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ClassicalScorer:
        """Open a model folder that ``finetune`` wrote.

        Args:
            folder: The folder of a run, or its ``model/``.

        Raises:
            CheckpointError: The folder is missing, damaged or something else.
        """
        folder = locate_model(folder)
        values = read_config(folder, FORMAT)
        check_files(folder, values)
        with damage_named(folder):
            fitted = Fitted.from_dict(values)
            if fitted.config.kind == "encoder":
                raise CheckpointError("it holds a model with an encoder, which EssayScorer opens")
            models = _read_models(folder / WEIGHTS, fitted)
            screen = None
            if SCREENING in values["sha256"]:
                screen = _read_screen(folder / SCREENING)
            training = read_training(folder, values, fitted)
            transfers = _read_transfers(folder / TRANSFER, fitted) if TRANSFER in values["sha256"] else None
        calibration = fitted.postprocessing, fitted.intervals, fitted.certainty
        return cls(fitted.config, fitted.scales, models, *calibration, screen, training, transfers)

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts that the model can score, by id."""
        return {scale.prompt.id: scale.prompt for scale in self.scales}

    @property
    def sources(self) -> list[str]:
        """The prompts that taught the model: all that it scores, or of kind transfer those that it learned from."""
        learned = dict.fromkeys(name for one in self.transfers.values() for name in one.sources)
        return prompts_of_scales(self.prompts[name] for name in learned or self.prompts)

    @property
    def capped(self) -> bool:
        """Whether the model reads only a part of a long essay; it never does."""
        return False

    @property
    def own_features(self) -> tuple[str, ...]:
        """Numeric columns that the model needs beside the text."""
        return tuple(self.config.own_features)

    def score(
        self,
        texts: Sequence[str],
        prompt_ids: Sequence[str] | None = None,
        *,
        features: Sequence[Mapping[str, float]] | None = None,
        progress: str | None = None,
        tokens: int = 32768,
    ) -> Scores:
        """See :meth:`aes_dynloss.essays.model.protocol.Scorer.score`; ``tokens`` has no effect."""
        prompt_ids = answered_prompts(self, texts, prompt_ids)
        if asks_for_traits(self, prompt_ids):
            return scored_on_traits(self, texts, prompt_ids, features=features, progress=progress, tokens=tokens)
        del tokens
        check_essays(texts, prompt_ids, self)
        own = own_numbers(self.own_features, features, len(texts))
        raw = self.raw_scores(texts, prompt_ids, own, progress)
        return finished_scores(self, prompt_ids, raw, np.array([len(text.split()) for text in texts], dtype=np.int64))

    def raw_scores(
        self, texts: Sequence[str], prompt_ids: Sequence[str], own: Array, progress: str | None = None
    ) -> Array:
        """Continuous predictions on the original scale, (N,).

        Args:
            texts: N essays.
            prompt_ids: The prompt of each, known to the model.
            own: Numeric columns of the user's own, (N, K).
            progress: Words beside a progress bar on standard error; None for none.
        """
        raw = np.empty(len(texts))
        # Rows by prompt and, as it may be scored on several traits, by essay.
        asked: dict[str, dict[tuple[str, bytes], list[int]]] = {}
        for row, (text, scale) in enumerate(zip(texts, prompt_ids, strict=True)):
            of_prompt = asked.setdefault(self.prompts[scale].prompt_id, {})
            of_prompt.setdefault((text, own[row].tobytes()), []).append(row)
        with Progress(total=len(texts), desc=progress, unit="essay", disable=progress is None) as bar:
            for of_prompt in asked.values():
                essays = list(of_prompt.values())
                for block in np.array_split(np.arange(len(essays)), -(-len(essays) // _ESSAYS_AT_ONCE)):
                    first = [essays[place][0] for place in block]
                    numbers = self.numbers([texts[row] for row in first], prompt_ids[first[0]], own[first])
                    by_scale: dict[str, list[tuple[int, int]]] = {}
                    for number, place in enumerate(block):
                        for row in essays[place]:
                            by_scale.setdefault(prompt_ids[row], []).append((number, row))
                    for scale, pairs in by_scale.items():
                        at, rows = map(list, zip(*pairs, strict=True))
                        raw[rows] = before_ngrams(self.models[scale], [texts[row] for row in rows], numbers[at])
                    for place in block:
                        self._add_strings(texts, prompt_ids, essays[place], raw)
                        bar.update(len(essays[place]))
        return raw

    def _add_strings(self, texts: Sequence[str], prompt_ids: Sequence[str], rows: Sequence[int], raw: Array) -> None:
        """Add what n-grams say of one essay, which are counted once, to its scores in some rows."""
        models = {row: self.models[prompt_ids[row]] for row in rows}
        of_strings = {
            row: model.strings for row, model in models.items() if isinstance(model, TextRegression) and model.strings
        }
        keys = {
            longest: ngram_keys(texts[rows[0]], longest) for longest in {one.longest for one in of_strings.values()}
        }
        for row, strings in of_strings.items():
            raw[row] += strings.value(keys[strings.longest])

    def numbers(self, texts: Sequence[str], prompt_id: str, own: Array) -> Array:
        """What is known of essays on one prompt in numbers, (N, D), the length first, own columns (N, K) last."""
        counted = essay_numbers(texts, self.prompts[prompt_id].text, self.config.linguistic_groups)
        return np.concatenate([counted, own], axis=1)

    def adapted(
        self,
        prompt: Prompt,
        texts: Sequence[str],
        own: Array,
        labels: tuple[Sequence[str], Array, Array] | None = None,
    ) -> ClassicalScorer:
        """A scorer of kind transfer that knows one prompt more.

        Args:
            prompt: The new prompt, of one score. In the form strict what is counted by its wording is taken to be as
                in the mean of the source prompts where it has none.
            texts: N of its essays, whose scores are not known; without effect in the form strict.
            own: Numeric columns of the user's own, (N, K).
            labels: K further essays of it, their own columns, and their human scores.

        Raises:
            ConfigError: The scorer is of another kind, or of the form strict though there are labels.
            DataError: It knows the prompt, scores several traits, or there are too few essays.
        """
        transfer = self.transfers.get("")
        if transfer is None:
            raise ConfigError(
                f"The model is of kind {self.config.kind}{', of several traits,' if self.transfers else ''} and cannot "
                f"be adapted to prompt {prompt.id!r}. Train one of kind transfer on one score."
            )
        if prompt.id in self.prompts:
            raise DataError(
                f"The model knows prompt {prompt.id!r} already. Leave --range out, or give another --prompt."
            )
        count, like = prompt.range.count, self.scales[0]
        scorer = copy(self)
        scorer.scales = [*self.scales, replace(like, prompt=prompt, shares=(1 / count,) * count)]
        scorer.models = {**self.models, prompt.id: scorer._model_of_new(transfer, prompt, texts, own, labels)}
        known = transfer.sources[0]
        if known in self.intervals.prompts:
            of_known = self.prompts[known].range
            scorer.intervals = self.intervals.with_prompt(prompt.id, prompt.range, known, of_known)
        return scorer

    def _model_of_new(
        self,
        transfer: TransferRegression,
        prompt: Prompt,
        texts: Sequence[str],
        own: Array,
        labels: tuple[Sequence[str], Array, Array] | None,
    ) -> TextRegression:
        """The model of a new prompt."""
        if transfer.form == "strict":
            if labels is not None:
                raise ConfigError(
                    "A model of form strict sees nothing of a new prompt but its range, and has no use for scored "
                    "essays. Leave --target-labels out, or train one of form with_target_essays."
                )
            return transfer.strict(prompt.range, None if prompt.text else self._counted_with_wording)
        if len(texts) < LEAST_OF_TARGET:
            raise DataError(
                f"Prompt {prompt.id}: {len(texts)} essays, but the model, of form with_target_essays, adapts to "
                f"{LEAST_OF_TARGET} or more at once. Give more essays together, or train a model of form strict."
            )
        scored = None if labels is None else (self.numbers(labels[0], prompt.id, labels[1]), labels[2])
        return transfer.adapted(self.numbers(texts, prompt.id, own), prompt.range, scored)

    @property
    def _counted_with_wording(self) -> NDArray[np.bool_]:
        """Which of an essay's numbers are counted by the words of its prompt, (D,)."""
        names = feature_names(["overlap"])
        return np.array([False, *(name in names for name in self.config.feature_names)])  # the length is the first

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write a model folder that :meth:`from_pretrained` opens; an existing one is replaced as a whole.

        Args:
            folder: Where to.
            card: Text of its README.md; a short one by default.
        """
        from safetensors.numpy import save_file

        def write_files(new: Path) -> None:
            save_file(_named_arrays(self.models), new / WEIGHTS)
            if self.transfers:
                save_file(_named_arrays(self.transfers), new / TRANSFER)
            if self.screen is not None:
                save_file(screen_arrays(self.screen), new / SCREENING)
            write_training(self.training, self.scales, new)

        fitted = Fitted(self.config, self.scales, self.postprocessing, self.intervals, self.certainty)
        write_scorer_folder(Path(folder), fitted.to_dict(), write_files, card)


def before_ngrams(model: PromptModel, texts: Sequence[str], numbers: Array) -> Array:
    """What a prompt's model says of texts, (N,), to which the n-grams of a regression add theirs.

    Args:
        model: The model.
        texts: N texts.
        numbers: What was counted in each, (N, D).
    """
    if isinstance(model, WordForest):
        return model.predict(texts, numbers)
    return model.of_numbers(numbers) if isinstance(model, TextRegression) else model.predict(numbers)


def _named_arrays(models: Mapping[str, PromptModel] | Mapping[str, TransferRegression]) -> dict[str, NDArray[Any]]:
    """The arrays of several models for one file, each below its model's name."""
    return {
        f"{name}/{part}": np.ascontiguousarray(array)
        for name, model in models.items()
        for part, array in model.to_arrays().items()
    }


def _read_named(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Inverse of :func:`_named_arrays`: the arrays of each model."""
    stored: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in read_arrays(path).items():
        model, _, part = name.rpartition("/")
        stored.setdefault(model, {})[part] = array
    return stored


def _read_transfers(path: Path, fitted: Fitted) -> dict[str, TransferRegression]:
    try:
        transfers = {trait: TransferRegression.from_arrays(arrays) for trait, arrays in _read_named(path).items()}
        for transfer in transfers.values():
            _check_width(transfer, fitted, "the model")
        return transfers
    except (KeyError, TypeError, ValueError, IndexError, AesDynlossError) as error:
        raise damaged(path, error) from None


def _check_width(model: PromptModel | TransferRegression, fitted: Fitted, what: str) -> None:
    """Refuse a model of other numbers than are counted."""
    expected = 1 + len(fitted.config.feature_names)  # the length is the first
    if model.width != expected:
        raise CheckpointError(
            f"{what} was trained on {model.width} numbers an essay, but this version of aes-dynloss counts {expected} "
            f"for {CONFIG}"
        )


def _read_models(path: Path, fitted: Fitted) -> dict[str, PromptModel]:
    stored = _read_named(path)
    if set(stored) != {scale.prompt.id for scale in fitted.scales}:
        raise CheckpointError(f"{path.name} does not fit {CONFIG}. Fetch the folder again.")
    kind = _MODELS.get(fitted.config.kind, TextRegression)
    try:
        models = {prompt: kind.from_arrays(arrays) for prompt, arrays in stored.items()}
        for prompt, model in models.items():
            _check_width(model, fitted, f"prompt {prompt}")
        return models
    except (KeyError, TypeError, ValueError, IndexError, AesDynlossError) as error:
        raise damaged(path, error) from None


def _read_screen(path: Path) -> Screen:
    try:
        return screen_from_arrays(read_arrays(path))
    except (KeyError, TypeError, ValueError, AesDynlossError) as error:
        raise damaged(path, error) from None
