"""Human decisions on essays that a machine withheld or doubted: read back, put in place of its scores, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.reports.blocks import Section, Words
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.model import Adjudication, Report, ReviewedMean, ReviewedPrompt, ReviewFigures
from aes_dynloss.reports.predictions import PredictionTable, refuse_repeats
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.reports.table import (
    MEAN,
    NOTHING,
    PROMPT,
    Cell,
    Column,
    Table,
    count,
    measure_column,
    number,
    text_table,
    words,
)
from aes_dynloss.tables.cells import parse_ids, parse_numbers, row_words
from aes_dynloss.tables.columns import ID_COLUMNS
from aes_dynloss.tables.formats import read_cells

HUMAN_SCORE = "human_score"
MEASURED = ("qwk", "exact_agreement", "adjacent_agreement")
_KEYS = ["prompt_id", "essay_id"]


@dataclass(frozen=True)
class Decisions:
    """What humans decided on a review sheet.

    Args:
        table: Columns essay_id, prompt_id (text) and human_score (float64, NaN where still undecided), a row an essay.
        source: The sheet's name.
    """

    table: pd.DataFrame
    source: str

    @property
    def decided(self) -> pd.Series[float]:
        """Decisions by prompt and essay."""
        made = self.table[self.table[HUMAN_SCORE].notna()]
        return pd.Series(made[HUMAN_SCORE].to_numpy(), index=pd.MultiIndex.from_frame(made[_KEYS]))


def read_decisions(path: Path) -> Decisions:
    """Read a review sheet that `aes-dynloss score --review` wrote and humans filled in.

    Args:
        path: A csv, jsonl or parquet file with essay_id, prompt_id and human_score.

    Raises:
        DataError: The file or a row cannot be used.
    """
    cells = read_cells(path)
    for column in (*ID_COLUMNS, HUMAN_SCORE):
        if column not in cells:
            have = ", ".join(map(str, cells.columns))
            raise DataError(
                f"{path.name} has no column {column!r} (columns: {have}). Give the sheet of --review, filled in."
            )
    table = pd.DataFrame({role: parse_ids(cells[role], role, path.name) for role in ID_COLUMNS})
    refuse_repeats(pd.MultiIndex.from_frame(table), path.name)
    table[HUMAN_SCORE] = parse_numbers(cells[HUMAN_SCORE], HUMAN_SCORE, table["essay_id"], path.name)
    if table[HUMAN_SCORE].isna().all():
        raise DataError(f"{path.name} holds no decision: its column {HUMAN_SCORE} is blank. Fill it in.")
    return Decisions(table, path.name)


def adjudicated(machine: PredictionTable, decisions: Decisions) -> PredictionTable:
    """The scores that count in the end: the human's where there is a decision, else the machine's.

    Args:
        machine: Its predictions, with what it withheld.
        decisions: Humans' scores of some of these essays.

    Raises:
        DataError: A decision is on an essay that is not there, or is no score point of its prompt.
    """
    whole = machine.table if machine.withheld is None else pd.concat([machine.table, machine.withheld])
    keys = pd.MultiIndex.from_frame(whole[_KEYS])
    decided = decisions.decided
    _check(decisions, keys, machine)
    rows = keys.get_indexer(decided.index)
    final = whole.reset_index(drop=True)
    for column in ("raw", "score"):
        final.loc[rows, column] = decided.to_numpy()
    known = final["score"].notna()
    open_rows = final[~known]
    return replace(
        machine,
        table=final[known].reset_index(drop=True),
        withheld=open_rows.reset_index(drop=True) if len(open_rows) else None,
    )


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
    after = build_report(final, resamples=0)
    decided = decisions.decided
    prompts = {
        prompt: ReviewedPrompt(
            int((decided.index.get_level_values(0) == prompt).sum()),
            ReviewFigures.from_dict(report.prompts[prompt]) if prompt in report.prompts else None,
            ReviewFigures.from_dict(entry),
        )
        for prompt, entry in after.prompts.items()
    }
    common = [entry for entry in prompts.values() if entry.machine is not None]
    return Adjudication(
        decided=len(decided),
        undecided=len(decisions.table) - len(decided),
        without_score=0 if final.withheld is None else len(final.withheld),
        prompts=prompts,
        mean=ReviewedMean(
            _mean([entry.machine for entry in common if entry.machine]), _mean([entry.final for entry in common])
        ),
    )


def _mean(entries: Sequence[ReviewFigures]) -> ReviewFigures:
    """Means over prompts; None where a prompt's figure is undefined."""
    values = {name: [getattr(entry, name) for entry in entries] for name in MEASURED}
    means = {name: None if not own or None in own else float(np.mean(own)) for name, own in values.items()}
    return ReviewFigures.from_dict(means)


def _check(decisions: Decisions, keys: pd.MultiIndex, machine: PredictionTable) -> None:
    """Refuse decisions on other essays, and scores that a prompt does not have."""
    known = pd.MultiIndex.from_frame(decisions.table[_KEYS]).isin(keys)
    if not known.all():
        row = int(np.argmin(known))
        where = row_words(row, decisions.source, decisions.table["essay_id"])
        raise DataError(
            f"{where}: prompt {decisions.table['prompt_id'].iloc[row]!r} has no such essay among the predictions. Give "
            "the sheet of these predictions."
        )
    for row, (prompt, score) in enumerate(
        zip(decisions.table["prompt_id"], decisions.table[HUMAN_SCORE].to_numpy(dtype=np.float64), strict=True)
    ):
        span = machine.ranges.get(prompt)
        if span is not None and np.isfinite(score) and not span.is_score_point(np.array([score]))[0]:
            where = row_words(row, decisions.source, decisions.table["essay_id"])
            raise DataError(
                f"{where}: {HUMAN_SCORE} {score:g} is no score point of prompt {prompt}'s range {span}. Fix the "
                "row, or give the range by --range."
            )


def adjudication_words(found: Adjudication) -> str:
    """What was decided, and how to read the figures: two or three sentences."""
    open_words = ""
    if found.without_score:
        open_words = f" {found.without_score} essays that the machine withheld have no score yet."
    return (
        f"Essays that humans decided on: {found.decided}; of the review sheet still undecided: {found.undecided}."
        f"{open_words} In the final scores the decisions stand in the place of the machine's scores; where the human "
        "scores that are compared with come from the same people, they agree with themselves there."
    )


def adjudication_text(found: Adjudication) -> str:
    """The machine's figures and the final ones by prompt and in the mean.

    Args:
        found: What ``adjudication_entry`` returned.
    """
    return "\n".join(["Human review:", *text_table(adjudication_table(found)), f"Note: {adjudication_words(found)}"])


def adjudication_section(found: Adjudication) -> Section:
    """Human decisions as a section of a report: in words, and as a table."""
    return Section("review", "Human review", [Words(adjudication_words(found)), adjudication_table(found)])


def adjudication_table(found: Adjudication) -> Table:
    """The machine alone and after human review: a row a prompt, their mean at the foot.

    Args:
        found: What ``adjudication_entry`` returned.
    """
    rows = [
        [words(prompt), count(entry.decided), *_agreement_cells(entry.machine), *_agreement_cells(entry.final)]
        for prompt, entry in found.prompts.items()
    ]
    mean = [cell for which in ("machine", "final") for cell in _agreement_cells(getattr(found.mean, which))]
    foot = [[MEAN, NOTHING, *mean]]
    columns = [PROMPT, Column("decided", "Decided by humans", "decided")]
    for which, essays in (
        ("Machine", "Essays that the machine scored."),
        ("Final", "Essays that have a score in the end, a human's or the machine's."),
    ):
        columns.append(Column(f"{which.lower()}_n", f"{which} n", f"{which.lower()} n", explanation=essays))
        columns += [_column(which, measure_column(name)) for name in MEASURED]
    return Table("adjudication-table", "The machine alone, and after human review", columns, rows, foot)


def _column(which: str, column: Column) -> Column:
    return replace(column, key=f"{which.lower()}_{column.key}", title=f"{which} {column.title}", short=column.plain)


def _agreement_cells(entry: ReviewFigures | None) -> list[Cell]:
    if entry is None:
        return [count(0), *(number(None, why=Missing.NOT_SCORED) for _ in MEASURED)]
    size = NOTHING if entry.n is None else count(entry.n)
    return [size, *(number(getattr(entry, name)) for name in MEASURED)]
