"""``aes-dynloss calibrate --scale`` and ``--reference-form``: the scale on which a model's scores are reported."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.ensembles.cross_fitted import write_ensemble_report
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.finetune.calibrate import rewritten
from aes_dynloss.essays.finetune.calibration import KeptPredictions
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.products import write_run_report
from aes_dynloss.essays.finetune.reported import with_reported, write_reported
from aes_dynloss.essays.model.model_folder import (
    ENSEMBLE_FORMAT,
    FORMAT,
    model_folder,
    read_config,
    read_fitted,
    set_reported_scale,
)
from aes_dynloss.essays.model.prompt_scales import Postprocessing, linear_tables
from aes_dynloss.measures.scales import ConversionTable, equipercentile_table
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.trait_forms import with_scale_ids
from aes_dynloss.tables.cells import parse_ids, parse_numbers
from aes_dynloss.tables.columns import missing_columns
from aes_dynloss.tables.formats import is_table, read_cells
from aes_dynloss.tables.score_range import STEPS, infer_range, parse_ranges
from aes_dynloss.training.run_folder import CONFIG, MANIFEST, held_folder, write_json
from aes_dynloss.versions import package_version

logger = logging.getLogger(__name__)

_FEW = 100  # essays, below which an equipercentile table is mostly noise


def calibrate_scale(
    folder: Path, scales: Sequence[str], form: Path | None = None, moments: int | None = None
) -> dict[str, ConversionTable]:
    """Give a run, an ensemble or a model a reported scale; raw predictions and score points stay what they are.

    Args:
        folder: What ``finetune`` or ``ensemble`` wrote, or a model folder.
        scales: Each [ID=]LOW:HIGH[:STEP]; or a table with the columns score and reported, and prompt_id where it is
            not for all prompts; or "none".
        form: Scores of a reference form, in the column score, to which the run's own are equated instead.
        moments: Of both forms' scores that smoothing keeps; None: no smoothing.

    Returns:
        The tables by prompt.

    Raises:
        AesDynlossError: The folder holds no model or not what was written, or the scale does not fit it.
    """
    with held_folder(folder):
        model = model_folder(folder)
        prompts, way = _described(model)
        if form is not None:
            tables = _equated(folder, prompts, way, form, moments)
        elif list(scales) == ["none"]:
            tables = {}
        elif len(scales) == 1 and is_table(scales[0]):
            tables = _given(Path(scales[0]), prompts)
        else:
            tables = linear_tables(prompts, parse_ranges(scales, "--scale"))
        with rewritten(folder, [form, *map(Path, scales)]) as new:
            set_reported_scale(new / model.relative_to(folder), tables)
            if (new / MANIFEST).is_file():
                write_reported(new, prompts, tables)
                _record(new / MANIFEST, tables, moments)
                _write_report(new, folder.absolute().name, prompts, tables)
    return tables


def _described(model: Path) -> tuple[dict[str, Prompt], Postprocessing]:
    """The prompts of a model, and its way from raw to score."""
    if read_config(model, FORMAT, ENSEMBLE_FORMAT)["format"] == FORMAT:
        fitted = read_fitted(model)
        return {scale.prompt.id: scale.prompt for scale in fitted.scales}, fitted.postprocessing
    from accelerate import Accelerator

    ensemble = EssayEnsemble.from_pretrained(model, accelerator=Accelerator(cpu=True))  # nothing is computed here
    return ensemble.prompts, ensemble.postprocessing


def _write_report(
    folder: Path, name: str, prompts: Mapping[str, Prompt], tables: Mapping[str, ConversionTable]
) -> None:
    """Write the report of a run or ensemble, where it has one, with reported scores."""
    if not (folder / REPORT).is_file():
        return
    report = with_reported(read_report(folder / REPORT), prompts, tables)
    if (folder / CONFIG).is_file():
        config = validate(FinetuneConfig, read_mapping(folder / CONFIG), str(folder / CONFIG))
        write_run_report(config, report, folder, name, read_mapping(folder / MANIFEST))
    else:
        write_ensemble_report(report, folder, name)


def _record(path: Path, tables: Mapping[str, ConversionTable], moments: int | None) -> None:
    manifest: dict[str, Any] = dict(read_mapping(path))
    manifest["scaled"] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": package_version("aes-dynloss"),
        "reported": {prompt: table.method for prompt, table in tables.items()},
        **({} if moments is None else {"smoothed_moments": moments}),
    }
    write_json(path, manifest)


def _read(path: Path, option: str, numbers: Sequence[str]) -> pd.DataFrame:
    """Columns of numbers, and prompt_id where there is one, prompt and trait in one."""
    cells = with_scale_ids(read_cells(path), path.name)
    missing = {name: f"{option} needs it." for name in numbers if name not in cells}
    if missing:
        raise DataError(missing_columns(path.name, missing, list(map(str, cells.columns))))
    rows = pd.Series([f"row {number}" for number in cells.index], index=cells.index)
    table = pd.DataFrame({name: parse_numbers(cells[name], name, rows, path.name) for name in numbers})
    if table.isna().to_numpy().any():
        raise DataError(f"{option} {path.name}: a number is missing in {', '.join(numbers)}. Fill it in.")
    if "prompt_id" in cells:
        table["prompt_id"] = parse_ids(cells["prompt_id"], "prompt_id", path.name)
    return table


def _by_prompt(table: pd.DataFrame, prompts: Mapping[str, Prompt], name: str) -> dict[str, pd.DataFrame]:
    """The rows of each prompt; all rows for each, where there is no column of prompts."""
    if "prompt_id" not in table:
        return dict.fromkeys(prompts, table)
    known = {prompt: table[(table["prompt_id"] == prompt).to_numpy()] for prompt in prompts}
    unknown = [prompt for prompt in table["prompt_id"].unique() if prompt not in prompts]
    if unknown:
        raise DataError(f"{name} names prompt {unknown[0]!r}, and the model knows {', '.join(prompts)}. Leave it out.")
    return {prompt: rows for prompt, rows in known.items() if len(rows)}


def _given(path: Path, prompts: Mapping[str, Prompt]) -> dict[str, ConversionTable]:
    """The tables of a file."""
    tables = {}
    for prompt, given in _by_prompt(_read(path, "--scale", ["score", "reported"]), prompts, path.name).items():
        points, rows = prompts[prompt].range.points, given.sort_values("score")
        if len(rows) != len(points) or not np.allclose(rows["score"], points, atol=1e-6):
            raise ConfigError(
                f"--scale {path.name}: expected one row for each score point of prompt {prompt} "
                f"({prompts[prompt].range}), found {len(rows)} rows with the scores "
                f"{', '.join(f'{score:g}' for score in rows['score'][:20])}. Give each score point one reported score."
            )
        tables[prompt] = ConversionTable("table", tuple(rows["reported"].tolist()))
    return tables


def _equated(
    folder: Path, prompts: dict[str, Prompt], way: Postprocessing, path: Path, moments: int | None
) -> dict[str, ConversionTable]:
    """Tables from the scores of the essays on which the run fitted its post-processing to those of a reference form."""
    if not (folder / MANIFEST).is_file():
        raise ConfigError(
            f"--reference-form needs the predictions of a run, and {folder} holds none. Name the run's own folder."
        )
    kept = KeptPredictions.read(folder, prompts)
    own = kept.judged(kept.fitted_on, prompts)
    scores, answered = way.points(prompts, own.prompt_ids, own.raw), np.array(own.prompt_ids, dtype=object)
    tables = {}
    for prompt, rows in _by_prompt(_read(path, "--reference-form", ["score"]), prompts, path.name).items():
        form, ours = rows["score"].to_numpy(dtype=np.float64), scores[answered == prompt]
        if min(len(form), len(ours)) < _FEW:
            logger.warning(
                "Prompt %s: %d scores are equated to %d of the reference form. With fewer than %d an equipercentile "
                "table is uneven: look at it before it is used, or smooth it (--smoothing 4).",
                prompt, len(ours), len(form), _FEW,
            )  # fmt: skip
        form_range = infer_range([form], f"prompt {prompt} in {path.name}", STEPS)
        tables[prompt] = equipercentile_table(ours, prompts[prompt].range, form, form_range, moments)
    return tables
