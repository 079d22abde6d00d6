"""Scoring a prompt that the model was not trained on: the model is adapted to its essays, and then scores as ever."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.classical.transfer import essays_to_mark
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay, read_essays
from aes_dynloss.essays.data.table_layout import table_layout
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.protocol import Scorer, own_numbers
from aes_dynloss.essays.scoring.output import output_format, write_scores
from aes_dynloss.essays.scoring.score import window_digest
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.score_range import ONE_PROMPT, ScoreRange, parse_range

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewPrompt:
    """A prompt that a model is to be adapted to.

    Args:
        id: Its id.
        range: Its score points.
        labels: A table of a few of its essays with human scores, if there is one.
    """

    id: str
    range: ScoreRange
    labels: Path | None = None

    @classmethod
    def of(cls, prompt: str | None, span: str, labels: Path | None) -> NewPrompt:
        """That of a command's options.

        Args:
            prompt: The prompt of all essays.
            span: Its range, written as ``[ID=]LOW:HIGH[:STEP]``.
            labels: A table of scored essays.

        Raises:
            ConfigError: It is not said which prompt, or the range is none.

        Example:
            >>> NewPrompt.of("letters", "1:6", None).range
            ScoreRange(low=1.0, high=6.0, step=1.0)
        """
        name, score_range = parse_range(span)
        named = {prompt, None if name == ONE_PROMPT else name} - {None}
        if len(named) != 1:
            raise ConfigError(
                f"--range {span}: expected the range of one prompt which the model was not trained on. Name it with "
                "--prompt, or where there is a column of prompts as ID=LOW:HIGH."
            )
        return cls(str(named.pop()), score_range, labels)

    def digest(self, model: str, essays: Sequence[UnscoredEssay]) -> str:
        """What a run that is resumed must find as it was: model, essays, range and labels.

        Args:
            model: Digest of the model before it was adapted.
            essays: The essays that it was adapted to.
        """
        labels = None if self.labels is None else file_sha256(self.labels)
        made_of = [model, self.id, str(self.range), window_digest(essays), labels]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def adapted_scorer(scorer: Scorer, new: NewPrompt, essays: Sequence[UnscoredEssay]) -> ClassicalScorer:
    """A scorer that knows a new prompt, adapted to those of its essays that have words.

    Args:
        scorer: Of kind transfer.
        new: The prompt.
        essays: Essays, all of this prompt.

    Raises:
        ConfigError: The scorer is of another kind.
        DataError: There are too few essays, or the scored ones cannot be read.
    """
    if not isinstance(scorer, ClassicalScorer):
        raise ConfigError("--range adapts a single model of kind transfer to a new prompt. Name such a model.")
    others = {essay.prompt_id for essay in essays if essay.prompt_id is not None} - {new.id}
    if others:
        raise DataError(
            f"--range adapts the model to prompt {new.id!r}, but there are essays on {', '.join(sorted(others))}. "
            "Score these apart."
        )
    written, own = _written(scorer, essays)
    labels = None
    if new.labels is not None:
        table = _scored_essays(new, scorer.own_features)
        labels = table.values("text"), table.numbers(scorer.own_features), table.scores
        logger.info("Prompt %s: its level is set by %d scored essays.", new.id, len(table))
    made = scorer.adapted(Prompt(new.id, new.range), [essay.text for essay in written], own, labels)
    logger.info("Adapted to %d essays on prompt %s, which the model was not trained on.", len(written), new.id)
    return made


def write_essays_to_mark(
    scorer: ClassicalScorer, new: NewPrompt, essays: Sequence[UnscoredEssay], count: int, path: Path
) -> None:
    """Write the essays that are to be marked first, with a blank score: a table for ``--target-labels`` when filled in.

    Args:
        scorer: Adapted to the prompt.
        new: The prompt.
        essays: Its essays; blank ones are never among those to mark.
        count: How many of them.
        path: Where to: a .csv, .jsonl or .parquet file.

    Raises:
        ConfigError: The scorer has no use for scores, or the file's suffix is no known format.
        DataError: There are too few essays, or the file cannot be written.
    """
    form = output_format(None, path, "--mark-first")
    if scorer.config.form == "strict":
        raise ConfigError(
            "A model of form strict has no use for scored essays. Leave --mark-first out, or train one of form "
            "with_target_essays."
        )
    written, own = _written(scorer, essays)
    if count > len(written):
        raise DataError(f"--mark-first {count}: there are {len(written)} essays. Ask for fewer, or give more.")
    raw = scorer.raw_scores([essay.text for essay in written], [new.id] * len(written), own)
    chosen = [written[place] for place in essays_to_mark(raw, count)]
    columns: dict[str, list[Any]] = {
        "essay_id": [essay.essay_id for essay in chosen],
        "text": [essay.text for essay in chosen],
        **{name: [essay.features[name] for essay in chosen] for name in scorer.own_features},
        "score": [None] * len(chosen),
    }
    kinds = {"essay_id": str, "text": str} | dict.fromkeys((*scorer.own_features, "score"), float)
    write_scores([columns], form, path, kinds)
    logger.info("%d essays to mark first are in %s: fill in score, and give it as --target-labels.", count, path)


def _written(
    scorer: ClassicalScorer, essays: Sequence[UnscoredEssay]
) -> tuple[list[UnscoredEssay], NDArray[np.float64]]:
    """The essays that are not blank, and their numeric columns: a blank one says nothing of the prompt's essays."""
    written = [essay for essay in essays if essay.text.strip()]
    return written, own_numbers(scorer.own_features, [essay.features for essay in written], len(written))


def _scored_essays(new: NewPrompt, features: Sequence[str]) -> EssayTable:
    """A few scored essays on a new prompt."""
    path = new.labels or Path()
    data = table_layout(path, {}, {ONE_PROMPT: new.range}).data
    data["columns"] = {**data.get("columns", {}), "features": list(features)}
    table = read_essays(validate(DataConfig, data, str(path)))
    if table.prompt_ids not in ([new.id], [ONE_PROMPT]):
        raise DataError(
            f"{path}: expected scored essays on prompt {new.id!r}, found those on {', '.join(table.prompt_ids)}. Leave "
            "the others out."
        )
    return table
