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
from aes_dynloss.measures.paired_bootstrap import Cell, Side
from aes_dynloss.reports.predictions import PredictionTable
from aes_dynloss.reports.prompts import calibrated_scores
from aes_dynloss.tables.score_range import ScoreRange, widened


@dataclass(frozen=True)
class ScoredRun:
    """One run's predictions.

    Args:
        stratum: Such as a fold: runs of one stratum have scored the same test essays of the prompts that they share.
        seed: Runs of an arm that differ in it alone are repetitions, whose kappas are averaged.
        test: Predictions of the essays that arms are compared on, with human scores.
        dev: The same run's predictions of other essays, to fit rescaling and cut points; None where there are none.
    """

    stratum: str
    seed: str
    test: PredictionTable
    dev: PredictionTable | None


def arm_names(paths: Sequence[str | Path]) -> dict[str, Path]:
    """A name for each path: its last part, with as many parts before it as set it apart from the others.

    Args:
        paths: Paths, made absolute before they are named.

    Returns:
        Path by name, in the paths' order.

    Raises:
        ConfigError: A path is there twice.
    """
    whole = [Path(path).absolute() for path in paths]
    whole = [Path(os.path.normpath(path)) for path in whole]
    for path in whole:
        if whole.count(path) > 1:
            raise ConfigError(f"{path} is given twice. A run compared with itself says nothing: leave one out.")
    names = {}
    for path, given in zip(whole, paths, strict=True):
        others = [other for other in whole if other != path]
        lengths = range(1, len(path.parts) + 1)
        length = next(n for n in lengths if all(other.parts[-n:] != path.parts[-n:] for other in others))
        names[Path(*path.parts[-length:]).as_posix()] = Path(given)
    return names


class _Part(NamedTuple):
    """One prompt's essays of one run, in the order of their ids."""

    arm: str
    run: ScoredRun
    essays: pd.DataFrame
    dev: pd.DataFrame | None

    def column(self, name: str) -> NDArray[np.float64]:
        return self.essays[name].to_numpy(dtype=np.float64)


Place = tuple[str, str]  # stratum and prompt
Parts = dict[Place, dict[str, _Part]]  # by place and then by seed
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
    parts = {arm: _split(arm, runs, notes) for arm, runs in arms.items()}
    for arm in arms:
        _refuse_other_places(arm, parts[arm], control, parts[control])
    cells: dict[str, list[Cell]] = {}
    for prompt in sorted({prompt for _, prompt in parts[control]}, key=_prompt_order):
        strata = sorted(stratum for stratum, other in parts[control] if other == prompt)
        together = {
            stratum: [part for arm in arms for part in parts[arm][stratum, prompt].values()] for stratum in strata
        }
        for stratum in strata:
            first = next(iter(parts[control][stratum, prompt].values()))
            for part in together[stratum]:
                _refuse_other_essays(part, first, prompt)
        score_range = _common_range(prompt, [part for stratum in strata for part in together[stratum]])
        cells[prompt] = [_cell(stratum, prompt, together[stratum], score_range, notes) for stratum in strata]
    return cells, _format_notes(notes, len(arms))


def _prompt_order(prompt: str) -> tuple[bool, int, str]:
    """Order of prompts: numbers by value, then names."""
    number = prompt.isdecimal()
    return not number, len(prompt) if number else 0, prompt


def _split(arm: str, runs: Sequence[ScoredRun], notes: Notes) -> Parts:
    """The essays of one arm's runs by stratum and prompt, and then by seed."""
    parts: Parts = {}
    for run in runs:
        notes.update((arm, note) for table in (run.test, run.dev) if table is not None for note in table.notes)
        if run.test.table["reference"].isna().any():
            raise DataError(f"{_name(arm, run)} has no human scores in its predictions: there is nothing to measure.")
        dev = {} if run.dev is None else {str(prompt): part for prompt, part in run.dev.table.groupby("prompt_id")}
        for prompt, essays in run.test.table.sort_values("essay_id").groupby("prompt_id", sort=False):
            seeds = parts.setdefault((run.stratum, str(prompt)), {})
            if run.seed in seeds:
                raise DataError(f"{_name(arm, run)} has prompt {prompt!r} twice. Give each run once.")
            dev_essays = None if run.dev is None else dev.get(str(prompt), run.dev.table.iloc[:0])
            part = _Part(arm, run, essays, dev_essays)
            _refuse_unusable_dev(part, str(prompt))
            seeds[run.seed] = part
    return parts


def _refuse_unusable_dev(part: _Part, prompt: str) -> None:
    """Refuse dev essays that are test essays too, or that have no human scores."""
    if part.dev is None:
        return
    if part.dev["reference"].isna().any():
        raise DataError(f"{_name(part.arm, part.run)} has no human scores in its dev predictions of prompt {prompt!r}.")
    shared = np.intersect1d(part.dev["essay_id"].to_numpy(str), part.essays["essay_id"].to_numpy(str))
    if shared.size:
        raise DataError(
            f"{_name(part.arm, part.run)} has {shared.size} essays of prompt {prompt!r} in dev and in test, such as "
            f"{str(shared[0])!r}. A calibration measured on the essays that it was fitted on flatters."
        )


def _refuse_other_places(arm: str, parts: Parts, control: str, expected: Parts) -> None:
    """Refuse an arm that has not scored the control's strata and prompts."""
    for one, other, missing in ((control, arm, expected.keys() - parts), (arm, control, parts.keys() - expected)):
        if missing:
            stratum, prompt = min(missing)
            where = f" of stratum {stratum!r}" if stratum else ""
            raise DataError(
                f"Arm {one!r} has scored prompt {prompt!r}{where}, arm {other!r} has not ({len(missing)} such in all). "
                "Only arms that scored the same essays can be compared: complete the runs, or leave the arm out."
            )


def _refuse_other_essays(part: _Part, first: _Part, prompt: str) -> None:
    """Refuse essays or human scores that differ from those of the control's first run."""
    names = f"{_name(first.arm, first.run)} and {_name(part.arm, part.run)}"
    expected, found = (one.essays["essay_id"].to_numpy(dtype=object) for one in (first, part))
    differing = sorted({*expected} ^ {*found})
    if differing:
        essay, has = differing[0], first if differing[0] in {*expected} else part
        raise DataError(
            f"{names} have not scored the same essays: essay {essay!r} of prompt {prompt!r} is in "
            f"{_name(has.arm, has.run)} alone ({len(differing)} essays differ). Compare runs with the same test essays."
        )
    unequal = np.abs(first.column("reference") - part.column("reference")) > 1e-6
    if unequal.any():
        row = int(unequal.argmax())
        scores = " and ".join(f"{one.column('reference')[row]:g}" for one in (first, part))
        raise DataError(
            f"{names} have different human scores for essay {expected[row]!r} of prompt {prompt!r}: {scores} "
            f"({int(unequal.sum())} essays differ). Compare runs on the same scores."
        )


def _common_range(prompt: str, parts: Sequence[_Part]) -> ScoreRange:
    """The range that was given for a prompt; without one, the range that spans all that were inferred."""
    tables = [(part, table) for part in parts for table in (part.run.test, part.run.dev) if table is not None]
    known = [(part, table.ranges[prompt]) for part, table in tables if prompt in table.ranges.keys() - table.inferred]
    if not known:
        spans = [table.ranges[prompt] for _, table in tables if prompt in table.ranges]
        return ScoreRange(min(span.low for span in spans), max(span.high for span in spans))
    giver, given = known[0]
    for part, other in known:
        if other != given:
            raise DataError(
                f"Prompt {prompt!r} has the range {given} in {_name(giver.arm, giver.run)} and {other} in "
                f"{_name(part.arm, part.run)}. Compare runs on one scale."
            )
    for part in parts:
        scores = [part.column("reference"), part.column("score")]
        scores += [] if part.dev is None else [part.dev["reference"].to_numpy(dtype=np.float64)]
        outside = [value for column in scores for value in column[np.abs(given.to_point(column) - column) > 1e-6]]
        if outside:
            raise DataError(
                f"{_name(part.arm, part.run)} has the score {outside[0]:g} on prompt {prompt!r}, which is no score "
                f"point of its range {given} in {_name(giver.arm, giver.run)}. Compare runs on one scale."
            )
    return given


def _cell(stratum: str, prompt: str, parts: Sequence[_Part], score_range: ScoreRange, notes: Notes) -> Cell:
    """One stratum of a prompt; a version of the scores that some run of an arm lacks is left out for that arm."""
    versions: dict[Side, dict[str, NDArray[np.int64]]] = {}
    for part in parts:
        calibrated, remarks = calibrated_scores(prompt, part.column("raw"), part.dev, score_range)
        notes.update((part.arm, remark) for remark in remarks)
        for version, scores in {"qwk": part.column("score"), **calibrated}.items():
            versions.setdefault((part.arm, version), {})[part.run.seed] = score_range.to_index(scores)
    whole = {side: runs for side, runs in versions.items() if runs.keys() == versions[side[0], "qwk"].keys()}
    human = parts[0].column("reference")
    if human.min() == human.max():
        where = f", stratum {stratum}" if stratum else ""
        remark = f"Prompt {prompt}{where}: all human scores are equal, so that kappa says nothing."
        notes.update((arm, remark) for arm in dict.fromkeys(part.arm for part in parts))
    return Cell(stratum, prompt, score_range.to_index(human), whole)


def _name(arm: str, run: ScoredRun) -> str:
    """A run in words."""
    parts = [
        f"arm {arm!r}",
        *([f"stratum {run.stratum!r}"] if run.stratum else []),
        *([f"seed {run.seed!r}"] if run.seed else []),
    ]
    return ", ".join(parts)


def _format_notes(notes: Notes, arms: int) -> list[str]:
    """Notes in words, each once, with the arms that it is about."""
    told = []
    for note in dict.fromkeys(note for _, note in notes):
        about = {arm: count for (arm, other), count in notes.items() if other == note}
        who = "All arms" if len(about) == arms else ", ".join(about)
        times = sum(about.values())
        told.append(f"{who}: {note}" if times == len(about) else f"{who}: {note} ({times} times)")
    return told


HALVES = ("a", "b")


def dev_halves(run: ScoredRun) -> list[ScoredRun]:
    """Two runs whose essays are the halves of one run's dev essays; its test essays are in neither.

    Within a prompt, essays are numbered in the order of SHA-256 of prompt and id, and even numbers are half a. So the
    halves of a prompt differ by one essay at most, and runs with the same dev essays have the same halves, whatever
    their arm, seed and order of rows.

    Args:
        run: A run with dev predictions, two essays or more of each prompt.

    Returns:
        Runs of the strata ``STRATUM/a`` and ``STRATUM/b``: in each, its own half is ``test`` and the other is ``dev``.

    Raises:
        DataError: There are no dev predictions, or a prompt has a single dev essay.
    """
    where = f"the run of stratum {run.stratum!r} and seed {run.seed!r}"
    if run.dev is None:
        raise DataError(f"There are no dev predictions to be halved in {where}. Run it with dev essays.")
    table = run.dev.table
    counts = table["prompt_id"].value_counts()
    if counts.min() < 2:
        prompt = counts.index[int(counts.to_numpy().argmin())]
        raise DataError(f"Prompt {prompt!r} has a single dev essay in {where}: it cannot be halved. Give it more.")
    half = _half_of(table)
    # Noted once, for what is measured: its other half was read from the same file.
    first, second = (
        replace(run.dev, table=table[half == number].reset_index(drop=True)) for number in range(len(HALVES))
    )
    return [
        ScoredRun(f"{run.stratum}/{name}", run.seed, own, replace(other, notes=()))
        for name, own, other in zip(HALVES, (first, second), (second, first), strict=True)
    ]


def are_dev_halves(strata: Iterable[str]) -> bool:
    """Whether strata have the names that :func:`dev_halves` gives, both halves of each."""
    names = set(strata)
    whole = {name.rpartition("/")[0] for name in names}
    return bool(names) and names == {f"{name}/{half}" for name in whole for half in HALVES}


def _half_of(table: pd.DataFrame) -> NDArray[np.int64]:
    """Number of each essay's half, shape (n,)."""
    essays = list(zip(table["prompt_id"], table["essay_id"], strict=True))
    # No id holds a line break, so that no other prompt and id are joined to the same text.
    keys = [hashlib.sha256(f"{prompt}\n{essay}".encode()).digest() for prompt, essay in essays]
    halves = np.empty(len(essays), dtype=np.int64)
    before: Counter[str] = Counter()
    for row in sorted(range(len(essays)), key=keys.__getitem__):
        prompt = essays[row][0]
        halves[row] = before[prompt] % len(HALVES)
        before[prompt] += 1
    return halves


Part = tuple[str, frozenset[str]]  # a stratum, and the prompts that one model scored in it


def shared_seeds(runs: Sequence[ScoredRun]) -> list[str]:
    """The seeds of an arm's runs, if every stratum (and prompt, where a run has one) was scored with the same ones.

    Args:
        runs: Runs of one arm.

    Returns:
        The seeds in order; none where some part lacks a seed that another has.

    Raises:
        DataError: A run is there twice.
    """
    seeds = {frozenset(part) for part in _parts(runs).values()}
    return sorted(seeds.pop()) if len(seeds) == 1 else []


def seed_ensemble(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The mean of an arm's seeds as one scorer: raw is the mean over seeds of raw, score is that rounded half up.

    Args:
        runs: Runs of one arm, every stratum with the same seeds; a stratum may have a run for all of its prompts or one
            for each.

    Returns:
        One run a stratum (and prompt, where runs have one), of seed ``mean of N``, its essays in the order of prompts
        and ids. Without dev where a seed has none.

    Raises:
        ConfigError: There is no run.
        DataError: The seeds have not scored the same essays, a run is there twice, or human scores or ranges differ.
    """
    if not runs:
        raise ConfigError("A mean over seeds needs runs, found none.")
    parts = _parts(runs)
    seeds = sorted({run.seed for run in runs})
    for (stratum, prompts), found in parts.items():
        lacking = [seed for seed in seeds if seed not in found]
        if lacking:
            raise DataError(
                f"Seed {lacking[0]!r} has no run of stratum {stratum!r} (prompts {', '.join(sorted(prompts))}), seed "
                f"{next(iter(found))!r} has. A mean over seeds needs the same essays of all seeds: complete the "
                "runs, or leave the seed out."
            )
    return [_mean_run(stratum, {seed: found[seed] for seed in seeds}) for (stratum, _), found in parts.items()]


def split_by_prompt(run: ScoredRun) -> list[ScoredRun]:
    """A run as one for each of its prompts, so that it meets runs that scored one prompt each."""

    def part(table: PredictionTable, prompt: str) -> PredictionTable:
        rows = table.table[table.table["prompt_id"] == prompt].reset_index(drop=True)
        ranges = {name: span for name, span in table.ranges.items() if name == prompt}
        return replace(table, table=rows, ranges=ranges, inferred=table.inferred & ranges.keys())

    prompts = run.test.table["prompt_id"].unique()
    return [
        replace(run, test=part(run.test, prompt), dev=None if run.dev is None else part(run.dev, prompt))
        for prompt in prompts
    ]


def _parts(runs: Sequence[ScoredRun]) -> dict[Part, dict[str, ScoredRun]]:
    """Runs by what they scored, and then by seed."""
    parts: dict[Part, dict[str, ScoredRun]] = {}
    for run in runs:
        found = parts.setdefault((run.stratum, frozenset(run.test.ranges)), {})
        if run.seed in found:
            raise DataError(f"Seed {run.seed!r} is there twice in stratum {run.stratum!r}. Give each run once.")
        found[run.seed] = run
    return parts


def _mean_run(stratum: str, runs: Mapping[str, ScoredRun]) -> ScoredRun:
    """The mean of the seeds of one stratum."""
    devs = {seed: run.dev for seed, run in runs.items() if run.dev is not None}
    test = _mean_table({seed: run.test for seed, run in runs.items()}, f"test essays of stratum {stratum!r}")
    dev = _mean_table(devs, f"dev essays of stratum {stratum!r}") if len(devs) == len(runs) else None
    return ScoredRun(stratum, f"mean of {len(runs)}", test, dev)


def _mean_table(tables: Mapping[str, PredictionTable], where: str) -> PredictionTable:
    """The seeds' tables as one, with the mean of raw."""
    ordered = {
        seed: one.table.sort_values(["prompt_id", "essay_id"], ignore_index=True) for seed, one in tables.items()
    }
    (first, expected), *others = ordered.items()
    for seed, found in others:
        _refuse_unequal_seeds(f"Seeds {first!r} and {seed!r}", expected, found, where)
    spans, inferred = _common_ranges(tables, where)
    raw = np.mean([one["raw"].to_numpy(dtype=np.float64) for one in ordered.values()], axis=0)
    score = np.empty_like(raw)
    prompts = expected["prompt_id"].to_numpy(dtype=object)
    for prompt, span in spans.items():
        score[prompts == prompt] = span.to_point(raw[prompts == prompt])
    notes = tuple(dict.fromkeys(note for one in tables.values() for note in one.notes))
    table = expected.assign(raw=raw, score=score)
    return replace(tables[first], table=table, ranges=spans, inferred=inferred, notes=notes)


def _refuse_unequal_seeds(seeds: str, expected: pd.DataFrame, found: pd.DataFrame, where: str) -> None:
    """Refuse essays or human scores that differ."""
    one, other = (set(zip(table["prompt_id"], table["essay_id"], strict=True)) for table in (expected, found))
    if one != other:
        prompt, essay = min(one ^ other)
        raise DataError(
            f"{seeds} have not scored the same {where}: essay {essay!r} of prompt {prompt!r} is in one of them alone "
            f"({len(one ^ other)} essays differ). A mean over seeds needs the same essays of all."
        )
    human = [table["reference"].to_numpy(dtype=np.float64) for table in (expected, found)]
    unequal = ~np.isclose(human[0], human[1], rtol=0, atol=1e-6, equal_nan=True)
    if unequal.any():
        row = int(unequal.argmax())
        raise DataError(
            f"{seeds} have different human scores in the {where}: {human[0][row]:g} and {human[1][row]:g} for essay "
            f"{expected['essay_id'].iloc[row]!r} of prompt {expected['prompt_id'].iloc[row]!r} "
            f"({int(unequal.sum())} essays differ). Score all seeds' essays from the same file."
        )


def _common_ranges(tables: Mapping[str, PredictionTable], where: str) -> tuple[dict[str, ScoreRange], frozenset[str]]:
    """Every prompt's given range, or the one that spans those that were inferred; and for which prompts it is that."""
    given: dict[str, ScoreRange] = {}
    spans: dict[str, ScoreRange] = {}
    for one in tables.values():
        for prompt in one.ranges.keys() - one.inferred:
            if given.setdefault(prompt, one.ranges[prompt]) != one.ranges[prompt]:
                raise DataError(
                    f"Seeds differ in the range of prompt {prompt!r} in the {where}: {given[prompt]} and "
                    f"{one.ranges[prompt]}. Give one range for all."
                )
        guessed = {prompt: one.ranges[prompt] for prompt in one.inferred}
        spans |= widened(guessed, spans)
    return {**spans, **given}, frozenset(spans.keys() - given.keys())
