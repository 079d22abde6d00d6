"""Human decisions on essays that a machine withheld or doubted: read back, put in its scores' place, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.cells import parse_ids, parse_numbers, row_words
from aes_dynloss.evaluation.columns import ID_COLUMNS
from aes_dynloss.evaluation.predictions import PredictionTable
from aes_dynloss.evaluation.references import refuse_repeats
from aes_dynloss.evaluation.report import build_report
from aes_dynloss.evaluation.table_files import read_cells

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


def adjudication_entry(report: Mapping[str, Any], machine: PredictionTable, decisions: Decisions) -> dict[str, Any]:
    """The machine's figures beside those of the scores that count in the end.

    Args:
        report: The machine's report.
        machine: Its predictions.
        decisions: Humans' scores of some of the essays.

    Returns:
        ``decided`` and ``undecided`` essays of the sheet, ``without_score`` (withheld and undecided), and for each
        prompt the ``machine`` and ``final`` figures: n, qwk, exact_agreement and adjacent_agreement; their ``mean`` is
        over the prompts of which the machine scored any essay.

    Raises:
        DataError: As `adjudicated` does.
    """
    final = adjudicated(machine, decisions)
    after = build_report(final, resamples=0)
    decided = decisions.decided
    prompts = {
        prompt: {
            "decided": int((decided.index.get_level_values(0) == prompt).sum()),
            "machine": _figures(report["prompts"].get(prompt)),
            "final": _figures(entry),
        }
        for prompt, entry in after["prompts"].items()
    }
    return {
        "decided": len(decided),
        "undecided": len(decisions.table) - len(decided),
        "without_score": 0 if final.withheld is None else len(final.withheld),
        "prompts": prompts,
        "mean": {which: _mean(prompts, which) for which in ("machine", "final")},
    }


def _mean(prompts: Mapping[str, Mapping[str, Any]], which: str) -> dict[str, float | None]:
    """Means over the prompts that the machine scored too; None where a prompt's figure is undefined."""
    common = [entry[which] for entry in prompts.values() if entry["machine"] is not None]
    values = {name: [entry[name] for entry in common] for name in MEASURED}
    return {name: None if not own or None in own else float(np.mean(own)) for name, own in values.items()}


def _figures(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if entry is None else {name: entry[name] for name in ("n", *MEASURED) if name in entry}


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
        if span is not None and np.isfinite(score) and not span.hold(np.array([score]))[0]:
            where = row_words(row, decisions.source, decisions.table["essay_id"])
            raise DataError(
                f"{where}: {HUMAN_SCORE} {score:g} is no score point of prompt {prompt}'s range {span}. Fix the "
                "row, or give the range by --range."
            )
