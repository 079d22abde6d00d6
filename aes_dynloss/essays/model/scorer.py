"""A fine-tuned scorer, ready to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.strings import StringModel, string_values
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoder_folder import ModelParts, Screening, read_model_folder, write_model_folder
from aes_dynloss.essays.model.encoders import check_window, longest_window
from aes_dynloss.essays.model.examples import EssayExamples, essay_numbers, tokenized
from aes_dynloss.essays.model.ood_distance import WithOodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.protocol import (
    Scores,
    answered_prompts,
    check_essays,
    finished_scores,
    known_prompts,
    own_numbers,
)
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.essays.model.training_essays import TrainingEssays
from aes_dynloss.essays.model.trait_rows import asks_for_traits, scored_on_traits
from aes_dynloss.essays.screening.screen import MOST_PROMPTS, Screen
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.training.config import Precision
from aes_dynloss.training.prediction import predict


class EncoderScorer:
    """Scores essays with a fine-tuned model.

    Example:
        >>> scorer = EncoderScorer.from_pretrained("runs/asap1/model")  # doctest: +SKIP
        >>> scorer.score(["Dear editor, ..."], prompt_ids=["1"]).score  # doctest: +SKIP
        array([8.])
        >>> EncoderScorer.from_pretrained("runs/none/model")
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: There is no model folder runs/none/model. Give a run of
        finetune, or its folder model/.

    Args:
        model: The torch module.
        tokenizer: Its encoder's tokenizer.
        postprocessing: From raw to score.
        accelerator: Devices and precision; by default what Accelerate finds.
        intervals: Prediction intervals fitted on dev; by default of no prompt.
        certainty: Sets chances right, and knows how sure it is of dev essays; by default of no prompt's.
        screening: What it knows of training essays beside their scores; by default nothing.
        strings: What n-grams add to the head's output, by prompt; by default nothing.
        training: What explanations put beside an essay; by default nothing.

    Raises:
        ConfigError: The model's window is longer than its encoder reads.
    """

    def __init__(
        self,
        model: ScoringModel,
        tokenizer: Any,  # noqa: ANN401 - transformers is untyped
        postprocessing: Postprocessing | None = None,
        accelerator: Accelerator | None = None,
        intervals: Intervals | None = None,
        certainty: Certainty | None = None,
        screening: Screening | None = None,
        strings: Mapping[str, StringModel] | None = None,
        training: TrainingEssays | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.postprocessing = postprocessing or Postprocessing()
        self.intervals = intervals or Intervals({})
        self.certainty = certainty or Certainty({})
        self.screening = screening
        self.strings = strings or {}
        self.training = training
        self.accelerator = accelerator or Accelerator()
        self.precision: Precision = "float32"  # another one by in_precision
        window = model.config.window or longest_window(model.encoder.config, tokenizer)
        check_window(model.encoder, window)
        self.chunker = Chunker(tokenizer, window, model.config.max_tokens)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, accelerator: Accelerator | None = None) -> EncoderScorer:
        """Open a model folder that ``finetune`` wrote.

        Args:
            folder: The folder of a run, or its ``model/``.
            accelerator: Devices and precision; by default what Accelerate finds.

        Raises:
            CheckpointError: The folder is missing, damaged or something else.
        """
        parts = read_model_folder(locate_model(folder))
        try:
            return cls(**vars(parts), accelerator=accelerator)
        except (TypeError, ValueError) as error:  # a window too long, or a tokenizer that does not work
            raise CheckpointError(f"{folder} is damaged: {error}") from None

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts that the model can score, by id."""
        return {scale.prompt.id: scale.prompt for scale in self.model.scales}

    @property
    def screen(self) -> Screen | None:
        """What the model knows of training essays' words."""
        return None if self.screening is None else self.screening.text

    @property
    def capped(self) -> bool:
        """Whether the model reads only so many tokens of an essay."""
        return self.model.config.max_tokens is not None

    @property
    def own_features(self) -> tuple[str, ...]:
        """Numeric columns that the model needs beside the text."""
        return tuple(self.model.config.own_features)

    @property
    def sources(self) -> list[str]:
        """The prompts that taught the model: those with training essays where prompts share a head, else all.

        All too where no screen tells which these are, as it names up to :data:`MOST_PROMPTS` of them.
        """
        known, screen = known_prompts(self), self.screen
        if self.model.config.prompts != "shared" or screen is None or len(screen.prompts) >= MOST_PROMPTS:
            return known
        return [prompt for prompt in known if prompt in screen.prompts]

    def score(
        self,
        texts: Sequence[str],
        prompt_ids: Sequence[str] | None = None,
        *,
        features: Sequence[Mapping[str, float]] | None = None,
        progress: str | None = None,
        tokens: int = 32768,
    ) -> Scores:
        """See :meth:`aes_dynloss.essays.model.protocol.Scorer.score`."""
        prompt_ids = answered_prompts(self, texts, prompt_ids)
        if asks_for_traits(self, prompt_ids):
            return scored_on_traits(self, texts, prompt_ids, features=features, progress=progress, tokens=tokens)
        check_essays(texts, prompt_ids, self)
        examples = self.examples(texts, prompt_ids, features)
        groups, essays = examples.groups, examples.essays
        counts = np.array([(essay.tokens, essay.dropped) for essay in essays], dtype=np.int64).reshape(-1, 2)
        if len(texts) == 0:
            none = np.zeros(0)
            return Scores(none, none, counts[:, 0], counts[:, 1], none, None, none)
        screening = self.screening
        module = self.model if screening is None else WithOodDistance(self.model, screening.ood_distance)
        module.to(self.accelerator.device)
        outputs = predict(
            self.accelerator, module, examples, tokens=tokens, progress=progress, precision=self.precision
        )
        ood_distance = np.full(len(texts), np.nan)
        if screening is not None:  # its distances are the last column
            outputs, ood_distance = outputs[:, :-1], outputs[:, -1].double().numpy()
        return finished_scores(
            self,
            prompt_ids,
            self.raw_scores(outputs, groups),
            counts[:, 0],
            dropped_tokens=counts[:, 1],
            probabilities=self.probabilities(outputs),
            ood_distance=ood_distance,
        )

    def examples(
        self, texts: Sequence[str], prompt_ids: Sequence[str], features: Sequence[Mapping[str, float]] | None = None
    ) -> EssayExamples:
        """Essays as the model reads them: tokens, length, and what is counted in them.

        Args:
            texts: N essays.
            prompt_ids: The prompt, or prompt and trait, of each.
            features: As :meth:`score` takes them.

        Raises:
            DataError: A column is missing.
        """
        number = {prompt: index for index, prompt in enumerate(self.prompts)}
        own = own_numbers(self.own_features, features, len(texts))
        examples = tokenized(
            texts,
            np.array([number[prompt] for prompt in prompt_ids], dtype=np.int64),
            list(self.prompts.values()),
            self.chunker,
            int(self.tokenizer.pad_token_id),
            self.model.config.linguistic_groups,
            own,
            essay_numbers(texts, prompt_ids, self.prompts, own),
        )
        if self.strings:
            examples = replace(examples, strings=string_values(self.strings, texts, prompt_ids))
        return examples

    def outputs(self, examples: EssayExamples, table: EssayTable) -> Tensor:
        """The model's outputs for a table's essays, (N, D), on the CPU.

        Args:
            examples: The N essays.
            table: The same, for their texts, whose n-grams some heads see.
        """
        if self.strings:
            values = string_values(self.strings, table.values("text"), table.values("prompt_id"))
            examples = replace(examples, strings=values)
        # Vectors that were cached need no encoder, so that the head may still be where it was built.
        return predict(self.accelerator, self.model.to(self.accelerator.device), examples)

    def raw_scores(self, outputs: Tensor, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predictions on the original scale, (N,), from the model's outputs (N, D)."""
        with torch.no_grad():
            unit = self.model.scores(outputs, torch.from_numpy(groups)).double().cpu().numpy()
        raw = np.empty(len(unit))
        for number, scale in enumerate(self.model.scales):
            raw[groups == number] = scale.prompt.range.from_unit(unit[groups == number])
        return raw

    def probabilities(self, outputs: Tensor) -> NDArray[np.float64] | None:
        """Probabilities of the score points, (N, P), from the model's outputs (N, P); None if its head gives none."""
        return None if self.model.config.head == "regression" else outputs.double().exp().cpu().numpy()

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write a model folder that :meth:`from_pretrained` opens; an existing one is replaced as a whole.

        Args:
            folder: Where to.
            card: Text of its README.md; a short one by default.
        """
        parts = ModelParts(
            self.model,
            self.tokenizer,
            self.postprocessing,
            self.intervals,
            self.certainty,
            self.screening,
            self.strings,
            self.training,
        )
        write_model_folder(parts, Path(folder), card)
