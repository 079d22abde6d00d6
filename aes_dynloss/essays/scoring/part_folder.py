"""A folder of tables scored part by part, by this process or by workers of a cluster that see the same folders.

1. Each part is read once (:func:`survey_part`), so that a fault is told before anything is scored, and so that this
   process finds the essays of one part that an earlier one has already, by their hashes alone.
2. Each part is scored as a file of its own (:func:`score_part`) into the folder OUTPUT.parts. It knows its duplicates:
   its scores, its rows for review and its lines in the audit log are final, and need never be taken back.
3. In the order of the parts' names this process adds their lines to the audit log and lets each appear in OUTPUT.

A part that is done is not done again, whoever died; one that is begun goes on from its last window.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.essays.model.protocol import Scorer, known_prompts
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.essays.model.trait_rows import Asked
from aes_dynloss.essays.scoring.audit import ScoreAudit
from aes_dynloss.essays.scoring.opening import in_checked_precision, open_to_score
from aes_dynloss.essays.scoring.output import write_scores
from aes_dynloss.essays.scoring.part_tables import Reading
from aes_dynloss.essays.scoring.resume import SUFFIX, OneProcess, ScoreParts, score_parts
from aes_dynloss.essays.scoring.run import (
    AUDIT,
    COUNTS,
    KEPT,
    REVIEW,
    ReviewSheet,
    ScoreCounts,
    ScoreOptions,
    quiet,
    review_kinds,
    run_settings,
    saved_window,
    score_kinds,
    scored_windows,
    that_fit,
    warn_of_repeats,
    warn_unless_certain,
    write_windows,
)
from aes_dynloss.essays.scoring.score import WINDOW, ScoredWindow, duplicate_finder, prompts_of, warn_of_blank_intervals
from aes_dynloss.essays.screening.duplicates import KnownDuplicates, hash_texts
from aes_dynloss.essays.screening.kinds import Advisory
from aes_dynloss.progress import Progress
from aes_dynloss.tables.atomic import file_sha256, leftovers, publish
from aes_dynloss.tables.formats import iterate_rows
from aes_dynloss.tables.provenance import PROVENANCE, Provenance, sealed
from aes_dynloss.training.config import Precision

logger = logging.getLogger(__name__)

# Runs a function on each of some items; results come in the order of the items. The built-in ``map`` is one.
Engine = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]

# What a part is written as that is in a format which is read alone.
_WRITTEN_AS = {"tsv": "csv", "ndjson": "jsonl"}
# Seconds for which a worker waits for the end of another that has lost its machine and holds the same part.
_PATIENCE = 60
_SHOWN = 5


@lru_cache(maxsize=1)
def open_once(model: Path, digest: str, precision: Precision, cpu: bool, force_precision: bool) -> Scorer:
    """The scorer of all parts that this process scores, in float32.

    Args:
        model: The model as it was named.
        digest: SHA-256 of its config.json.
        precision: In which it is to read.
        cpu: Whether a GPU is left alone.
        force_precision: Allow bf16 on a processor that has it in software alone.

    Raises:
        CheckpointError: The model cannot be opened.
        ConfigError: It is another on this machine, or is not for its processor, or for one process of several.
    """
    folder = locate_model(model)
    if file_sha256(folder / CONFIG) != digest:
        raise ConfigError(
            f"{model} is another model for this worker than where the command was given. Share its folder."
        )
    alone = "A folder of tables is scored by one process, or by the workers of --engine ray. Leave the launcher out."
    return open_to_score(folder, precision, cpu=cpu, force_precision=force_precision, alone=alone)[1]


@dataclass(frozen=True)
class FolderScoring:
    """What is the same for all parts, to be sent to workers.

    Args:
        model: The model as it was named, which each machine locates.
        digest: SHA-256 of its config.json, by which a worker knows it.
        output: Folder of the scores.
        reading: How the parts are read.
        options: What is answered.
        form: One of `output.FORMATS`; None for that of each part.
        review: The review sheet, if one is wanted.
        audit: Makes the lines of the audit log, if one is wanted.
        run: Name of the run.
        cpu: Whether GPUs are left alone.
        force_precision: Allow bf16 on a processor that has it in software alone.
    """

    model: Path
    digest: str
    output: Path
    reading: Reading
    options: ScoreOptions
    form: str | None = None
    review: ReviewSheet | None = None
    audit: ScoreAudit | None = None
    run: str = ""
    cpu: bool = False
    force_precision: bool = False

    def scorer(self) -> Scorer:
        """The scorer in float32, loaded once a process.

        Raises:
            ConfigError: The model is another on this machine.
        """
        return open_once(self.model, self.digest, self.options.precision, self.cpu, self.force_precision)

    def form_of(self, part: Path) -> str:
        """The format of a part's scores."""
        suffix = part.suffix.lower().removeprefix(".")
        return self.form or _WRITTEN_AS.get(suffix, suffix)

    def name_of(self, part: Path) -> str:
        """The name of a part's file of scores."""
        form = self.form_of(part)
        return part.name if part.suffix.lower() == f".{form}" else f"{part.stem}.{form}"

    @property
    def work(self) -> Path:
        """Folder of what this run has scored."""
        return ScoreParts(self.output.with_name(self.output.name + SUFFIX)).files / self.run


@dataclass(frozen=True)
class Part:
    """A part that is to be read or scored.

    Args:
        scoring: What is the same for all.
        path: Its table.
        sha256: Of that, as it was read first; empty before.
        essays: Their number, likewise.
        duplicates: Advisories on its essays that were there before, by place; None where none are looked for.
        hashed: Whether the essays are hashed as they are read first.
    """

    scoring: FolderScoring
    path: Path
    sha256: str = ""
    essays: int = 0
    duplicates: Mapping[int, Advisory] | None = None
    hashed: bool = False

    def __str__(self) -> str:
        """Its name."""
        return self.path.name

    @property
    def scored(self) -> Path:
        """Its scores, as far as they are written in the run's folder."""
        return self.scoring.work / self.scoring.name_of(self.path)

    @property
    def windows(self) -> ScoreParts:
        """What is saved of it, window by window."""
        return ScoreParts(self.scored.with_name(self.scored.name + SUFFIX))


@dataclass(frozen=True)
class Survey:
    """What a first reading of a part tells.

    Args:
        sha256: Of the table.
        columns: Those of its columns that are looked for; none where it has no rows.
        essays: Its essays without their texts.
        hashes: Those of the texts, see `hash_texts`; none where they are not asked for.
        fault: Why it cannot be read; empty where it can.
    """

    sha256: str = ""
    columns: tuple[str, ...] = ()
    essays: Sequence[UnscoredEssay] = ()
    hashes: Sequence[int | None] = ()
    fault: str = ""


def survey_part(part: Part) -> Survey:
    """Read a part for the first time, whole."""
    scoring, reading = part.scoring, part.scoring.reading
    try:
        with quiet():
            essays: list[UnscoredEssay] = []
            hashes: list[int | None] = []
            stream = that_fit(reading.essays(part.path), scoring.form_of(part.path), scoring.options, scoring.review)
            while chunk := list(itertools.islice(stream, WINDOW)):
                essays += [essay._replace(text="", features={}, kept={}) for essay in chunk]
                hashes += hash_texts([essay.text for essay in chunk]) if part.hashed else []
            rows = iterate_rows(part.path, encoding=reading.encoding, quoting=reading.quoting)
            _, row = next(rows) if essays else (0, {})
        known = reading.columns
        columns = tuple(name for name in (known.essay_id, known.prompt_id) if name in row)
        return Survey(file_sha256(part.path), columns, essays, hashes)
    except (DataError, OSError) as error:
        return Survey(fault=str(error))


def score_part(part: Part) -> ScoreCounts:
    """Score a part into the run's folder, unless it is there, and count its essays.

    Raises:
        DataError: It has changed since it was read first, or cannot be scored.
    """
    scoring, options = part.scoring, part.scoring.options
    target, form = part.scored, scoring.form_of(part.path)
    with quiet(), score_parts(OneProcess(), target, {}, resume=True, keep=True, patience=_PATIENCE) as (windows, done):
        if not target.exists():
            if file_sha256(part.path) != part.sha256:
                raise DataError(f"{part} was changed while its folder was scored. Start again with --force.")
            scorer, essays = in_checked_precision(
                scoring.scorer(), scoring.reading.essays(part.path), options.precision
            )
            known = None if part.duplicates is None else KnownDuplicates(part.duplicates)
            scored = scored_windows(scorer, essays, options, done=done, duplicates=known, progress=None, warn=False)
            if not part.essays:
                scored = iter([] if done else [_without_essays(scorer, options)])
            for number, window in enumerate(scored, start=len(done)):
                saved = saved_window(scorer, window, options, scoring.review, scoring.audit)
                if not window.essays:
                    saved[KEPT] = {column: [] for column in scoring.reading.kept_without_rows(part.path)}
                windows.put(number, saved)
            write_windows(windows, form, target, options, score_kinds(scorer, long=options.long))
        counts = ScoreCounts()
        for one in windows.tables(COUNTS):
            counts.add(one["withheld"])
    return counts


def _without_essays(scorer: Scorer, options: ScoreOptions) -> ScoredWindow:
    """A window without essays that has the columns of any other: those of a made-up essay, which is taken out."""
    made_up = UnscoredEssay("", known_prompts(scorer)[0], "", dict.fromkeys(scorer.own_features, 0.0))
    window = next(scored_windows(scorer, [made_up], options, progress=None, warn=False))
    return ScoredWindow({column: [] for column in window.columns}, [], [], [])


def score_folder(
    scoring: FolderScoring,
    paths: Sequence[Path],
    engine: Engine,
    made: Provenance,
    *,
    resume: bool = False,
    force: bool = False,
) -> ScoreCounts:
    """Score the tables of a folder, each into a table of the same name in another folder.

    Args:
        scoring: What is the same for all.
        paths: The tables, see :func:`aes_dynloss.essays.scoring.part_tables.list_parts`.
        engine: Runs a function on each of some items, here or elsewhere.
        made: Where the scores come from, but for the tables.
        resume: Go on with a run that was stopped.
        force: Begin again.

    Returns:
        Numbers of essays.

    Raises:
        ConfigError: What is saved cannot be resumed, see `score_parts`.
        DataError: A table cannot be read, or has changed since the run began; or a file cannot be written.
    """
    output, review, scorer = scoring.output, scoring.review, scoring.scorer()
    in_checked_precision(scorer, (), scoring.options.precision)  # lest workers refuse it
    names = [scoring.name_of(path) for path in paths]
    if not resume:
        _check_output(output, names)
    others = [] if review is None else [review.path]
    settings = run_settings(output, scoring.options, scoring.digest, review, scoring.audit) | {
        "format": scoring.form,
        "reading": scoring.reading.plain(),
    }
    with score_parts(OneProcess(), output, settings, others=others, resume=resume, force=force) as (saved, _):
        surveyed = _surveyed(scoring, paths, engine, scorer)
        _make(output)
        parts = _begun(saved, surveyed)
        made = replace(made, sources={str(part): part.sha256 for part in parts})
        for half in leftovers(output):
            half.unlink(missing_ok=True)
        with sealed(made, output, names=names), sealed(made, *others):
            counts = _scored(parts, engine)
            if review is not None:

                def tables(name: str) -> Iterator[Mapping[str, list[Any]]]:
                    return (table for part in parts for table in part.windows.tables(name))

                counts.reviewed = write_scores(tables(REVIEW), review.form, review.path, review_kinds(scorer))
                warn_of_repeats(tables)
        return counts


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write {output}: {error.strerror}. Choose another --output.") from None


def _check_output(output: Path, names: Sequence[str]) -> None:
    """Refuse a folder that holds something else: whoever reads it would take that for scores of this run."""
    entries = output.iterdir() if output.is_dir() else ()
    others = sorted(path.name for path in entries if path.name not in {PROVENANCE, *names} and path.name[0] != ".")
    if others:
        raise ConfigError(
            f"{output} holds {others[0]}, which is not of these parts. Move it, or choose another --output."
        )


def _surveyed(scoring: FolderScoring, paths: Sequence[Path], engine: Engine, scorer: Scorer) -> list[Part]:
    """The parts, each with the essays in it that an earlier one has too.

    Raises:
        DataError: Some cannot be read, or not as the first is; all are named.
    """
    options = scoring.options
    finder = duplicate_finder(scorer, options.policy)
    parts = [Part(scoring, path, hashed=finder is not None) for path in paths]
    found: list[Part] = []
    faults: dict[str, str] = {}
    prompts: set[str] = set()
    columns: tuple[str, ...] | None = None
    surveys = Progress(engine(survey_part, parts), desc="read parts", unit="part", total=len(parts))
    for part, survey in zip(parts, surveys, strict=True):
        try:
            if survey.fault:
                raise DataError(survey.fault)
            if survey.essays:
                columns = survey.columns if columns is None else columns
                _check_columns(survey.columns, columns)
            prompt_ids = prompts_of(scorer, survey.essays)
        except DataError as error:
            faults[str(part)] = f"{part}: {error}"
            continue
        prompts.update(prompt_ids)
        found.append(replace(part, sha256=survey.sha256, essays=len(survey.essays)))
        if finder is not None:
            advisories = finder.find_hashed(survey.hashes, [essay.essay_id for essay in survey.essays], prompt_ids)
            known = {place: one for place, one in enumerate(advisories) if one is not None}
            found[-1] = replace(found[-1], duplicates=known)
    if faults:
        listed = "\n".join([*faults.values()][:_SHOWN])
        others = ", ".join([*faults][_SHOWN:])
        raise DataError(
            f"{len(faults)} of {len(parts)} parts cannot be read, and none was scored. Mend them, or move them away.\n"
            f"{listed}" + (f"\nand {others}" if others else "")
        )
    without = sum(not part.essays for part in found)
    if without:
        logger.info("%d of %d parts have no rows.", without, len(found))
    warn_of_blank_intervals(scorer, set(Asked.of(scorer.prompts, sorted(prompts)).scales), options.coverage)
    if scoring.review is not None and scoring.review.unsure > 0:
        warn_unless_certain(scorer)
    return found


def _check_columns(columns: Sequence[str], first: Sequence[str]) -> None:
    """Refuse a part whose essays would be named in another way than those of the first."""
    odd = sorted(set(columns) ^ set(first))
    if odd:
        raise DataError(
            f"It {'has a' if odd[0] in columns else 'lacks the'} column {odd[0]!r}, unlike the first part. Give all "
            "parts the same columns."
        )


def _begun(saved: ScoreParts, parts: Sequence[Part]) -> list[Part]:
    """The parts of this run, which begins, or is gone on with where it was saved that it had begun.

    Raises:
        DataError: It was saved with other parts.
    """
    scoring = parts[0].scoring
    digests = {str(part): part.sha256 for part in parts}
    before = next(iter(saved), None)
    if before is None:
        run = uuid4().hex if scoring.audit is None else scoring.audit.run
        digest = hashlib.sha256(json.dumps(digests).encode("utf-8", "surrogatepass")).hexdigest()
        saved.put(0, {"digest": digest, "run": run, "parts": digests})
        begun = replace(scoring, run=run)
    else:
        known = before.get("parts", {})
        changed = [name for name in sorted({*digests, *known}) if digests.get(name) != known.get(name)]
        if changed:
            raise DataError(
                f"The parts are not those of the saved scores ({', '.join(changed[:_SHOWN])}), so that the run cannot "
                "be resumed. Bring them back, or start again with --force."
            )
        run = before["run"]
        begun = replace(scoring, run=run, audit=None if scoring.audit is None else scoring.audit.of_run(run))
    return [replace(part, scoring=begun) for part in parts]


def _scored(parts: Sequence[Part], engine: Engine) -> ScoreCounts:
    """Let all parts be scored, and each appear as soon as those before it have; its lines are in the log by then."""
    scoring, counts = parts[0].scoring, ScoreCounts()
    with Progress(total=sum(part.essays for part in parts), desc="score parts", unit="essay") as bar:
        for part, own in zip(parts, engine(score_part, parts), strict=True):
            if not part.scored.exists():
                raise ConfigError(
                    f"A worker has written {part.scored.name}, which is not here. Name an --output that all "
                    "machines share."
                )
            if scoring.audit is not None:
                for window in part.windows:
                    scoring.audit.tell(window[AUDIT])
            publish(part.scored, scoring.output / part.scored.name)
            counts.essays += own.essays
            counts.withheld += own.withheld
            bar.update(own.essays)
    return counts
