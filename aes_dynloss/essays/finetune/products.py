"""What a fine-tuning run leaves in its folder: names, manifest, predictions, model and report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.finetune_config import FinetuneConfig
from aes_dynloss.essays.held_out import PREDICTIONS_DEV, PREDICTIONS_TEST
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.model_card import model_card
from aes_dynloss.essays.model.scorer import EssayScorer
from aes_dynloss.essays.model.warm_start import MODEL
from aes_dynloss.evaluation.predictions import write_predictions
from aes_dynloss.evaluation.report import build_report
from aes_dynloss.reporting.pictures import picture_from_svg
from aes_dynloss.reporting.report_files import PAGE, REPORT, TABLE, write_report_files
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG
from aes_dynloss.training.loop import CHECKPOINT
from aes_dynloss.training.run_folder import write_json

MANIFEST = "manifest.json"
TEACHER, PLOTS = "teacher", "plots"
PRODUCTS = (
    MANIFEST,
    MODEL,
    TEACHER,
    PLOTS,
    TEACHING_LOG,
    TEACHING_CHECKPOINT,
    PREDICTIONS_DEV,
    PREDICTIONS_TEST,
    TABLE,
    PAGE,
    REPORT,
)

# Parts of the manifest that a run which goes on must find as they were, in words.
_SAME = {
    "data": "data",
    "split": "split",
    "augmentation": "changed copies of training essays",
    "started_from": "weights to start from",
}


def check_kept(config: FinetuneConfig, folder: Path) -> None:
    """Refuse to call a run complete of which something was removed since."""
    fractions = config.data.split.fractions
    left = [MANIFEST, MODEL, PLOTS, PREDICTIONS_DEV]
    if isinstance(config.teacher, DlfConfig | DlnConfig):
        left.append(TEACHER)
    if config.evaluation.page:
        left.append(PAGE)
    if fractions is None or fractions.test > 0:
        left.append(PREDICTIONS_TEST)
    gone = [name for name in left if not (folder / name).exists()]
    if gone:
        raise ConfigError(
            f"--resume: the run in {folder} was complete, but lacks {', '.join(gone)} now. Bring back what was "
            "removed, or train again with --force."
        )


def remove_scratch(folder: Path) -> None:
    """Remove what a run that was killed could not: token states, a half-written model."""
    for path in (*folder.glob("activations-*"), *folder.glob(f".{MODEL}.*")):
        shutil.rmtree(path, ignore_errors=True)


def record_manifest(manifest: dict[str, Any], folder: Path, *, resume: bool) -> None:
    """Write the manifest; a run that has begun goes on with the same essays and splits alone."""
    path = folder / MANIFEST
    if resume and any((folder / name).exists() for name in (CHECKPOINT, TEACHING_CHECKPOINT)):
        if not path.exists():
            raise DataError(
                f"--resume: {path} is gone, so it cannot be known whether the essays are those that the run began "
                "with. Bring it back, or start again with --force."
            )
        before = read_mapping(path)
        for part, words in _SAME.items():
            if before.get(part) != manifest[part]:
                raise DataError(
                    f"--resume: the {words} differ from those that the run began with: {before.get(part)} then, "
                    f"{manifest[part]} now. Bring them back, or start again with --force."
                )
    write_json(path, manifest)


def prediction_table(
    scorer: EssayScorer,
    part: EssayTable,
    examples: EssayExamples,
    raw: NDArray[np.float64],
    subgroups: Sequence[str] = (),
) -> pd.DataFrame:
    """A part's table of predictions, with what the report is to be broken down by."""
    columns: dict[str, Any] = {
        "essay_id": part.essay_ids,
        "prompt_id": part.values("prompt_id"),
        "reference": part.scores,
        "raw": raw,
        "score": scorer.score_points(raw, examples.groups),
    }
    for rater in part.rater_columns or ():
        if rater != "score":
            name = "second_reference" if rater == "second_score" else rater
            columns[name] = np.array(part.values(rater), dtype=np.float64)
    columns["words"] = [len(text.split()) for text in part.values("text")]
    columns |= {name: part.values(name) for name in subgroups}
    if scorer.model.config.max_tokens is not None:
        columns["dropped_tokens"] = [essay.dropped for essay in examples.essays]
    return pd.DataFrame(columns)


def write_products(
    config: FinetuneConfig,
    scorer: EssayScorer,
    floors: dict[str, dict[str, Any]] | None,
    predictions: Mapping[str, pd.DataFrame],
    folder: Path,
    notes: Sequence[str] = (),
) -> None:
    """Everything a run leaves behind; the report last, with notes of the run's own, which marks it complete."""
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    settings = config.evaluation
    notes = list(notes)
    if "test" in predictions:
        judged, dev = predictions["test"], predictions["dev"]
    else:
        judged, dev = predictions["dev"], None
        notes.append("There is no test split: these figures are those of dev, on which the best weights were chosen.")
    report = build_report(
        judged,
        ranges=ranges,
        dev=dev,
        floors=floors,
        subgroups=config.data.subgroups,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=config.training.seed,
    )
    report["notes"] += notes
    for name, table in predictions.items():
        write_predictions(table, folder / f"predictions_{name}.csv")
    scorer.save_pretrained(folder / MODEL, card=model_card(config, scorer, report))
    for name in (CHECKPOINT, TEACHING_CHECKPOINT):
        (folder / name).unlink(missing_ok=True)
    pictures = [picture_from_svg(path) for path in sorted((folder / PLOTS).glob("*.svg"))] if settings.page else []
    write_report_files(
        report,
        folder,
        title=f"Agreement of {folder.absolute().name} with human scores",
        pictures=pictures,
        about=_about(config, folder),
        page=settings.page,
    )


def _about(config: FinetuneConfig, folder: Path) -> dict[str, str]:
    """What made the figures, for the foot of the page."""
    manifest = read_mapping(folder / MANIFEST)
    if config.teacher is None:
        loss = ", ".join(config.loss.terms)
    else:
        loss = f"steered by a teacher of kind {config.teacher.kind}"
    return {
        "Encoder": config.model.encoder,
        "Head": config.model.head,
        "Loss": loss,
        "Seed": str(config.training.seed),
        "Started": manifest["started"],
        "Version": manifest["versions"]["aes-dynloss"],
    }
