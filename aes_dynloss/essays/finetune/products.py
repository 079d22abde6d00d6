"""The products of a fine-tuning run in its folder: manifest, predictions, model, model card and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.splits import Splits, data_hash, ids_hash, split_hash
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.fitting import Parts
from aes_dynloss.essays.finetune.held_out import INNER, OUT_OF_FOLD, predictions_hashes
from aes_dynloss.essays.finetune.own_parts import own_parts
from aes_dynloss.essays.finetune.predicted import CROSS_FIT, FOLDS, PROBABILITIES, Predicted, TrainedScorer
from aes_dynloss.essays.finetune.suspects import SUSPECTS, suspects
from aes_dynloss.essays.finetune.warm_start import WarmStart
from aes_dynloss.essays.model.card import CardFacts, EssayModelCard, MeasuredOn
from aes_dynloss.essays.model.encoders import encoder_label, published_name
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.protocol import probabilities_by_point
from aes_dynloss.essays.model.state_cache import STATES
from aes_dynloss.reports.drawing import picture_from_svg
from aes_dynloss.reports.drivers import Drivers
from aes_dynloss.reports.features import FeatureTable
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import (
    PREDICTIONS_DEV,
    PREDICTIONS_TEST,
    predictions_file,
    write_inner,
    write_predictions,
)
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.reports.ratings import measure_ratings
from aes_dynloss.reports.report_files import FEATURES, PAGE, REPORT, TABLE, write_report_files
from aes_dynloss.tables.provenance import PROVENANCE
from aes_dynloss.teaching.teachers.config import LearningTeacherConfig
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG
from aes_dynloss.training.run_folder import CHECKPOINT, FIRST_STAGE, MANIFEST, PLOTS, TEACHER, describe_run, write_json

_PACKAGES = (
    "aes-dynloss",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "scikit-learn",
    "numpy",
    "pandas",
)


_MOST_NAMED = 20  # own columns, in a model card
POST_PROCESSING = "model.postprocessing"  # how a note on it begins


def model_card(
    config: FinetuneConfig,
    prompts: Mapping[str, Prompt],
    report: Report,
    postprocessing: Postprocessing,
    fitted_on: str,
    manifest: Mapping[str, Any],
    sources: Sequence[str] = (),
) -> str:
    """Markdown text: what the model scores, how it was made, how well it agrees, what it is not for.

    Args:
        config: Of its run.
        prompts: Its prompts by id.
        report: On its predictions.
        postprocessing: From raw to score.
        fitted_on: What that was fitted on, in words.
        manifest: Of its run.
        sources: The prompts that taught it, where it scores others too.
    """
    fitted = f" (fitted on {fitted_on})" if postprocessing.fitted else ""
    rule = f"From raw to score: {postprocessing.kind}{fitted}, trimmed to the range and rounded half up."
    has_encoder = config.model.kind == "encoder"
    return EssayModelCard(
        "Essay scorer",
        {prompt_id: prompt.range for prompt_id, prompt in prompts.items()},
        made_of=[*_texts(config), *_made_of(config), *_sources(config, sources), *_own_columns(config), rule],
        facts=CardFacts.of_run(config.card, manifest, published_name(config.model.encoder) if has_encoder else None),
        report=report,
        measured_on=_measured_on(config, manifest),
        encoder=config.model if has_encoder else None,
    ).text()


def _measured_on(config: FinetuneConfig, manifest: Mapping[str, Any]) -> MeasuredOn:
    if config.data.split.cross_fit is not None:
        return "out_of_fold"
    return "dev" if manifest["split"].get("essays", {}).get("test") == 0 else "test"


def _texts(config: FinetuneConfig) -> list[str]:
    """A line on texts that are no essays."""
    if config.data.kind == "essays":
        return []
    return ["It scores short answers, not essays: that one is short, or the same as another, is no advisory."]


def _made_of(config: FinetuneConfig) -> list[str]:
    model = config.model
    features = " and linguistic features" if model.linguistic else ""
    if model.kind == "strings":
        return [f"Character n-grams{features}, no encoder; fitted by {model.solver}."]
    if model.kind == "boosting":
        return [f"Gradient boosted trees on the length{features}, no encoder."]
    if model.kind == "forest":
        return [f"Random forest on words, word pairs, parts of words, the length{features}, no encoder."]
    if model.kind == "transfer":
        return [f"Ridge regression on the length{features}, no encoder, for prompts that it was not trained on."]
    return [
        f"Encoder: {_encoder(model)}; head: {model.head}; pooling: {model.pooling}.",
        f"Head fitted by {model.solver}. Loss: {_loss(config)}. Seed: {config.training.seed}.",
    ]


def _loss(config: FinetuneConfig) -> str:
    """The terms with their weights or schedules; with a teacher its kind, as it may bring a loss of its own."""
    if config.teacher is not None:
        return f"steered by a teacher of kind {config.teacher.kind}"
    terms = {name: weight if isinstance(weight, str) else repr(weight) for name, weight in config.loss.terms.items()}
    return ", ".join(f"{name}: {weight}" for name, weight in terms.items())


_FORMS = {
    "with_target_essays": "it adapts to a batch of the prompt's essays, whose scores it does not see",
    "strict": "it sees nothing of the prompt but its score range",
}


def _sources(config: FinetuneConfig, sources: Sequence[str]) -> list[str]:
    """Lines on a model that scores prompts which it was not trained on; none on others."""
    form = config.model.form
    if form is None:
        return []
    return [f"Form: {form}, that is, {_FORMS[form]}.", f"Prompts that taught it: {', '.join(sources)}."]


def transfer_notes(config: FinetuneConfig, sources: Sequence[str]) -> list[str]:
    """What a report says of figures on prompts that a model was not trained on; nothing on others.

    Args:
        config: The run's.
        sources: The prompts with training essays.
    """
    form = config.model.form
    if form is None:
        return []
    return [
        f"Every essay was scored by a model of form {form} that was fitted without the essay's prompt; training essays "
        f"are of {', '.join(sources)}. Prediction intervals are of the errors on all of these, each scored without it."
    ]


def _encoder(model: ModelConfig) -> str:
    """The encoder's name, what is left of it, and what of it learned where that is not the rule."""
    kept = "" if model.keep_layers is None else f", layers kept: {model.keep_layers}"
    adapted = "" if model.lora is None else f", trained by adapters of rank {model.lora.rank} (LoRA)"
    return f"{encoder_label(model.encoder)}{kept}{adapted}"


def _own_columns(config: FinetuneConfig) -> list[str]:
    """A line on columns that essays to be scored need; none without such."""
    own = config.model.own_features
    if not own:
        return []
    more = f" and {len(own) - _MOST_NAMED} more, which config.json lists" if len(own) > _MOST_NAMED else ""
    return [f"It needs numeric columns beside the text, in scoring too: {', '.join(own[:_MOST_NAMED])}{more}."]


def _about(config: FinetuneConfig) -> dict[str, str]:
    """What made the figures, for the foot of a report."""
    if config.model.kind != "encoder":
        named = {"Model": config.model.kind, "Solver": config.model.solver, "Form": config.model.form}
        return {name: value for name, value in named.items() if value is not None}
    return {
        "Encoder": _encoder(config.model),
        "Head": config.model.head,
        "Solver": str(config.model.solver),
        "Loss": _loss(config),
        "Seed": str(config.training.seed),
    }


PRODUCTS = (
    MANIFEST,
    MODEL,
    TEACHER,
    PLOTS,
    TEACHING_LOG,
    TEACHING_CHECKPOINT,
    PREDICTIONS_DEV,
    PREDICTIONS_TEST,
    predictions_file(OUT_OF_FOLD),
    predictions_file(INNER),
    TABLE,
    FEATURES,
    CROSS_FIT,
    FOLDS,
    FIRST_STAGE,
    STATES,
    SUSPECTS,
    PAGE,
    PROVENANCE,
    REPORT,
)

# Parts of the manifest that a run which goes on must find as they were, in words.
_SAME = {
    "data": "data",
    "split": "split",
    "augmentation": "changed copies of training essays",
    "started_from": "weights to start from",
    "parts": "parts from outside",
}


def check_kept(config: FinetuneConfig, folder: Path) -> None:
    """Refuse to call a run complete of which something was removed since."""
    fractions, exact = config.data.split.fractions, config.model.solver != "sgd"
    left = {
        **dict.fromkeys((MANIFEST, MODEL), True),
        PREDICTIONS_DEV: config.data.split.cross_fit is None or not exact,
        PLOTS: config.model.solver == "sgd",
        predictions_file(OUT_OF_FOLD): config.leaves_out_of_fold,
        predictions_file(INNER): config.data.split.cross_fit is not None,
        TEACHER: isinstance(config.teacher, LearningTeacherConfig),
        PAGE: config.evaluation.page,
        PREDICTIONS_TEST: fractions is None or fractions.test > 0,
    }
    gone = [name for name, expected in left.items() if expected and not (folder / name).exists()]
    if gone:
        raise ConfigError(
            f"--resume: the run in {folder} was complete, but lacks {', '.join(gone)} now. Bring back what was "
            "removed, or train again with --force."
        )


def record_manifest(
    accelerator: Accelerator,
    config: FinetuneConfig,
    table: EssayTable,
    splits: Splits,
    tests: Sequence[EssayTable],
    start: WarmStart | None,
    parts: Parts,
    folder: Path,
    *,
    resume: bool,
) -> None:
    """Write everything beside the configuration that a repetition needs to know; no essay and no path of the machine.

    A run that has begun goes on with the same essays and splits alone.

    Args:
        accelerator: The run's.
        config: Its configuration.
        table: All essays.
        splits: Their parts.
        tests: The parts of a cross-fitted run, each of which a scorer of the others scores; none of another.
        start: The model whose weights the run starts with, if there is one; the SHA-256 of its config.json is kept.
        parts: What the model learns from, and what the changed copies of training essays are, if there are any.
        folder: The run's.
        resume: Whether the run may have begun.

    Raises:
        DataError: It has begun with other essays, splits, copies or weights, or its manifest is gone.
    """
    tested = {"parts": [ids_hash(test.essay_ids) for test in tests]} if tests else {}
    essays = {name: part.essay_count for name, part in splits.tables().items()}
    from_outside = own_parts(config)
    manifest = {
        **describe_run(accelerator, _PACKAGES),
        "seeds": {"training": config.training.seed, "split": config.data.split.seed},
        "data": {"sha256": data_hash(table), "essays": table.essay_count},
        "essays_sha256": data_hash(table, ("essay_id", "prompt_id", "text", "score")),
        "split": {"sha256": split_hash(splits), "essays": essays, **tested},
        "training_essays": parts.tables["train"].essay_count,  # fewer than in the split where some are left out
        "augmentation": None if parts.augmentation is None else parts.augmentation.summary(),
        "started_from": None if start is None else start.sha256,
        **({"parts": from_outside} if from_outside else {}),
    }
    path = folder / MANIFEST
    begun = (CHECKPOINT, TEACHING_CHECKPOINT, f"{FIRST_STAGE}/{CHECKPOINT}", FOLDS)
    if resume and any((folder / name).exists() for name in begun):
        if not path.exists():
            raise DataError(
                f"--resume: {path} is gone, so it cannot be known whether the essays are those that the run began "
                "with. Bring it back, or start again with --force."
            )
        before = read_mapping(path)
        for part, label in _SAME.items():
            if before.get(part) != manifest.get(part):
                raise DataError(
                    f"--resume: the {label} differ from those that the run began with: {before.get(part)} then, "
                    f"{manifest.get(part)} now. Bring them back, or start again with --force."
                )
    write_json(path, manifest)


def prediction_table(
    scorer: TrainedScorer, part: EssayTable, predicted: Predicted, subgroups: Sequence[str]
) -> pd.DataFrame:
    """A part's table of predictions, with what the report is to be broken down by."""
    prompt_ids = part.values("prompt_id")
    columns: dict[str, Any] = {
        "essay_id": part.essay_ids,
        "prompt_id": prompt_ids,
        **part.trait_column,
        "reference": part.scores,
        "raw": predicted.raw,
        "score": scorer.postprocessing.points(scorer.prompts, prompt_ids, predicted.raw),
    }
    for rater in part.rater_columns or ():
        if rater != "score":
            name = "second_reference" if rater == "second_score" else rater
            columns[name] = np.array(part.values(rater), dtype=np.float64)
    columns["words"] = [len(text.split()) for text in part.values("text")]
    columns |= {name: part.values(name) for name in subgroups}
    if predicted.dropped_tokens is not None:
        columns["dropped_tokens"] = predicted.dropped_tokens
    if predicted.probabilities is not None:
        by_point = probabilities_by_point(scorer.prompts, prompt_ids, predicted.probabilities)
        columns[PROBABILITIES] = [json.dumps(one) for one in by_point]
    return pd.DataFrame(columns)


def write_products(
    config: FinetuneConfig,
    scorer: TrainedScorer,
    floors: dict[str, dict[str, Any]] | None,
    predictions: Mapping[str, pd.DataFrame],
    fitted_on: str,
    folder: Path,
    notes: Sequence[str] = (),
    features: FeatureTable | None = None,
    ratings: pd.DataFrame | None = None,
    drivers: Drivers | None = None,
) -> None:
    """Everything a run leaves behind; the report last, with notes of the run's own, which marks it complete.

    ``fitted_on`` says on what post-processing was fitted; ``features`` are those of the judged essays, ``ratings`` what
    a learned loss makes of train essays' scores, ``drivers`` what the scores of some judged essays come from.
    """
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    settings = config.evaluation
    notes = list(notes)
    if "test" in predictions:
        judged = predictions["test"]
        dev = predictions["dev"] if config.data.split.cross_fit is None else None  # its essays are among those of test
    else:
        judged, dev = predictions["dev"], None
        chosen = ", on which the best weights were chosen" if config.model.solver == "sgd" else ""
        notes.append(f"There is no test split: these figures are those of dev{chosen}.")
    report = build_report(
        judged,
        ranges=ranges,
        dev=dev,
        out_of_fold=config.data.split.cross_fit is not None,
        floors=floors,
        features=features,
        subgroups=config.data.subgroups,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=config.training.seed,
        intervals=scorer.intervals if config.model.kind == "transfer" else None,
    )
    notes += post_processing_notes(scorer.postprocessing, fitted_on)
    believed = None if ratings is None else measure_ratings(ratings)
    report = replace(report, notes=[*report.notes, *notes], ratings=believed, drivers=drivers)
    for name, table in predictions.items():
        write = write_inner if name == INNER else write_predictions
        write(table, folder / predictions_file(name))
    if ratings is not None:
        write_inner(suspects(ratings).round(6), folder / SUSPECTS)
    manifest = read_mapping(folder / MANIFEST) | {"predictions": predictions_hashes(folder, predictions)}
    card = model_card(config, scorer.prompts, report, scorer.postprocessing, fitted_on, manifest, scorer.sources)
    scorer.save_pretrained(folder / MODEL, card=card)
    write_json(folder / MANIFEST, manifest)
    write_run_report(config, report, folder, folder.absolute().name, manifest)
    remove_what_resumes(folder)


def remove_what_resumes(folder: Path) -> None:
    """Remove from a complete run what an unfinished one would go on from."""
    for name in (CHECKPOINT, TEACHING_CHECKPOINT):
        (folder / name).unlink(missing_ok=True)
    for name in (CROSS_FIT, FOLDS, FIRST_STAGE, STATES):
        shutil.rmtree(folder / name, ignore_errors=True)


def cross_fit_note(parts: int) -> str:
    """What a report says of the scores of a cross-fitted run, whose essays are in so many parts."""
    return (
        f"These figures are of out-of-fold scores: each of {parts} scorers was fitted without the essays that it "
        "scored, and so was its post-processing. The model is fitted to all essays."
    )


def post_processing_notes(postprocessing: Postprocessing, fitted_on: str) -> list[str]:
    """What a report says of the way from raw predictions to scores: nothing where they are plainly rounded."""
    return [f"{POST_PROCESSING} {postprocessing.kind} was fitted on {fitted_on}."] if postprocessing.fitted else []


def write_run_report(
    config: FinetuneConfig, report: Report, folder: Path, name: str, manifest: Mapping[str, Any]
) -> None:
    """Write a run's report, with the pictures of its training.

    Args:
        config: The run's.
        report: The report.
        folder: Where to; the pictures are there.
        name: What the run is called.
        manifest: The run's.
    """
    page = config.evaluation.page
    write_report_files(
        report,
        folder,
        title=f"Agreement of {name} with human scores",
        pictures=[picture_from_svg(path) for path in sorted((folder / PLOTS).glob("*.svg"))] if page else [],
        about={  # what made the figures, for the foot of the page
            **_about(config),
            "Started": manifest["started"],
            "Version": manifest["versions"]["aes-dynloss"],
            "Essays": f"SHA-256 {manifest['data']['sha256']}",
        },
        page=page,
    )
