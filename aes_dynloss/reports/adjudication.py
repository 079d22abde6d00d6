"""Human decisions on essays that a machine withheld or doubted: read back, put in place of its scores, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.resolution import MOST_READINGS, Rule, resolved_score
from aes_dynloss.reports.blocks import Section, Words
from aes_dynloss.reports.human_entries import Adjudication, ReviewedMean, ReviewedPrompt, ReviewFigures
from aes_dynloss.reports.human_scores import refuse_repeats, refuse_rows
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import PredictionTable, refuse_outside
from aes_dynloss.reports.prompt_means import mean_if_known
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    measure_column,
    number,
    text_table,
    words,
)
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.cells import parse_ids, parse_numbers
from aes_dynloss.tables.columns import ID_COLUMNS, TRAIT_COLUMN, missing_columns
from aes_dynloss.tables.formats import read_cells
from aes_dynloss.tables.scale_ids import prompt_and_trait, scale_id
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.versions import package_version

HUMAN_SCORE, READINGS, READER = "human_score", "readings", "reader"
MEASURED = ("qwk", "exact_agreement", "adjacent_agreement")
_KEYS = ["prompt_id", "essay_id"]
_UNKNOWN = "prompt {prompt_id!r} has no such essay among the predictions. Give the sheet of these predictions."


@dataclass(frozen=True)
class Decisions:
    """What humans decided on a review sheet.

    Args:
        table: Columns essay_id, prompt_id (text; of prompt and trait, where there are several traits) and human_score
            (float64, NaN where still undecided), a row an essay, or a score of it.
        source: The sheet's name.
        readers: Who read each essay, where the sheet has a column READER.
        left_out: Prompts and essays of decisions that have no human score to be held against, and are not in the table.
    """

    table: pd.DataFrame
    source: str
    readers: Sequence[str] = ()
    left_out: frozenset[tuple[str, str]] = frozenset()

    @property
    def decided(self) -> pd.Series[float]:
        """Decisions by prompt and essay."""
        made = self.table[self.table[HUMAN_SCORE].notna()]
        return pd.Series(made[HUMAN_SCORE].to_numpy(), index=pd.MultiIndex.from_frame(made[_KEYS]))


def read_decisions(path: Path, scales: Sequence[str] = (), *, may_be_blank: bool = False) -> Decisions:
    """Read a review sheet that `aes-dynloss score --review` or `plan` wrote and humans filled in.

    Args:
        path: A csv, jsonl or parquet file with essay_id, prompt_id and human_score; or with a column for each trait.
        scales: The prompts and traits that were predicted, where essays are scored on several.
        may_be_blank: Whether no essay needs to be decided on yet.

    Raises:
        DataError: The file or a row cannot be used.
    """
    cells = read_cells(path)
    traits = list(dict.fromkeys(prompt_and_trait(scale)[1] for scale in scales))
    columns = traits or [HUMAN_SCORE]
    needed = dict.fromkeys((*ID_COLUMNS, *columns), "Give the sheet of --review, filled in.")
    missing = {column: advice for column, advice in needed.items() if column not in cells}
    if missing:
        raise DataError(missing_columns(path.name, missing, list(cells.columns)))
    ids = {role: parse_ids(cells[role], role, path.name) for role in ID_COLUMNS}
    table = pd.DataFrame(ids, index=cells.index)  # which knows the rows' numbers, for messages
    refuse_repeats(pd.MultiIndex.from_frame(table), path.name)
    parts = []
    for column in columns:
        own = table.assign(**{HUMAN_SCORE: parse_numbers(cells[column], column, table["essay_id"], path.name)})
        if traits:
            own["prompt_id"] = [scale_id(prompt, column) for prompt in own["prompt_id"]]
            own = own[own["prompt_id"].isin(scales) | own[HUMAN_SCORE].notna()]
        parts.append(own)
    table = pd.concat(parts)
    if table[HUMAN_SCORE].isna().all() and not may_be_blank:
        named = f"its column {HUMAN_SCORE} is" if not traits else f"its columns {', '.join(traits)} are"
        raise DataError(f"{path.name} holds no decision: {named} blank. Fill it in.")
    readers = parse_ids(cells[READER], READER, path.name) if READER in cells else ()
    return Decisions(table, path.name, readers)


def refuse_copies(sheets: Sequence[Decisions]) -> None:
    """Refuse sheets that are filled in alike, row by row: a copy is no second reading.

    Args:
        sheets: Sheets, each of which counts as a reading.

    Raises:
        DataError: There are two such sheets, of the same readers or of readers that neither names.
    """
    for one, other in combinations(sheets, 2):
        first, second = (sheet.table.reset_index(drop=True) for sheet in (one, other))
        if len(one.decided) and first.equals(second) and list(one.readers) == list(other.readers):
            raise DataError(
                f"{one.source} and {other.source} have the same scores of the same essays: a copy is no second "
                f"reading. Leave one out; if two readers agree on all of them, add a column {READER} that names them."
            )


def resolved_decisions(
    readings: Mapping[tuple[str, str], Sequence[float]], ranges: Mapping[str, ScoreRange], rule: Rule, source: str
) -> Decisions:
    """One decision on each essay from all readings of it.

    Args:
        readings: Of each essay, by prompt and essay id, in their order; maybe none.
        ranges: Score range of each prompt with a reading.
        rule: How two or three become one.
        source: Where they are from, for messages.

    Returns:
        Decisions with one more column, ``readings``; blank where a third reading is needed.
    """
    rows = [
        (essay, prompt, resolved_score(own, ranges[prompt], rule) if own else None, [float(one) for one in own])
        for (prompt, essay), own in readings.items()
    ]
    table = pd.DataFrame(rows, columns=[*ID_COLUMNS, HUMAN_SCORE, READINGS]).astype({HUMAN_SCORE: float})
    return Decisions(table, source)


def decisions_of_sheets(sheets: Sequence[Decisions], machine: PredictionTable, rule: Rule) -> Decisions:
    """The decisions of several review sheets, on which an essay may have several readings.

    Those on essays that were left out of the predictions for want of a human score are left out, too.

    Args:
        sheets: The sheets, one at least, in the order of their readings.
        machine: Predictions, with what was withheld.
        rule: How two or three readings become one.

    Raises:
        DataError: A reading is on an unknown essay, or no score point of its prompt, or an essay has too many; or a
            sheet is a copy of another.
    """
    if len(sheets) == 1:
        return with_human_scores(sheets[0], machine)
    refuse_copies(sheets)
    sheets = [with_human_scores(sheet, machine) for sheet in sheets]
    readings: dict[tuple[str, str], list[float]] = {}
    for sheet in sheets:
        _refuse_unknown(sheet, machine)
        for key in zip(*(sheet.table[name] for name in _KEYS), strict=True):
            readings.setdefault(key, [])
        for prompt, essay, score in sheet.table[[*_KEYS, HUMAN_SCORE]].dropna().itertuples(index=False, name=None):
            readings[prompt, essay].append(score)
    source = " with ".join(sheet.source for sheet in sheets)
    for (prompt, essay), own in readings.items():
        if len(own) > MOST_READINGS:
            raise DataError(
                f"Essay {essay!r} of prompt {prompt!r} has {len(own)} readings in {source}; at most {MOST_READINGS} "
                "make one score. Leave a sheet out."
            )
    left_out = frozenset().union(*(sheet.left_out for sheet in sheets))
    return replace(resolved_decisions(readings, machine.ranges, rule, source), left_out=left_out)


def with_human_scores(decisions: Decisions, machine: PredictionTable) -> Decisions:
    """The decisions without those on essays that were left out of the predictions for want of a human score.

    Args:
        decisions: Those of a sheet, or of a plan.
        machine: Predictions, with what was withheld.
    """
    others, table = machine.without_reference, decisions.table
    if others is None:
        return decisions
    theirs = pd.MultiIndex.from_frame(table[[*others]]).isin(pd.MultiIndex.from_frame(others))
    absent = theirs & _unknown(decisions, machine)
    made = table[absent].dropna(subset=[HUMAN_SCORE])
    left_out = frozenset(zip(*(made[name] for name in _KEYS), strict=True))
    return replace(decisions, table=table[~absent], left_out=left_out)


def left_out_notes(decisions: Decisions) -> list[str]:
    """A note on decisions that were left out, if there are any."""
    number = len(decisions.left_out)
    if not number:
        return []
    return [
        f"{number} of {number + len(decisions.decided)} decisions in {decisions.source} are on essays without a human "
        "score to hold them against: they are left out, of --audit too."
    ]


def _unknown(decisions: Decisions, machine: PredictionTable) -> NDArray[np.bool_]:
    """Which decisions are on other essays than the machine's, shape (n,)."""
    known = pd.MultiIndex.from_frame(pd.concat([machine.table, machine.withheld])[_KEYS])
    return ~pd.MultiIndex.from_frame(decisions.table[_KEYS]).isin(known)


def _refuse_unknown(decisions: Decisions, machine: PredictionTable) -> None:
    """Refuse decisions on other essays than the machine's, and such that are no score points."""
    unknown = _unknown(decisions, machine)
    refuse_rows(unknown, decisions.table, decisions.source, _UNKNOWN)
    refuse_outside(decisions.table, [HUMAN_SCORE], machine.ranges, decisions.source)


def adjudicated(machine: PredictionTable, decisions: Decisions) -> PredictionTable:
    """The scores that count in the end: the human's where there is a decision, else the machine's.

    Args:
        machine: Its predictions, with what it withheld.
        decisions: Humans' scores of some of these essays.

    Raises:
        DataError: A decision is on an essay that is not there, or is no score point of its prompt.
    """
    final = pd.concat([machine.table, machine.withheld], ignore_index=True)
    decided = decisions.decided
    _refuse_unknown(decisions, machine)
    rows = pd.MultiIndex.from_frame(final[_KEYS]).get_indexer(decided.index)
    for column in ("raw", "score"):
        final.loc[rows, column] = decided.to_numpy()
    known = final["score"].notna()
    table, undecided = (final[rows].reset_index(drop=True) for rows in (known, ~known))
    return replace(machine, table=table, withheld=undecided if len(undecided) else None)


def decision_entries(machine: PredictionTable, decisions: Decisions, evaluation: str) -> list[dict[str, Any]]:
    """What an audit log says of human decisions, one of each.

    Args:
        machine: Predictions, with what was withheld.
        decisions: Humans' scores of some of these essays.
        evaluation: What names the evaluation: equal for the same scores, sheets and rule.
    """
    made = decisions.table.dropna(subset=[HUMAN_SCORE])
    several = made[READINGS] if READINGS in made else [None] * len(made)
    given = pd.concat([machine.table, machine.withheld], ignore_index=True).set_index(_KEYS)["score"]
    scores = {key: None if pd.isna(score) else float(score) for key, score in given.items()}
    return [
        {
            "event": "decision",
            "evaluation": evaluation,
            "version": package_version("aes-dynloss"),
            "essay_id": essay_id,
            "prompt_id": prompt_id,
            "machine": scores[prompt_id, essay_id],
            "human": human,
            **({} if readings is None else {READINGS: readings}),
        }
        for prompt_id, essay_id, human, readings in zip(
            *(made[name] for name in (*_KEYS, HUMAN_SCORE)), several, strict=True
        )
    ]


def adjudication_entry(report: Report, machine: PredictionTable, decisions: Decisions) -> Adjudication:
    """The machine's figures beside those of the scores that count in the end.

    Args:
        report: The machine's report.
        machine: Its predictions.
        decisions: Humans' scores of some of the essays.

    Raises:
        DataError: As `adjudicated` does.
    """
    final = adjudicated(machine, decisions)
    after, before = by_scale(build_report(final, resamples=0)), by_scale(report)
    decided = decisions.decided
    sheet, of_decided, without_score = (
        len(_essays(keys, machine)) for keys in (decisions.table, decided.index.to_frame(), final.withheld)
    )
    prompts = {
        prompt: ReviewedPrompt(
            int((decided.index.get_level_values(0) == prompt).sum()),
            ReviewFigures.from_dict(before.prompts[prompt]) if prompt in before.prompts else None,
            ReviewFigures.from_dict(entry),
        )
        for prompt, entry in after.prompts.items()
    }
    common = [entry for entry in prompts.values() if entry.machine is not None]
    return Adjudication(
        decided=of_decided,
        undecided=sheet - of_decided,
        without_score=without_score,
        prompts=prompts,
        mean=ReviewedMean(
            *(
                ReviewFigures(None, *(mean_if_known([entry[which][name] for entry in common]) for name in MEASURED))
                for which in ("machine", "final")
            )
        ),
    )


def _essays(scores: pd.DataFrame | None, machine: PredictionTable) -> set[tuple[str, str]]:
    """The essays of some scores, by prompt and id, each once whatever it is scored on."""
    if scores is None:
        return set()
    keys = set(zip(scores["prompt_id"], scores["essay_id"], strict=True))
    return {(prompt_and_trait(scale)[0], essay) for scale, essay in keys} if TRAIT_COLUMN in machine.table else keys


def adjudication_words(review: Adjudication) -> str:
    """What was decided, and how to read the figures: two or three sentences."""
    withheld = review.without_score
    pending = f" {withheld} essays that the machine withheld have no score yet." if withheld else ""
    return (
        f"Essays that humans decided on: {review.decided}; of the review sheet still undecided: {review.undecided}."
        f"{pending} In the final scores the decisions stand in the place of the machine's scores; where the human "
        "scores that are compared with come from the same people, they agree with themselves there."
    )


def adjudication_text(review: Adjudication, called: RowWords) -> str:
    """The machine's figures and the final ones by prompt and in the mean.

    Args:
        review: What ``adjudication_entry`` returned.
        called: What the report's rows are called.
    """
    return "\n".join(
        ["Human review:", *text_table(adjudication_table(review, called)), f"Note: {adjudication_words(review)}"]
    )


def adjudication_section(review: Adjudication, called: RowWords) -> Section:
    """Human decisions as a section of a report: in words, and as a table."""
    return Section("review", "Human review", [Words(adjudication_words(review)), adjudication_table(review, called)])


def adjudication_table(review: Adjudication, called: RowWords) -> Table:
    """The machine alone and after human review: a row a prompt, their mean at the foot.

    Args:
        review: What ``adjudication_entry`` returned.
        called: What the report's rows are called.
    """
    rows = [
        [
            words(called.name(prompt)),
            count(entry.decided),
            *_agreement_cells(entry.machine),
            *_agreement_cells(entry.final),
        ]
        for prompt, entry in review.prompts.items()
    ]
    mean = [cell for which in ("machine", "final") for cell in _agreement_cells(getattr(review.mean, which))]
    foot = [[called.mean, NOTHING, *mean]]
    columns = [called.column, Column("decided", "Decided by humans", "decided")]
    for which, essays in (
        ("Machine", "Essays that the machine scored."),
        ("Final", "Essays that have a score in the end, a human's or the machine's."),
    ):
        side = which.lower()
        columns.append(Column(f"{side}_n", f"{which} n", f"{side} n", explanation=essays))
        for column in map(measure_column, MEASURED):
            title = f"{which} {column.title}"
            columns.append(replace(column, key=f"{side}_{column.key}", title=title, short=column.plain))
    return Table("adjudication-table", "The machine alone, and after human review", columns, rows, foot)


def _agreement_cells(entry: ReviewFigures | None) -> list[Cell]:
    if entry is None:
        return [count(0), *(number(None, why=Missing.NOT_SCORED) for _ in MEASURED)]
    size = NOTHING if entry.n is None else count(entry.n)
    return [size, *(number(getattr(entry, name)) for name in MEASURED)]
