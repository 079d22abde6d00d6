"""One run of scoring into files, scores and a review sheet; an interrupted run can be resumed.

The review sheet lists the essays that a human should score.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.model.trait_rows import Asked, row_kinds
from aes_dynloss.essays.scoring.audit import ScoreAudit
from aes_dynloss.essays.scoring.output import (
    COLUMN_KINDS,
    kept_columns,
    kept_names,
    names_and_kinds,
    with_kept,
    write_scores,
)
from aes_dynloss.essays.scoring.resume import Processes, ScoreParts, score_parts
from aes_dynloss.essays.scoring.score import ScoredWindow, score_essays, window_digest
from aes_dynloss.essays.scoring.worksheets import Worksheet
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.measures.intervals import COVERAGE
from aes_dynloss.measures.scales import ConversionTable
from aes_dynloss.reports.adjudication import HUMAN_SCORE
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.provenance import Provenance, sealed
from aes_dynloss.tables.workbook import refuse_long_text
from aes_dynloss.training.config import Precision
from aes_dynloss.versions import package_version

logger = logging.getLogger(__name__)

UNCERTAIN = "uncertain"
# What is saved of a window.
SCORES, REVIEW, KEPT, COUNTS, AUDIT = "scores", "review", "kept", "counts", "audit"

# The machine's score is not among them: whoever sees it is drawn towards it.
REVIEW_KINDS: Mapping[str, type] = {
    "essay_id": str,
    "prompt_id": str,
    "because": list,
    "reasons": list,
    "text": str,
    HUMAN_SCORE: float,
}


def review_columns(scorer: Scorer, window: ScoredWindow, unsure: float) -> dict[str, list[Any]]:
    """The rows of a review sheet: essays with advisories, and those of whose score the machine is least sure.

    Args:
        scorer: The scorer.
        window: Essays and scores, with advisories.
        unsure: Share of essays like those of dev that counts as uncertain, 0 for none.

    Returns:
        Columns of REVIEW_KINDS; the human score is blank, to be filled in.
    """
    rows: dict[str, list[Any]] = {name: [] for name in review_kinds(scorer)}
    kinds, reasons = window.by_essay("advisories", []), window.by_essay("reasons", [])
    prompt_ids = window.by_essay("prompt_id")
    for essay, prompt, advisories, why, certainty in zip(
        window.essays, prompt_ids, kinds, reasons, window.certainty, strict=True
    ):
        because, sentences = [*advisories], [*why]
        doubts = _doubts(scorer, certainty, unsure)
        if doubts:
            because.append(UNCERTAIN)
            sentences += doubts
        if because:
            known = dict(zip(REVIEW_KINDS, (essay.essay_id, prompt, because, sentences, essay.text), strict=False))
            for name, values in rows.items():
                values.append(known.get(name))
    return rows


def review_kinds(scorer: Scorer) -> dict[str, type]:
    """The columns of a review sheet with their types: with several traits one to fill in for each, called as it is."""
    traits = Asked.of(scorer.prompts, []).traits
    if not traits:
        return dict(REVIEW_KINDS)
    return {name: kind for name, kind in REVIEW_KINDS.items() if name != HUMAN_SCORE} | dict.fromkeys(traits, float)


def _doubts(scorer: Scorer, certainty: Mapping[str, float], unsure: float) -> list[str]:
    """A sentence on each of an essay's scores of which the machine is less sure than of nearly all."""
    doubts = []
    for scale, chance in certainty.items():
        border = scorer.certainty.unsure_below(scale, unsure)
        if unsure > 0 and border is not None and chance < border:  # NaN: unknown
            trait = scorer.prompts[scale].trait
            doubts.append(
                f"The machine is less sure of its score{'' if trait is None else f' of {trait}'} than of "
                f"{1 - unsure:.0%} of the essays it was tried on: a human gives the same one with a chance of about "
                f"{chance:.0%}."
            )
    return doubts


def warn_unless_certain(scorer: Scorer) -> None:
    """Say so where a sheet lacks uncertain essays because nothing tells which these are."""
    unknown = [prompt for prompt in scorer.prompts if prompt not in scorer.certainty.prompts]
    if unknown:
        logger.warning(
            "The model does not know on %s how sure it is, so that no essay there is for review as uncertain. A model "
            "learns that in training with this version, from dev essays of the prompt; an ensemble from those that all "
            "its members' runs share.",
            ", ".join(unknown),
        )


def warn_of_repeats(tables: Callable[[str], Iterable[Mapping[str, list[Any]]]]) -> None:
    """Say so where essays with the ids of those for review repeat, so that decisions would not find theirs.

    Args:
        tables: The saved tables of a name, window by window.
    """

    def keys(name: str) -> Iterator[int]:
        first: dict[str, str | None] = {}  # the trait by which a prompt's essays are counted, each once
        for table in tables(name):
            prompts, essays = table["prompt_id"], table["essay_id"]
            traits = table.get(TRAIT_COLUMN, [None] * len(essays))
            for prompt, essay, trait in zip(prompts, essays, traits, strict=True):
                if first.setdefault(prompt, trait) == trait:
                    yield hash((prompt, essay))

    reviewed = set(keys(REVIEW))
    scored = Counter(key for key in keys(SCORES) if key in reviewed)
    repeats = scored.total() - len(scored)
    if repeats:
        logger.warning(
            "Essays with the essay_id of an earlier one to the same prompt, of those for review: %d. `evaluate "
            "--adjudicated` cannot tell which a decision is on, and refuses them. Give each essay an id of its "
            "own, and score again.",
            repeats,
        )


@dataclass
class ScoreCounts:
    """How many essays a run of scoring answered; none on other processes than the main one.

    Args:
        essays: Rows of output.
        withheld: Those of them without a score.
        reviewed: Those of them for review.
    """

    essays: int = 0
    withheld: int = 0
    reviewed: int = 0

    def add(self, withheld: Sequence[bool]) -> None:
        """Count some essays.

        Args:
            withheld: Whether the score of each is.
        """
        self.essays += len(withheld)
        self.withheld += sum(withheld)


@dataclass(frozen=True)
class ScoreOptions:
    """What is answered about each essay, see `score_essays`.

    Args:
        policy: What follows from advisories.
        coverage: Stated coverage of the prediction intervals.
        probabilities: Whether the probability of each score point is answered.
        precision: In which the scorer reads; a run that is resumed must find it as it was.
        keep_columns: Whether the input's columns, which the essays then have with them, stand behind the scores.
        long: Where essays are scored on several traits, whether each of an essay's scores has a row of its own.
        scale: Tables of reported scores by prompt, in the place of the model's own.
        ood_distance: Whether each essay's distance from the training essays is answered.
    """

    policy: Policy
    coverage: float = COVERAGE
    probabilities: bool = False
    precision: Precision = "float32"
    keep_columns: bool = False
    long: bool = False
    scale: Mapping[str, ConversionTable] = field(default_factory=dict)
    ood_distance: bool = False


@dataclass(frozen=True)
class ReviewSheet:
    """Where essays go that a human should score.

    Args:
        path: The file.
        form: One of `output.FORMATS`.
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
    processes: Processes,
    model_digest: str,
    made: Provenance,
    review: ReviewSheet | None = None,
    audit: ScoreAudit | None = None,
    worksheet: Worksheet | None = None,
    resume: bool = False,
    force: bool = False,
) -> ScoreCounts:
    """Score essays into a file, which appears when all are scored; finished parts are saved beside it.

    Args:
        scorer: The scorer.
        essays: Essays; each process must be given the same.
        output: The file of scores.
        form: One of `output.FORMATS`, or a learning platform.
        options: What is answered.
        processes: Those that score; the main one alone writes.
        model_digest: Digest of the model, which a run that is resumed must find as it was.
        made: Where the files come from, which is told beside them.
        review: The review sheet, if one is wanted.
        audit: Where each score is logged, as soon as it is saved.
        worksheet: What is filled in with the scores, where the format is a learning platform's.
        resume: Resume from the saved parts.
        force: Begin again.

    Returns:
        Numbers of essays.

    Raises:
        ConfigError: The saved parts cannot be resumed, see `score_parts`.
        DataError: An essay cannot be scored, the essays have changed, or a file cannot be written.
    """
    settings = run_settings(output, options, model_digest, review, audit)
    others = [] if review is None else [review.path]
    with score_parts(processes, output, settings, others=others, resume=resume, force=force) as (parts, done):
        windows = scored_windows(scorer, that_fit(essays, form, options, review), options, done=done)
        if not processes.is_main_process:
            deque(windows, maxlen=0)  # other processes only help to score
            return ScoreCounts()
        if review is not None and review.unsure > 0:
            warn_unless_certain(scorer)
        if audit is not None:
            audit = audit.resumed(part[AUDIT] for part in parts)
        for number, window in enumerate(windows, start=len(done)):
            part = saved_window(scorer, window, options, review, audit)
            parts.put(number, part)
            if audit is not None:
                audit.tell(part[AUDIT])
        counts = ScoreCounts()
        for one in parts.tables(COUNTS):
            counts.add(one["withheld"])
        with sealed(made, output, *others):
            if review is not None:
                counts.reviewed = write_scores(parts.tables(REVIEW), review.form, review.path, review_kinds(scorer))
                warn_of_repeats(parts.tables)
            # The scores last: they mark a complete run.
            if worksheet is None:
                write_windows(parts, form, output, options, score_kinds(scorer, long=options.long))
            else:
                worksheet.write(parts.tables(SCORES), output)
        return counts


def run_settings(
    output: Path, options: ScoreOptions, model_digest: str, review: ReviewSheet | None, audit: ScoreAudit | None
) -> dict[str, Any]:
    """What the scores of a run depend on beside the essays, as plain values."""
    return {
        "aes-dynloss": package_version("aes-dynloss"),
        "model": model_digest,
        **asdict(options),
        "policy": options.policy.model_dump(),
        "scale": {prompt: table.to_dict() for prompt, table in options.scale.items()},
        "review": None if review is None else [_beside(output, review.path), review.unsure],
        "audit": None if audit is None else _beside(output, audit.log.path),
    }


def scored_windows(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    options: ScoreOptions,
    **more: Any,  # noqa: ANN401 - further arguments of score_essays
) -> Iterator[ScoredWindow]:
    """Essays scored by :func:`score_essays` as the options say."""
    return score_essays(
        scorer,
        essays,
        policy=options.policy,
        coverage=options.coverage,
        probabilities=options.probabilities,
        long=options.long,
        scale=options.scale,
        ood_distance=options.ood_distance,
        **more,
    )


def that_fit(
    essays: Iterable[UnscoredEssay], form: str, options: ScoreOptions, review: ReviewSheet | None
) -> Iterator[UnscoredEssay]:
    """The same essays; one that a workbook which is to be written could not hold is refused as it comes."""
    for essay in essays:
        for cell in essay.kept.values() if form == "xlsx" and options.keep_columns else ():
            if isinstance(cell, str):
                refuse_long_text(cell, f"--keep-columns, essay {essay.essay_id}")
        if review is not None and review.form == "xlsx":  # whether it is for review is known only once it is scored
            refuse_long_text(essay.text, f"--review, essay {essay.essay_id}")
        yield essay


def check_fit(
    read: Callable[[], Iterable[UnscoredEssay]], form: str, options: ScoreOptions, review: ReviewSheet | None
) -> None:
    """Read all essays before the first is scored, where a workbook might not hold one of them.

    Raises:
        DataError: There is such an essay, or one cannot be read.
    """
    if (form == "xlsx" and options.keep_columns) or (review is not None and review.form == "xlsx"):
        with quiet():
            deque(that_fit(read(), form, options, review), maxlen=0)


@contextmanager
def quiet() -> Iterator[None]:
    """Let what readers and scorers say in the log go, short of errors: it is said elsewhere, once."""
    own = logging.getLogger("aes_dynloss")
    level = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(level)


def saved_window(
    scorer: Scorer, window: ScoredWindow, options: ScoreOptions, review: ReviewSheet | None, audit: ScoreAudit | None
) -> dict[str, Any]:
    """What is saved of a window: a digest of its essays, and tables by the names above."""
    part: dict[str, Any] = {"digest": window_digest(window.essays), SCORES: window.columns}
    part[COUNTS] = {"withheld": window.by_essay("withheld", default=False)}
    if options.keep_columns:
        part[KEPT] = _kept_columns(window)
    if review is not None:
        part[REVIEW] = review_columns(scorer, window, review.unsure)
    if audit is not None:
        part[AUDIT] = audit.entries(window)
    return part


def _beside(output: Path, path: Path) -> str:
    """Where a file is, from the folder of the scores."""
    return os.path.relpath(path.resolve(), output.resolve().parent)


def score_kinds(scorer: Scorer, *, long: bool = False) -> dict[str, type]:
    """Types of the columns that a scorer's scores may have.

    Args:
        scorer: The scorer.
        long: Where essays are scored on several traits, whether each score has a row of its own.
    """
    return row_kinds(COLUMN_KINDS, Asked.of(scorer.prompts, []).traits, long=long)


def _kept_columns(window: ScoredWindow) -> dict[str, list[Any]]:
    """The cells that essays have with them, row by row; a blank where one has no such column."""
    return kept_columns([window.essays[place].kept for place in window.owner])


def write_windows(
    parts: ScoreParts, form: str, output: Path, options: ScoreOptions, columns: Mapping[str, type]
) -> None:
    """Write the scores of all saved windows, and the input's columns behind them if these are kept."""
    scores = parts.tables(SCORES)
    if not options.keep_columns:
        write_scores(scores, form, output, columns)
        return
    names, kinds = names_and_kinds(parts.tables(KEPT), next(parts.tables(SCORES), {}), columns)
    write_scores(with_kept(scores, parts.tables(KEPT), names), form, output, kinds)


def score_to_stream(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    form: str,
    options: ScoreOptions,
    *,
    processes: Processes,
    audit: ScoreAudit | None = None,
) -> ScoreCounts:
    """Score essays to standard output, as they come.

    Args:
        scorer: The scorer.
        essays: Essays; each process must be given the same.
        form: csv or jsonl.
        options: What is answered.
        processes: Those that score; the main one alone writes.
        audit: Where each score is logged before it is written.

    Returns:
        Numbers of essays.
    """
    windows = scored_windows(scorer, essays, options)
    counts = ScoreCounts()
    if processes.is_main_process:
        windows = _counted(windows if audit is None else audit.told(windows), counts)
        columns = _streamed(windows) if options.keep_columns else (window.columns for window in windows)
        write_scores(columns, form, None, score_kinds(scorer, long=options.long))
    else:
        deque(windows, maxlen=0)  # other processes only help to score
    return counts


def _counted(windows: Iterable[ScoredWindow], counts: ScoreCounts) -> Iterator[ScoredWindow]:
    """The same windows, counted as they pass."""
    for window in windows:
        counts.add(window.by_essay("withheld", default=False))
        yield window


def _streamed(windows: Iterable[ScoredWindow]) -> Iterator[Mapping[str, list[Any]]]:
    """Columns of scores with the input's behind them, which are those of the first window: no header comes later."""
    names: dict[str, str] | None = None
    for window in windows:
        kept = _kept_columns(window)
        names = kept_names(kept, window.columns) if names is None else names
        later = [name for name in kept if name not in names]
        if later:
            raise DataError(
                f"--keep-columns: some essays have the column {later[0]!r}, which the first {len(window)} lack, and "
                "standard output has its header already. Name a file with --output: all columns are known there."
            )
        yield from with_kept([window.columns], [kept], names)
