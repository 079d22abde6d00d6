"""Predictions of several arms' runs, matched essay by essay; refused where they did not score the same essays.

Runs that differ in their seed alone can be averaged into one scorer. For tuning, which must not see test, dev essays
are split in halves, each measured with calibrations fitted on the other.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.calibration import RescalingLine, fit_rescaling
from aes_dynloss.measures.paired_bootstrap import Cell, Side
from aes_dynloss.reports.predictions import PredictionTable, apply_ranges
from aes_dynloss.reports.prompts import calibrated_scores, prompt_order, refuse_shared_essays
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ScoreRange, spanning


@dataclass(frozen=True)
class ScoredRun:
    """One run's predictions.

    Args:
        stratum: Such as a fold: runs of one stratum have scored the same test essays of the prompts that they share.
        seed: Runs of an arm that differ in it alone are repetitions, whose kappas are averaged.
        test: Predictions of the essays that arms are compared on, with human scores.
        dev: The same run's predictions of other essays, to fit rescaling and cut points; None where there are none.
        out_of_fold: Predictions of its train essays, each by a model that was fitted without it, to fit weights of
            several runs; None where they are not known or not wanted.
    """

    stratum: str
    seed: str
    test: PredictionTable
    dev: PredictionTable | None
    out_of_fold: PredictionTable | None = None


def arm_names(paths: Sequence[str | Path]) -> dict[str, Path]:
    """A name for each path: its last part, with as many parts before it as set it apart from the others.

    Args:
        paths: Paths, made absolute before they are named.

    Returns:
        Path by name, in the paths' order.

    Raises:
        ConfigError: A path is there twice.
    """
    absolute = [Path(os.path.normpath(Path(path).absolute())) for path in paths]
    names = {}
    for path, given in zip(absolute, paths, strict=True):
        if absolute.count(path) > 1:
            raise ConfigError(f"{path} is given twice. A run compared with itself says nothing: leave one out.")
        others = [other for other in absolute if other != path]
        lengths = range(1, len(path.parts) + 1)
        length = next(n for n in lengths if all(other.parts[-n:] != path.parts[-n:] for other in others))
        names[Path(*path.parts[-length:]).as_posix()] = Path(given)
    return names


class _Part(NamedTuple):
    """One prompt of one arm's run, as a run of that prompt alone."""

    arm: str
    prompt: str
    run: ScoredRun

    def __str__(self) -> str:
        """The run in words."""
        names = {"arm": self.arm, "stratum": self.run.stratum, "seed": self.run.seed}
        return ", ".join(f"{kind} {name!r}" for kind, name in names.items() if name)


Parts = dict[tuple[str, str], list[_Part]]  # by stratum and prompt
Notes = Counter[tuple[str, str]]  # how often there was cause for a note, by arm and note


def build_cells(
    arms: Mapping[str, Sequence[ScoredRun]], control: str, *, fewest: int = 2
) -> tuple[dict[str, list[Cell]], list[str]]:
    """All arms' scores, prompt by prompt and stratum by stratum, as they are and after the calibrations on dev.

    Args:
        arms: Runs by the arm's name.
        control: The arm whose essays the others are held against.
        fewest: Fewest arms that may be given: 1 where an arm's own figures are wanted, with or without others.

    Returns:
        Cells by prompt, and notes.

    Raises:
        ConfigError: There are fewer arms than that, the control is none of them, or an arm has no run.
        DataError: Arms, or runs of one arm, differ in strata, prompts, essays, human scores or score ranges; or a run
            is there twice, has no human scores, or shares essays between dev and test.
    """
    if len(arms) < fewest or not all(arms.values()):
        number = "two arms or more" if fewest > 1 else "an arm or more"
        raise ConfigError(f"A comparison needs {number}, each with a run; found {', '.join(arms) or 'none'}.")
    if control not in arms:
        raise ConfigError(f"The control {control!r} is none of the arms: {', '.join(arms)}. Name one of them.")
    notes: Notes = Counter()
    parts: Parts = {}
    for arm, runs in arms.items():
        for run in runs:
            notes.update((arm, note) for table in (run.test, run.dev) if table is not None for note in table.notes)
            _add_parts(arm, run, parts)
    _refuse_other_places(arms, parts)
    cells: dict[str, list[Cell]] = {}
    for prompt in sorted({prompt for _, prompt in parts}, key=prompt_order):
        strata = {place[0]: parts[place] for place in sorted(parts) if place[1] == prompt}
        for together in strata.values():
            first = next(part for part in together if part.arm == control)
            for part in together:
                _refuse_unequal((str(first), str(part)), (first.run.test, part.run.test))
        score_range = _arms_range(prompt, [part for together in strata.values() for part in together])
        cells[prompt] = [_cell(stratum, together, score_range, notes) for stratum, together in strata.items()]
    return cells, _format_notes(notes, len(arms))


def _add_parts(arm: str, run: ScoredRun, parts: Parts) -> None:
    """Add a run's prompts to those of the other runs, or refuse it."""
    for one in split_by_prompt(run):
        (prompt,) = one.test.ranges
        part = _Part(arm, prompt, one)
        for table, where in ((one.test, "predictions"), (one.dev, f"dev predictions of prompt {prompt!r}")):
            if table is not None and table.table["reference"].isna().any():
                raise DataError(f"{part} has no human scores in its {where}: there is nothing to measure.")
        if one.dev is not None:
            refuse_shared_essays(one.test, one.dev, f"{part}: ")
        together = parts.setdefault((run.stratum, prompt), [])
        if any((other.arm, other.run.seed) == (arm, run.seed) for other in together):
            raise DataError(f"{part} has prompt {prompt!r} twice. Give each run once.")
        together.append(part)


def _refuse_other_places(arms: Iterable[str], parts: Parts) -> None:
    """Refuse arms that have not scored the same strata and prompts."""
    for (stratum, prompt), together in sorted(parts.items()):
        lacking = [arm for arm in arms if all(part.arm != arm for part in together)]
        if lacking:
            number = sum(all(part.arm != lacking[0] for part in others) for others in parts.values())
            where = f" of stratum {stratum!r}" if stratum else ""
            raise DataError(
                f"Arm {together[0].arm!r} has scored prompt {prompt!r}{where}, arm {lacking[0]!r} has not ({number} "
                "such in all). Only arms that scored the same essays can be compared: complete the runs, or leave the "
                "arm out."
            )


def _refuse_unequal(names: tuple[str, str], tables: tuple[PredictionTable, PredictionTable]) -> None:
    """Refuse two tables, both in the order of prompts and ids, that differ in essays or in human scores."""
    keys = [list(zip(one.table["prompt_id"], one.table["essay_id"], strict=True)) for one in tables]
    differing = {*keys[0]} ^ {*keys[1]}
    if differing:
        prompt, essay = min(differing)
        raise DataError(
            f"{' and '.join(names)} have not scored the same essays: essay {essay!r} of prompt {prompt!r} is in "
            f"{names[(prompt, essay) in keys[1]]} alone ({len(differing)} essays differ). Compare runs with the same "
            "essays."
        )
    human, other = (one.table["reference"].to_numpy(dtype=np.float64) for one in tables)
    unequal = ~np.isclose(human, other, rtol=0, atol=1e-6, equal_nan=True)
    if unequal.any():
        row = int(unequal.argmax())
        prompt, essay = keys[0][row]
        raise DataError(
            f"{' and '.join(names)} have different human scores for essay {essay!r} of prompt {prompt!r}: "
            f"{human[row]:g} and {other[row]:g} ({int(unequal.sum())} essays differ). Compare runs on the same "
            "scores."
        )


def _common_range(prompt: str, tables: Iterable[tuple[object, PredictionTable]]) -> tuple[ScoreRange, object]:
    """The range that was given for a prompt, and whom; or the one that spans those that were inferred, and None."""
    known = [(name, table, table.ranges[prompt]) for name, table in tables if prompt in table.ranges]
    given = [(name, span) for name, table, span in known if prompt not in table.inferred]
    for name, span in given:
        if span != given[0][1]:
            raise DataError(
                f"Prompt {prompt!r} has the range {given[0][1]} in {given[0][0]} and {span} in {name}. Compare runs on "
                "one scale."
            )
    if given:
        return given[0][1], given[0][0]
    return spanning(span for *_, span in known), None


def _arms_range(prompt: str, parts: Sequence[_Part]) -> ScoreRange:
    """A prompt's common range, which holds all scores."""
    tables = [(part, table) for part in parts for table in (part.run.test, part.run.dev) if table is not None]
    span, giver = _common_range(prompt, tables)
    whose = f"its range {span} in {giver}" if giver else f"the range {span} that was seen"
    for part, one in tables:
        scores = one.table[["reference", "score"] if one is part.run.test else ["reference"]].to_numpy(dtype=np.float64)
        outside = scores[np.abs(span.to_point(scores) - scores) > 1e-6]
        if outside.size:
            raise DataError(
                f"{part} has the score {outside[0]:g} on prompt {prompt!r}, which is no score point of {whose}. "
                "Compare runs on one scale."
            )
    return span


def _cell(stratum: str, parts: Sequence[_Part], score_range: ScoreRange, notes: Notes) -> Cell:
    """One stratum of a prompt; a version of the scores that some run of an arm lacks is left out for that arm."""
    versions: dict[Side, dict[str, NDArray[np.int64]]] = {}
    for arm, prompt, run in parts:
        dev = None if run.dev is None else run.dev.table
        raw, score = (run.test.table[name].to_numpy(dtype=np.float64) for name in ("raw", "score"))
        calibrated, remarks = calibrated_scores(prompt, raw, dev, score_range)
        notes.update((arm, remark) for remark in remarks)
        for version, scores in {"qwk": score, **calibrated}.items():
            versions.setdefault((arm, version), {})[run.seed] = score_range.to_index(scores)
    complete = {side: runs for side, runs in versions.items() if runs.keys() == versions[side[0], "qwk"].keys()}
    human = parts[0].run.test.table["reference"].to_numpy(dtype=np.float64)
    drawn_as = prompt_and_trait(parts[0].prompt)[0] if TRAIT_COLUMN in parts[0].run.test.table else None
    if human.min() == human.max():
        where = f", stratum {stratum}" if stratum else ""
        remark = f"Prompt {prompt}{where}: all human scores are equal, so that kappa says nothing."
        notes.update((arm, remark) for arm in dict.fromkeys(part.arm for part in parts))
    return Cell(stratum, prompt, score_range.to_index(human), complete, drawn_as)


def _format_notes(notes: Notes, arms: int) -> list[str]:
    """Notes in words, each once, with the arms that it is about."""
    lines = []
    for note in dict.fromkeys(note for _, note in notes):
        counts = {arm: count for (arm, other), count in notes.items() if other == note}
        subject = "All arms" if len(counts) == arms else ", ".join(counts)
        times = sum(counts.values())
        lines.append(f"{subject}: {note}" if times == len(counts) else f"{subject}: {note} ({times} times)")
    return lines


HALVES = ("a", "b")


def dev_halves(run: ScoredRun) -> list[ScoredRun]:
    """Two runs whose essays are the halves of one run's dev essays; its test essays are in neither.

    Within a prompt, essays are numbered in the order of SHA-256 of prompt and id, and even numbers are half a, with all
    traits that they are scored on. So the halves of a prompt differ by one essay at most, and runs with the same dev
    essays have the same halves, whatever their arm, seed and order of rows.

    Args:
        run: A run with dev predictions, two essays or more of each prompt.

    Returns:
        Runs of the strata ``STRATUM/a`` and ``STRATUM/b``: in each, its own half is ``test`` and the other is ``dev``;
        out-of-fold predictions are those of the run.

    Raises:
        DataError: There are no dev predictions, or a prompt has a single dev essay.
    """
    where = f"the run of stratum {run.stratum!r} and seed {run.seed!r}"
    if run.dev is None:
        raise DataError(f"There are no dev predictions to be halved in {where}. Run it with dev essays.")
    table = run.dev.table.reset_index(drop=True)
    counts = table["prompt_id"].value_counts()
    if counts.min() < 2:
        prompt = counts.index[int(counts.to_numpy().argmin())]
        raise DataError(f"Prompt {prompt!r} has a single dev essay in {where}: it cannot be halved. Give it more.")
    scales = table["prompt_id"]
    prompts = [prompt_and_trait(scale)[0] for scale in scales] if TRAIT_COLUMN in table else scales.tolist()
    # No id holds a line break, so that no other prompt and id are joined to the same text.
    keys = [
        hashlib.sha256(f"{prompt}\n{essay}".encode()).digest()
        for prompt, essay in zip(prompts, table["essay_id"], strict=True)
    ]
    # An essay is in one half, whatever it is scored on.
    once = pd.DataFrame({"prompt": prompts, "key": keys}).drop_duplicates().sort_values("key")
    halves = dict(zip(once["key"], once.groupby("prompt").cumcount() % len(HALVES), strict=True))
    half = np.array([halves[key] for key in keys])
    # Noted once, for what is measured: its other half was read from the same file.
    tables = [replace(run.dev, table=rows.reset_index(drop=True)) for _, rows in table.groupby(half)]
    return [
        replace(run, stratum=f"{run.stratum}/{name}", test=test, dev=replace(dev, notes=()))
        for name, test, dev in zip(HALVES, tables, reversed(tables), strict=True)
    ]


def are_dev_halves(strata: Iterable[str]) -> bool:
    """Whether strata have the names that :func:`dev_halves` gives, both halves of each."""
    names = set(strata)
    halved = {name.rpartition("/")[0] for name in names}
    return bool(names) and names == {f"{name}/{half}" for name in halved for half in HALVES}


def shared_seeds(runs: Sequence[ScoredRun]) -> list[str]:
    """The seeds of an arm's runs, if every stratum (and prompt, where a run has one) was scored with the same ones.

    Args:
        runs: Runs of one arm.

    Returns:
        The seeds in order; none where some part lacks a seed that another has.

    Raises:
        DataError: A run is there twice.
    """
    seeds = {frozenset(by_seed) for by_seed in _runs_by_seed(runs).values()}
    return sorted(seeds.pop()) if len(seeds) == 1 else []


def seed_ensemble(runs: Sequence[ScoredRun], *, rescale: bool = False) -> list[ScoredRun]:
    """The mean of an arm's seeds as one scorer: raw is the mean over seeds of raw, score is that rounded half up.

    Args:
        runs: Runs of one arm, every stratum with the same seeds; a stratum may have a run for all of its prompts or one
            for each.
        rescale: Whether the mean is given the human scores' mean and SD on its own dev predictions before it is
            rounded, as ``aes-dynloss ensemble --postprocessing rescale`` does; for seeds whose scores are
            post-processed, too.

    Returns:
        One run a stratum (and prompt, where runs have one), of seed ``mean of N``, its essays in the order of prompts
        and ids. Without dev where a seed has none; nothing is rescaled then.

    Raises:
        ConfigError: There is no run.
        DataError: The seeds have not scored the same essays, a run is there twice, or human scores or ranges differ.
    """
    means = [
        mean_run(stratum, by_seed, f"mean of {len(by_seed)}", None)
        for (stratum, _), by_seed in same_seeds(runs).items()
    ]
    return [rescaled(mean, _lines_on_dev(mean)) for mean in means] if rescale else means


def same_seeds(runs: Sequence[ScoredRun]) -> dict[tuple[str, frozenset[str]], dict[str, ScoredRun]]:
    """Runs by what they scored, and then by seed in order; refused where a part lacks a seed that another has."""
    if not runs:
        raise ConfigError("A mean over seeds needs runs, found none.")
    seeds = sorted({run.seed for run in runs})
    scored = _runs_by_seed(runs)
    for (stratum, prompts), by_seed in scored.items():
        lacking = [seed for seed in seeds if seed not in by_seed]
        if lacking:
            raise DataError(
                f"Seed {lacking[0]!r} has no run of stratum {stratum!r} (prompts {', '.join(sorted(prompts))}), seed "
                f"{next(iter(by_seed))!r} has. A mean over seeds needs the same essays of all seeds: complete the "
                "runs, or leave the seed out."
            )
    return {part: {seed: by_seed[seed] for seed in seeds} for part, by_seed in scored.items()}


def mean_run(
    stratum: str, by_seed: Mapping[str, ScoredRun], name: str, weights: NDArray[np.float64] | None
) -> ScoredRun:
    """The mean of some runs of a stratum, by weights or by equal ones; without dev where a run has none."""
    tests = {seed: run.test for seed, run in by_seed.items()}
    devs = {seed: run.dev for seed, run in by_seed.items() if run.dev is not None}
    test = mean_table(tests, f"test essays of stratum {stratum!r}", weights)
    dev = mean_table(devs, f"dev essays of stratum {stratum!r}", weights) if len(devs) == len(by_seed) else None
    return ScoredRun(stratum, name, test, dev)


def _lines_on_dev(run: ScoredRun) -> dict[str, RescalingLine]:
    """By prompt, what gives a run's raw predictions the human scores' mean and SD on dev; none without dev."""
    essays = () if run.dev is None else run.dev.table.groupby("prompt_id")
    return {str(prompt): fit_rescaling(rows["raw"], rows["reference"]) for prompt, rows in essays}


def rescaled(run: ScoredRun, lines: Mapping[str, RescalingLine]) -> ScoredRun:
    """A run whose score is raw rescaled prompt by prompt; rounded alone where a prompt has no line."""

    def scored(predicted: PredictionTable) -> PredictionTable:
        table = predicted.table
        rescaled = table["raw"].to_numpy(dtype=np.float64).copy()
        for prompt, line in lines.items():
            rows = (table["prompt_id"] == prompt).to_numpy()
            rescaled[rows] = line.apply(rescaled[rows])
        score = apply_ranges(table.assign(raw=rescaled), "raw", predicted.ranges, ScoreRange.to_point)
        return replace(predicted, table=table.assign(score=score))

    return replace(run, test=scored(run.test), dev=None if run.dev is None else scored(run.dev))


def split_by_prompt(run: ScoredRun) -> list[ScoredRun]:
    """A run as one for each of its prompts, so that it meets runs that scored one prompt each; in the order of ids."""

    def part(table: PredictionTable, prompt: str) -> PredictionTable:
        rows = table.table[table.table["prompt_id"] == prompt].sort_values("essay_id", ignore_index=True)
        ranges = {name: span for name, span in table.ranges.items() if name == prompt}
        return replace(table, table=rows, ranges=ranges, inferred=table.inferred & ranges.keys())

    prompts = run.test.table["prompt_id"].unique()
    return [
        replace(
            run,
            test=part(run.test, prompt),
            dev=None if run.dev is None else part(run.dev, prompt),
            out_of_fold=None if run.out_of_fold is None else part(run.out_of_fold, prompt),
        )
        for prompt in prompts
    ]


def _runs_by_seed(runs: Sequence[ScoredRun]) -> dict[tuple[str, frozenset[str]], dict[str, ScoredRun]]:
    """Runs by what they scored, a stratum and the prompts of one model, and then by seed."""
    scored: dict[tuple[str, frozenset[str]], dict[str, ScoredRun]] = {}
    for run in runs:
        seeds = scored.setdefault((run.stratum, frozenset(run.test.ranges)), {})
        if run.seed in seeds:
            raise DataError(f"Seed {run.seed!r} is there twice in stratum {run.stratum!r}. Give each run once.")
        seeds[run.seed] = run
    return scored


def mean_table(
    tables: Mapping[str, PredictionTable], essays: str, weights: NDArray[np.float64] | None = None
) -> PredictionTable:
    """The seeds' tables as one, with the mean of raw, by weights where they are given."""
    ordered = {
        f"seed {seed!r} ({essays})": replace(
            one, table=one.table.sort_values(["prompt_id", "essay_id"], ignore_index=True)
        )
        for seed, one in tables.items()
    }
    (first, expected), *others = ordered.items()
    for seed, other in others:
        _refuse_unequal((first, seed), (expected, other))
    names = dict.fromkeys(prompt for one in tables.values() for prompt in one.ranges)
    spans = {prompt: _common_range(prompt, ordered.items()) for prompt in names}
    raw = np.average([one.table["raw"].to_numpy(dtype=np.float64) for one in ordered.values()], axis=0, weights=weights)
    ranges = {prompt: span for prompt, (span, _) in spans.items()}
    table = expected.table.assign(raw=raw)
    return replace(
        expected,
        table=table.assign(score=apply_ranges(table, "raw", ranges, ScoreRange.to_point)),
        ranges=ranges,
        inferred=frozenset(prompt for prompt, (_, giver) in spans.items() if giver is None),
        notes=tuple(dict.fromkeys(note for one in tables.values() for note in one.notes)),
    )
