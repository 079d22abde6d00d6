"""Runs of several arms brought together essay by essay, refused where they did not score the same essays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.paired_bootstrap import Cell, Side
from aes_dynloss.evaluation.predictions import PredictionTable
from aes_dynloss.evaluation.prompt_report import calibrated_scores
from aes_dynloss.evaluation.score_range import ScoreRange


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
    return cells, _told(notes, len(arms))


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


def _told(notes: Notes, arms: int) -> list[str]:
    """Notes in words, each once, with the arms that it is about."""
    told = []
    for note in dict.fromkeys(note for _, note in notes):
        about = {arm: count for (arm, other), count in notes.items() if other == note}
        who = "All arms" if len(about) == arms else ", ".join(about)
        times = sum(about.values())
        told.append(f"{who}: {note}" if times == len(about) else f"{who}: {note} ({times} times)")
    return told
