"""Cross-fitting: every essay is scored by a scorer that was fitted without it, so that all are test."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from accelerate.utils import set_seed

from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.splits import Splits, set_apart
from aes_dynloss.essays.finetune import exact_head
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.fitting import Parts, build_fitting, fit_scorer, post_processed_on
from aes_dynloss.essays.finetune.held_out import INNER, PART
from aes_dynloss.essays.finetune.predicted import FOLDS, PROBABILITIES, Predicted
from aes_dynloss.essays.finetune.products import prediction_table
from aes_dynloss.essays.finetune.warm_start import WarmStart
from aes_dynloss.essays.floors import essay_floors, floor_figures
from aes_dynloss.essays.model.protocol import probability_rows
from aes_dynloss.progress import Progress
from aes_dynloss.tables.columns import ID_COLUMNS, TRAIT_COLUMN
from aes_dynloss.tables.formats import write_table

logger = logging.getLogger(__name__)

_FLOOR = "floor "  # of a kept table's columns, before a name


@dataclass(frozen=True)
class OutOfFold:
    """All essays as scorers see them that were fitted without them.

    Args:
        table: Table of predictions, one row an essay, with the number of its part.
        predicted: The same as arrays, in the table's order.
        inner: What each part's scorer predicted of the essays that its post-processing was fitted on.
        floors: Figures of the floors on the same essays and parts; None without floors.
    """

    table: pd.DataFrame
    predicted: Predicted
    inner: pd.DataFrame
    floors: dict[str, dict[str, Any]] | None


def cross_fitted(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: Sequence[Prompt],
    folds: Sequence[Splits],
    start: WarmStart | None,
    folder: Path,
    *,
    resume: bool,
) -> OutOfFold:
    """Fit a scorer for each part of the essays, without that part, and let it score the part.

    Whatever is fitted or chosen for a part's scores, post-processing and floors too, is without its essays. A part that
    is done is kept in the run's folder until the run is complete, so that a resumed run goes on after it.

    Args:
        accelerator: The run's.
        config: Its configuration.
        prompts: All prompts.
        folds: For each part, the split whose test it is.
        start: The model whose weights each scorer starts with, if there is one.
        folder: The run's.
        resume: Go on with a run that was stopped.
    """
    tables, others = [], []
    hidden = not accelerator.is_main_process
    for number, splits in enumerate(Progress(folds, desc="cross-fit", unit="scorer", disable=hidden)):
        own = folder / FOLDS / str(number)
        kept, inner = own / "scored.parquet", own / f"{INNER}.parquet"
        if not (resume and kept.exists()):
            logger.info("Scorer %d of %d, for %d essays.", number + 1, len(folds), len(splits.test))
            if accelerator.is_main_process:
                own.mkdir(parents=True, exist_ok=True)
            accelerator.wait_for_everyone()
            with _few_words():
                scored, fitted_on = _scored(accelerator, config, prompts, splits, start, own, resume=resume)
            if accelerator.is_main_process:
                write_table(fitted_on, inner)
                write_table(scored, kept)
            accelerator.wait_for_everyone()
        tables.append(pd.read_parquet(kept).assign(**{PART: number}))
        others.append(pd.read_parquet(inner).assign(**{PART: number}))
    return _joined(pd.concat(tables, ignore_index=True), pd.concat(others, ignore_index=True))


@contextmanager
def _few_words() -> Iterator[None]:
    """What exact heads tell of themselves is told of the model's alone."""
    heads = exact_head.logger
    level = heads.level
    heads.setLevel(logging.WARNING)
    try:
        yield
    finally:
        heads.setLevel(level)


def encoding_once(config: FinetuneConfig, folder: Path) -> FinetuneConfig:
    """The configuration with a features cache in the run's folder, where scorers share a frozen part and have none."""
    model = config.model
    if config.data.split.cross_fit is None or model.features_cache is not None or model.frozen_layers == 0:
        return config
    shared = model.model_copy(update={"features_cache": str(folder / FOLDS / "features")})
    return config.model_copy(update={"model": shared})


def _scored(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: Sequence[Prompt],
    splits: Splits,
    start: WarmStart | None,
    folder: Path,
    *,
    resume: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The test part's table of predictions with floors' scores beside, and what its post-processing was fitted on."""
    parts = Parts.of(splits, config)
    set_seed(config.training.seed)  # whatever was drawn before, which in a resumed run is not the same
    fitting = build_fitting(accelerator, config, prompts, parts, start)
    predicted = fit_scorer(fitting, config, parts, folder, resume=resume)
    table = prediction_table(fitting.scorer, splits.test, predicted["test"], config.data.subgroups)
    if config.evaluation.floors and accelerator.is_main_process:
        for name, scored in _floors(parts.tables, splits.test, prompts).items():
            known = scored.set_index([*ID_COLUMNS])["score"]
            table[f"{_FLOOR}{name}"] = known.reindex(pd.MultiIndex.from_frame(table[[*ID_COLUMNS]])).to_numpy()
    fitted_on = post_processed_on(predicted)
    inner = prediction_table(fitting.scorer, parts.tables[fitted_on], predicted[fitted_on], ())
    kept = [name for name in (*ID_COLUMNS, TRAIT_COLUMN, "reference", "raw") if name in inner]
    return table, inner[kept]


def _floors(parts: dict[str, EssayTable], test: EssayTable, prompts: Sequence[Prompt]) -> dict[str, pd.DataFrame]:
    train, dev = (parts["train"], parts["dev"]) if "dev" in parts else set_apart(parts["train"], "floors")
    return essay_floors({"train": train, "dev": dev, "test": test}, {prompt.id: prompt.range for prompt in prompts})


def _joined(table: pd.DataFrame, inner: pd.DataFrame) -> OutOfFold:
    floors = {str(name): table[name] for name in table if str(name).startswith(_FLOOR)}
    own = table.drop(columns=list(floors))
    figures = {
        name.removeprefix(_FLOOR): own[["prompt_id", "reference"]].assign(score=score) for name, score in floors.items()
    }
    dropped = own["dropped_tokens"].to_numpy(dtype=np.int64) if "dropped_tokens" in own else None
    probabilities = probability_rows([json.loads(one) for one in own[PROBABILITIES]]) if PROBABILITIES in own else None
    raw = own["raw"].to_numpy(dtype=np.float64)
    return OutOfFold(own, Predicted(raw, probabilities, dropped), inner, floor_figures(figures) if figures else None)
