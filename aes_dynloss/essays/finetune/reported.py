"""A run's own predictions and report with scores on the model's reported scale, beside the score points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD, check_held_out, predictions_hashes
from aes_dynloss.essays.model.prompt_scales import reported_scores
from aes_dynloss.measures.scales import ConversionTable
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import predictions_file
from aes_dynloss.reports.trait_forms import with_scale_ids
from aes_dynloss.tables.cells import parse_ids, parse_numbers
from aes_dynloss.tables.columns import REPORTED_COLUMN
from aes_dynloss.tables.formats import read_cells, write_table
from aes_dynloss.tables.scale_ids import scale_id
from aes_dynloss.training.run_folder import MANIFEST, write_json


def write_reported(folder: Path, prompts: Mapping[str, Prompt], tables: Mapping[str, ConversionTable]) -> None:
    """Write the column ``reported`` of a folder's predictions, or take it away where there is no reported scale.

    Args:
        folder: Of a run or ensemble, with a manifest of its predictions if it has any.
        prompts: The model's prompts.
        tables: Of reported scores, by prompt.

    Raises:
        DataError: Predictions are not what was written there.
    """
    for part in ("dev", "test", OUT_OF_FOLD):
        path = folder / predictions_file(part)
        cells = read_cells(path) if path.is_file() else None
        if cells is None or not (tables or REPORTED_COLUMN in cells):
            continue
        check_held_out(folder, part, parse_ids(cells["essay_id"], "essay_id", path.name))
        kept = cells.drop(columns=REPORTED_COLUMN, errors="ignore")
        if tables:
            ids = with_scale_ids(kept, path.name)["prompt_id"].astype(str)
            scores = parse_numbers(kept["score"], "score", ids, path.name)
            values = reported_scores(tables, prompts, ids.tolist(), np.asarray(scores))
            kept.insert(list(kept.columns).index("score") + 1, REPORTED_COLUMN, values)
        write_table(kept, path)
    manifest = dict(read_mapping(folder / MANIFEST)) if (folder / MANIFEST).is_file() else {}
    if "predictions" in manifest:
        write_json(folder / MANIFEST, manifest | {"predictions": predictions_hashes(folder, manifest["predictions"])})


def with_reported(report: Report, prompts: Mapping[str, Prompt], tables: Mapping[str, ConversionTable]) -> Report:
    """A report whose worst disagreements have reported scores, or none where there is no reported scale.

    Args:
        report: The report.
        prompts: The model's prompts.
        tables: Of reported scores, by prompt.
    """
    scores = np.array([one.score for one in report.worst])
    ids = [scale_id(one.prompt_id, one.trait) for one in report.worst]
    found = reported_scores(tables, prompts, ids, scores)
    return replace(report, worst=[replace(one, reported=value) for one, value in zip(report.worst, found, strict=True)])
