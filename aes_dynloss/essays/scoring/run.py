"""One run of scoring into files: scores, and a review sheet beside them; a run that was killed can be gone on with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.scorer import Scorer
from aes_dynloss.essays.review import REVIEW_KINDS, SheetKeys, review_columns, warn_unless_certain
from aes_dynloss.essays.score import score_essays, window_digest
from aes_dynloss.essays.score_output import write_scores
from aes_dynloss.essays.score_parts import score_parts
from aes_dynloss.essays.screening.policy import Policy
from aes_dynloss.evaluation.conformal import COVERAGE
from aes_dynloss.training.prediction import Precision
from aes_dynloss.training.provenance import package_version

_SCORES, _REVIEW = "scores", "review"


@dataclass(frozen=True)
class ScoreOptions:
    """What is answered about each essay, see `score_essays`.

    Args:
        policy: What follows from advisories.
        coverage: Stated coverage of the prediction intervals.
        probabilities: Whether the probability of each score point is answered.
        precision: In which the scorer reads; a run that goes on must find it as it was.
    """

    policy: Policy
    coverage: float = COVERAGE
    probabilities: bool = False
    precision: Precision = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "policy": self.policy.model_dump(),
            "coverage": self.coverage,
            "probabilities": self.probabilities,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class ReviewSheet:
    """Where essays go that a human should score.

    Args:
        path: The file.
        form: csv, jsonl or parquet.
        unsure: Share of essays like those of dev that counts as uncertain.
    """

    path: Path
    form: str
    unsure: float


def score_to_files(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    output: Path,
    form: str,
    options: ScoreOptions,
    *,
    accelerator: Accelerator,
    model_digest: str,
    review: ReviewSheet | None = None,
    resume: bool = False,
    force: bool = False,
) -> tuple[int, int]:
    """Score essays into a file, which appears when all are scored; what is finished before is put by beside it.

    Args:
        scorer: The scorer.
        essays: Essays; each process must be given the same.
        output: The file of scores.
        form: csv, jsonl or parquet.
        options: What is answered.
        accelerator: The scorer's; the main process alone writes.
        model_digest: Digest of the model, which a run that goes on must find as it was.
        review: The review sheet, if one is wanted.
        resume: Go on with what was put by.
        force: Begin again.

    Returns:
        Numbers of essays scored and, of these, for review; 0 and 0 on other processes than the main one.

    Raises:
        ConfigError: What was put by cannot be gone on with, see `score_parts`.
        DataError: An essay cannot be scored, the essays have changed, or a file cannot be written.
    """
    settings: Mapping[str, Any] = {
        "aes-dynloss": package_version("aes-dynloss"),
        "model": model_digest,
        **options.to_dict(),
        "review": None if review is None else [_place_beside(output, review.path), review.unsure],
    }
    others = [] if review is None else [review.path]
    with score_parts(accelerator, output, settings, others=others, resume=resume, force=force) as (parts, done):
        windows = score_essays(
            scorer,
            essays,
            policy=options.policy,
            coverage=options.coverage,
            probabilities=options.probabilities,
            done=done,
        )
        if not accelerator.is_main_process:
            for _ in windows:  # other processes only help to score
                pass
            return 0, 0
        if review is not None and review.unsure > 0:
            warn_unless_certain(scorer)
        for number, window in enumerate(windows, start=len(done)):
            part: dict[str, Any] = {"digest": window_digest(window.essays), _SCORES: window.columns}
            if review is not None:
                part[_REVIEW] = review_columns(scorer, window, review.unsure)
            parts.put(number, part)
        # The scores last: they mark a complete run.
        if review is None:
            return write_scores(parts.tables(_SCORES), form, output), 0
        keys = SheetKeys()
        reviewed = write_scores(keys.of_sheet(parts.tables(_REVIEW)), review.form, review.path, kinds=REVIEW_KINDS)
        return write_scores(keys.of_scores(parts.tables(_SCORES)), form, output), reviewed


def _place_beside(output: Path, path: Path) -> str:
    """Where a file lies, as seen from another."""
    return os.path.relpath(path.resolve(), output.resolve().parent)


def score_to_stream(
    scorer: Scorer, essays: Iterable[UnscoredEssay], form: str, options: ScoreOptions, *, accelerator: Accelerator
) -> int:
    """Score essays to standard output, as they come.

    Args:
        scorer: The scorer.
        essays: Essays; each process must be given the same.
        form: csv or jsonl.
        options: What is answered.
        accelerator: The scorer's; the main process alone writes.

    Returns:
        Number of essays; 0 on other processes than the main one.
    """
    windows = score_essays(
        scorer, essays, policy=options.policy, coverage=options.coverage, probabilities=options.probabilities
    )
    columns = (window.columns for window in windows)
    if accelerator.is_main_process:
        return write_scores(columns, form, None)
    for _ in columns:
        pass
    return 0
