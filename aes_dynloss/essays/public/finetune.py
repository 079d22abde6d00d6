"""Fine-tuning in Python, as ``aes-dynloss finetune`` does it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from accelerate import Accelerator

from aes_dynloss.essays.explaining.drivers import judged_drivers
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.finetune.run_input import resolve_run
from aes_dynloss.essays.public.scorer import EssayScorer
from aes_dynloss.reports.figures import agreement_figure
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.reports.verdict import next_step, verdict_sentence
from aes_dynloss.tables.frames import held_frame
from aes_dynloss.tables.score_range import ScoreRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class FinetuneResult:
    """What a run left behind.

    Args:
        folder: The output folder.
        report: The content of report.json: attributes, ``to_frame()``.
        chosen: What was found in a table and chosen for it, in words.
    """

    folder: Path
    report: Report
    chosen: list[str] = field(default_factory=list)

    @cached_property
    def scorer(self) -> EssayScorer:
        """The scorer that was fine-tuned."""
        return EssayScorer.from_pretrained(self.folder)

    def plot(self) -> Figure:
        """QWK by prompt with intervals, beside human agreement and the criterion; the first figure of the page."""
        return agreement_figure(by_scale(self.report, short=True))

    def __repr__(self) -> str:
        """Where it lies, and how good the scores are."""
        return f"{type(self).__name__}({str(self.folder)!r}: {verdict_sentence(self.report)})"

    def _repr_html_(self) -> str:
        """Verdict, next step and main measures, for a notebook."""
        sentences = (verdict_sentence(self.report), next_step(self.report))
        return "".join(f"<p>{escape(one)}</p>" for one in sentences) + self.report._repr_html_()


def finetune(
    source: str | Path | pd.DataFrame | Mapping[str, Any] | FinetuneConfig,
    output_dir: str | Path,
    *,
    preset: str | None = None,
    minutes: float = 10.0,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    columns: Mapping[str, str | Sequence[str] | Mapping[str, str]] | None = None,
    ranges: Mapping[str, ScoreRange] | None = None,
    subgroups: Sequence[str] = (),
    group: str | None = None,
    encoding: str | None = None,
    resume: bool = False,
    force: bool = False,
    force_precision: bool = False,
    accelerator: Accelerator | None = None,
) -> FinetuneResult:
    """Fine-tune a scorer on scored essays, evaluate it, and keep model, predictions and report.

    Args:
        source: Scored essays: a file or a DataFrame, whose columns are found by their names or named below. Or a
            configuration: a file, its values, or a :class:`FinetuneConfig`.
        output_dir: Folder for everything that the run leaves behind.
        preset: The scorer: ``fast``, ``balanced``, ``best``, or ``auto`` for the best of them that this machine is
            expected to fit within ``minutes``; ``none``: as the other keys say. By default that of a configuration,
            and ``auto`` for essays.
        minutes: What the run may take with preset auto.
        overrides: Values by key that go before the others, such as ``{"training.epochs": 3}``.
        columns: Of essays: columns by role: ``text``, ``essay_id``, ``prompt_id``, ``score`` and ``second_score``.
            Of several traits, ``score`` has a mapping of traits to columns, or a list of columns called as they are.
        ranges: Of essays: score points by prompt, each of which must have essays; those of ``all`` are of all prompts.
            By default those seen.
        subgroups: Of essays: columns of groups of writers.
        group: Of essays: column of writer, class or school, whose essays stay in one part.
        encoding: Of a text file, such as ``cp1252``; by default UTF-8.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run in the folder.
        force_precision: Allow bf16 on a processor that has it in software alone.
        accelerator: Devices, processes, precision and trackers; by default as the configuration says.

    Returns:
        Scorer, report and plot.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.

    Example:
        >>> result = finetune("essays.csv", "runs/first", preset="auto")  # doctest: +SKIP
        >>> result.report.mean.qwk, result.scorer.prompts  # doctest: +SKIP
        (0.899, ['phones', 'river'])
        >>> finetune("essays.doc", "runs/first")
        Traceback (most recent call last):
        aes_dynloss.errors.ConfigError: essays.doc: expected a configuration (.yaml, .yml, .json) or a table of scored
        essays (.csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx). Save it as one of these.
    """
    output_dir = Path(output_dir)
    table = {"columns": columns or {}, "ranges": ranges or {}, "subgroups": subgroups, "group": group}
    with ExitStack() as stack:
        named = stack.enter_context(held_frame(source)) if isinstance(source, pd.DataFrame) else source
        config, chosen = resolve_run(
            named, preset=preset, minutes=minutes, overrides=overrides, encoding=encoding, **table
        )
        for line in chosen:
            logger.info(line)
        report = run_finetuning(
            config,
            output_dir,
            resume=resume,
            force=force,
            force_precision=force_precision,
            accelerator=accelerator,
            explainer=judged_drivers,
        )
    return FinetuneResult(output_dir, report, chosen)
