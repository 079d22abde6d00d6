"""A fine-tuned scorer, ready to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.classical.strings import StringModel, string_values
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import check_window, longest_window
from aes_dynloss.essays.model.examples import EssayExamples, tokenized
from aes_dynloss.essays.model.model_folder import ModelParts, Screening, read_model_folder, write_model_folder
from aes_dynloss.essays.model.ood_distance import WithOodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals, same_score_probability
from aes_dynloss.training.prediction import Precision, predict


@dataclass(frozen=True)
class Scores:
    """Scores of N essays, in their order.

    Args:
        raw: Continuous predictions on the original scale, (N,), neither rescaled nor trimmed.
        score: Score points, (N,): rescaled if the model says so, trimmed to the prompt's range, rounded half up.
        tokens: Tokens of each essay, (N,).
        dropped_tokens: Tokens that the model's cap cut off, (N,); 0 throughout for a model without a cap.
        certainty: Chance that a human gives the same score point, (N,), set right on dev; NaN where neither the
            head nor dev tells.
        probabilities: Of each prompt's score points, (N, P), 0 beyond a prompt's last one; None if the head gives none.
        ood_distance: Distance from training essays as a multiple of what nearly all essays keep to, (N,); NaN where the
            model does not know.
    """

    raw: NDArray[np.float64]
    score: NDArray[np.float64]
    tokens: NDArray[np.int64]
    dropped_tokens: NDArray[np.int64]
    certainty: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None
    ood_distance: NDArray[np.float64]


class Scorer(Protocol):
    """Whatever scores essays: one model, or an ensemble."""

    @property
    def prompts(self) -> dict[str, Prompt]:
        """The prompts that can be scored, by id."""

    @property
    def capped(self) -> bool:
        """Whether a cap on tokens may cut off an essay's end."""

    @property
    def intervals(self) -> Intervals:
        """Prediction intervals; of no prompt, where none were fitted."""

    @property
    def certainty(self) -> Certainty:
        """Sets chances right, and knows how sure it is of dev essays; of no prompt, where that is not known."""

    @property
    def screen(self) -> Screen | None:
        """What it knows of training essays' words; None where nothing was learned."""

    def check_prompts(self, prompt_ids: Sequence[str]) -> None:
        """Refuse unknown prompts by a DataError."""

    def score(
        self, texts: Sequence[str], prompt_ids: Sequence[str], *, progress: str | None = None, tokens: int = 32768
    ) -> Scores:
        """Score essays, see :meth:`EssayScorer.score`."""


class EssayScorer:
    """Scores essays with a fine-tuned model.

    Example:
        >>> scorer = EssayScorer.from_pretrained("runs/asap1/model")  # doctest: +SKIP
        >>> scorer.score(["Dear editor, ..."], prompt_ids=["1"]).score  # doctest: +SKIP
        array([8.])
        >>> EssayScorer.from_pretrained("runs/none/model")
        Traceback (most recent call last):
        aes_dynloss.errors.CheckpointError: There is no model folder runs/none/model. Give the folder
        model/ of a run of finetune.

    Args:
        model: The torch module.
        tokenizer: Its encoder's tokenizer.
        postprocessing: From raw to score.
        accelerator: Devices and precision; by default what Accelerate finds.
        intervals: Prediction intervals fitted on dev; by default of no prompt.
        certainty: Sets chances right, and knows how sure it is of dev essays; by default of no prompt's.
        screening: What it knows of training essays beside their scores; by default nothing.
        strings: What n-grams add to the head's output, by prompt; by default nothing.

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
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.postprocessing = postprocessing or Postprocessing()
        self.intervals = intervals or Intervals({})
        self.certainty = certainty or Certainty({})
        self.screening = screening
        self.strings = strings or {}
        self.accelerator = accelerator or Accelerator()
        self.precision: Precision = "float32"  # another one by in_precision
        window = model.config.window or longest_window(model.encoder.config, tokenizer)
        check_window(model.encoder, window)
        self.chunker = Chunker(tokenizer, window, model.config.max_tokens)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, accelerator: Accelerator | None = None) -> EssayScorer:
        """Open a model folder that ``finetune`` wrote.

        Args:
            folder: The folder ``model/`` of a run.
            accelerator: Devices and precision; by default what Accelerate finds.

        Raises:
            CheckpointError: The folder is missing, damaged or something else.
        """
        parts = read_model_folder(Path(folder))
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

    def check_prompts(self, prompt_ids: Sequence[str]) -> None:
        """Refuse prompts that the model was not trained on.

        Raises:
            DataError: Naming the first such prompt and the known ones.
        """
        unknown = [prompt for prompt in dict.fromkeys(prompt_ids) if prompt not in self.prompts]
        if unknown:
            raise DataError(
                f"The model was not trained on prompt {unknown[0]!r}; it knows {', '.join(self.prompts)}. Map the ids, "
                "or name the prompt of all essays with --prompt."
            )

    def score(
        self, texts: Sequence[str], prompt_ids: Sequence[str], *, progress: str | None = None, tokens: int = 32768
    ) -> Scores:
        """Score essays.

        Args:
            texts: N essays.
            prompt_ids: The prompt that each answers, N ids.
            progress: Words beside a progress bar on standard error; None for none.
            tokens: Padded tokens a forward pass, at most.

        Raises:
            DataError: A prompt is unknown, or the lengths differ.
        """
        if len(texts) != len(prompt_ids):
            raise DataError(f"Expected one prompt id an essay, found {len(texts)} essays and {len(prompt_ids)} ids.")
        self.check_prompts(prompt_ids)
        number = {prompt: index for index, prompt in enumerate(self.prompts)}
        groups = np.array([number[prompt] for prompt in prompt_ids], dtype=np.int64)
        prompts, pad_id = list(self.prompts.values()), int(self.tokenizer.pad_token_id)
        examples = tokenized(texts, groups, prompts, self.chunker, pad_id, self.model.config.linguistic_groups)
        if self.strings:
            examples = replace(examples, strings=string_values(self.strings, texts, prompt_ids))
        essays = examples.essays
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
        raw = self.raw_scores(outputs, groups)
        points = self.score_points(raw, groups)
        probabilities = self.probabilities(outputs)
        chances = agreement_probability(self.prompts, self.intervals, prompt_ids, raw, points, probabilities)
        certainty = self.certainty.of(prompt_ids, chances)
        return Scores(raw, points, counts[:, 0], counts[:, 1], certainty, probabilities, ood_distance)

    def outputs(self, examples: EssayExamples, table: EssayTable) -> Tensor:
        """The model's outputs for a table's essays, (N, D), on the CPU.

        Args:
            examples: The N essays.
            table: The same, for their texts, whose n-grams some heads see.
        """
        if self.strings:
            values = string_values(self.strings, table.values("text"), table.values("prompt_id"))
            examples = replace(examples, strings=values)
        return predict(self.accelerator, self.model, examples)

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

    def score_points(self, raw: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score points, (N,), from raw predictions."""
        points = np.empty(len(raw))
        for number, scale in enumerate(self.model.scales):
            rows = groups == number
            points[rows] = self.postprocessing.score(scale.prompt.id, scale.prompt.range, raw[rows])
        return points

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
        )
        write_model_folder(parts, Path(folder), card)


def agreement_probability(
    prompts: Mapping[str, Prompt],
    intervals: Intervals,
    prompt_ids: Sequence[str],
    raw: NDArray[np.float64],
    score: NDArray[np.float64],
    probabilities: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Chances that a human gives the same score: what the head says of it, else what the errors on dev say.

    Args:
        prompts: Prompts by id.
        intervals: Errors on dev.
        prompt_ids: Prompt of each of N essays.
        raw: Continuous predictions, (N,).
        score: Score points, (N,).
        probabilities: Of each prompt's score points, (N, P), or None.

    Returns:
        (N,), NaN where neither is known.
    """
    chances = np.full(len(raw), np.nan)
    for prompt in dict.fromkeys(prompt_ids):
        rows = np.flatnonzero(np.asarray(prompt_ids, dtype=object) == prompt)
        score_range = prompts[prompt].range
        if probabilities is not None:
            chances[rows] = probabilities[rows, score_range.to_index(score[rows])]
        elif prompt in intervals.prompts:
            chances[rows] = same_score_probability(intervals.prompts[prompt], raw[rows], score[rows], score_range)
    return chances
