"""The scores of administrations, and of the essays that a model was tested on, as a monitor compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.model.model_folder import (
    CONFIG,
    ENSEMBLE_FORMAT,
    FORMAT,
    MEMBERS,
    MODEL,
    model_folder,
    read_config,
)
from aes_dynloss.measures.design_weights import checked_weights
from aes_dynloss.programme.sheets import DESIGN_WEIGHT
from aes_dynloss.reports.features import read_features
from aes_dynloss.reports.predictions import (
    PREDICTIONS_DEV,
    PREDICTIONS_TEST,
    WITHHELD,
    is_cross_fitted,
    read_predictions,
)
from aes_dynloss.reports.trait_forms import row_an_essay, with_prompt_ids
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.cells import is_blank, listed_words, parse_numbers
from aes_dynloss.tables.columns import (
    ID_COLUMNS,
    LENGTH_COLUMN,
    PREDICTION_COLUMNS,
    REFERENCE_COLUMNS,
    TEXT_COLUMN,
    TRAIT_COLUMN,
    ColumnNames,
)
from aes_dynloss.tables.formats import column_names, read_cells
from aes_dynloss.tables.provenance import provenance_path, read_provenance
from aes_dynloss.tables.scale_ids import prompt_and_trait, scale_id
from aes_dynloss.tables.score_range import ScoreRange

ADVISORIES, OOD_DISTANCE = "advisories", "ood_distance"  # as `score` names them
_KEYS = ["prompt_id", "essay_id"]
# Essays of a cross-fitted run were scored by parts of the model, which were fitted to fewer essays and so shrink scores
# to their mean a little more than it does: as recipes/benchmarks/cross_fitted_spread.py measured.
CROSS_FITTED_SPREAD = 1.06


@dataclass(frozen=True)
class Read:
    """What is read of each file.

    Args:
        columns: Names of its columns.
        ranges: Score range by prompt.
        subgroups: Columns of groups of writers.
        features: Numeric columns.
        tables: Tables of features of essays of any file.
    """

    columns: ColumnNames
    ranges: Mapping[str, ScoreRange]
    subgroups: Sequence[str] = ()
    features: Sequence[str] = ()
    tables: Sequence[Path] = ()


@dataclass(frozen=True)
class Scores:
    """Scored essays of one administration, or those that a model was tested on.

    Args:
        name: What they are called.
        table: A row an essay: essay_id, prompt_id, its scores in the columns of `score_column` (NaN where withheld, or
            where the prompt lacks the trait), the columns of groups and features; words, advisories (a set of kinds)
            and withheld where they are known.
        ranges: Score range by prompt, or by prompt and trait.
        features: Columns of features.
        human: Scores that humans gave too, with prompt_id (of prompt and trait, where there are several), reference,
            raw, score and perhaps design_weight; None: none.
        model: SHA-256 of the config.json of the model that scored them, where it is known.
        spread: By what factor the SD of the model's scores of alike essays may be higher than theirs.
        traits: The traits that are scored; none where an essay has one score.
    """

    name: str
    table: pd.DataFrame
    ranges: Mapping[str, ScoreRange]
    features: Sequence[str] = ()
    human: pd.DataFrame | None = None
    model: str | None = None
    spread: float = 1.0
    traits: Sequence[str] = ()

    @property
    def scored(self) -> list[str | None]:
        """What essays are scored on: each trait, or None, the whole."""
        return list(self.traits) if self.traits else [None]


def score_column(trait: str | None) -> str:
    """The column of an administration's table that has the scores, or those of a trait.

    Examples:
        >>> score_column(None), score_column("style")
        ('score', 'score/style')
    """
    return scale_id("score", trait)


def read_scores(path: Path, read: Read, human: Path | None = None) -> Scores:
    """Read a file of scores that ``aes-dynloss score`` wrote, or another system's.

    Args:
        path: The file: essay_id, prompt_id, raw or score or both; of words or text, advisories, withheld and
            ood_distance what there is. Of several traits it has the columns that `score` writes of each, or a row for
            each of an essay's.
        read: What is read of it.
        human: File with human scores of a sample of its essays, and perhaps their design weights.

    Raises:
        DataError: A file cannot be used, or lacks a column that is needed.
    """
    there = {*column_names(path)}
    names = read.columns.in_file(there)
    if names.words is None and LENGTH_COLUMN not in there and names.text is None and TEXT_COLUMN in there:
        names = replace(names, text=TEXT_COLUMN)
    features = [*read.features, *({OOD_DISTANCE} & there - {*read.features})]
    kept = [*read.subgroups, *features, *({ADVISORIES} & there)]
    scored = read_predictions(path, columns=names, ranges=read.ranges, kept=kept)
    parts = [scored.table.assign(withheld=False)]
    if scored.withheld is not None:
        parts.append(scored.withheld.assign(withheld=True))
    table = pd.concat(parts, ignore_index=True)
    if ADVISORIES in kept:
        kinds = [frozenset(listed_words(cell)) for cell in table[ADVISORIES]]
        table[ADVISORIES] = pd.Series(kinds, index=table.index, dtype=object)
    traits = list(dict.fromkeys(table[TRAIT_COLUMN])) if TRAIT_COLUMN in table else []
    if traits:
        table = _row_an_essay(table, traits, [*kept, LENGTH_COLUMN, TEXT_COLUMN], path.name)
    if TEXT_COLUMN in table and LENGTH_COLUMN not in table:
        table[LENGTH_COLUMN] = [0.0 if is_blank(text) else float(len(str(text).split())) for text in table[TEXT_COLUMN]]
    if ADVISORIES not in kept and scored.withheld is None and WITHHELD not in there:
        table = table.drop(columns=WITHHELD)
    for name in features:
        table[name] = parse_numbers(table[name], name, table["essay_id"], path.name)
    table, features = _with_features(table, features, read)
    made = read_provenance(path).model if provenance_path(path).exists() else None
    table = table.drop(columns=TEXT_COLUMN, errors="ignore")
    known = _human(path, read, human, scored.table)
    return Scores(path.name, table, scored.ranges, features, known, made, traits=traits)


def _row_an_essay(table: pd.DataFrame, traits: Sequence[str], shared: Sequence[str], source: str) -> pd.DataFrame:
    """The essays of a table of scores of several traits, which become columns.

    Args:
        table: A row for each trait of an essay.
        traits: All traits, in their order.
        shared: Columns that tell something of the essay, whatever it is scored on.
        source: The table's name for messages.
    """
    essays, plain = row_an_essay(table, {WITHHELD: "any"}), with_prompt_ids(table)
    values = plain.groupby([*ID_COLUMNS])[[name for name in dict.fromkeys(shared) if name in table]].nunique()
    for name in values:
        several = values.index[values[name] > 1]
        if len(several):
            raise DataError(
                f"{source}: essay {several[0][0]!r} of prompt {several[0][1]!r} has several values of {name!r}, one by "
                "trait, and what is compared beside scores is the essay's. Leave that column out, or give each essay "
                "one value."
            )
    scores = plain.pivot_table(index=[*ID_COLUMNS], columns=TRAIT_COLUMN, values="score", aggfunc="first")
    scores = scores.reindex(columns=list(traits)).rename(columns=score_column)
    of_traits = [TRAIT_COLUMN, *PREDICTION_COLUMNS, *REFERENCE_COLUMNS]
    return essays.drop(columns=of_traits, errors="ignore").join(scores, on=[*ID_COLUMNS])


def _with_features(table: pd.DataFrame, names: Sequence[str], read: Read) -> tuple[pd.DataFrame, list[str]]:
    """The table with the features of those of its essays that tables of features have, and all names of features."""
    names = list(names)
    index = pd.MultiIndex.from_frame(table[_KEYS])
    for path in read.tables:
        values = read_features(path, table, read.columns).reindex(index)
        for name in values:
            known = values[name].to_numpy()
            if np.isnan(known).all():
                continue
            if name in names:
                known = np.where(np.isnan(known), table[name], known)
            else:
                names.append(str(name))
            table[name] = known
    return table, names


def _human(path: Path, read: Read, sample: Path | None, scored: pd.DataFrame) -> pd.DataFrame | None:
    """The essays that humans scored."""
    if sample is None:
        known = scored[scored["reference"].notna()]
        return known if len(known) else None
    weighted = DESIGN_WEIGHT in read_cells(sample)
    kept = [DESIGN_WEIGHT] if weighted else []
    table = read_predictions(
        path, columns=read.columns, references=sample, ranges=read.ranges, kept=kept, sampled=True
    ).table
    if weighted:
        weights = parse_numbers(table[DESIGN_WEIGHT], DESIGN_WEIGHT, table["essay_id"], sample.name)
        table[DESIGN_WEIGHT] = checked_weights(weights)
    return table


def training_files(model: Path) -> list[Path]:
    """The predictions that a run keeps of essays that its model was tested on.

    Raises:
        ConfigError: There are none.
    """
    folder = model_folder(model)
    run = folder.absolute().parent if folder.name == MODEL else folder
    found = [run / name for name in (PREDICTIONS_TEST, PREDICTIONS_DEV) if (run / name).is_file()]
    if not found:
        raise ConfigError(
            f"{model} has no {PREDICTIONS_TEST} beside its model to compare with. Name the run that finetune wrote, or "
            "give the scores of an earlier administration as --baseline."
        )
    return found


def training_scores(files: Sequence[Path], read: Read) -> Scores:
    """The essays that a model was tested on, test and dev, as one administration.

    Args:
        files: What ``training_files`` returned.
        read: What is read of them.

    Raises:
        DataError: A column of groups or of features is not known of them.
    """
    for path in files:
        columns = column_names(path)
        missing = [name for name in (*read.subgroups, *read.features) if name not in columns]
        if missing:
            raise DataError(
                f"The run's {path.name} has no column {missing[0]!r}. Give an earlier administration's scores that "
                "have it as --baseline, or leave the column out."
            )
    parts = [read_scores(path, read) for path in files]
    known = [part.human for part in parts if part.human is not None]
    return Scores(
        "training: " + " and ".join(part.name for part in parts),
        pd.concat([part.table for part in parts], ignore_index=True),
        {scale: span for part in parts for scale, span in part.ranges.items()},
        list(dict.fromkeys(name for part in parts for name in part.features)),
        pd.concat(known, ignore_index=True) if known else None,
        spread=CROSS_FITTED_SPREAD if is_cross_fitted(files[0].parent) else 1.0,
        traits=list(dict.fromkeys(trait for part in parts for trait in part.traits)),
    )


def model_ranges(model: Path, given: Mapping[str, ScoreRange]) -> tuple[dict[str, ScoreRange], str]:
    """The score range of each of a model's prompts, or prompts and traits, and the SHA-256 of its config.json.

    Args:
        model: The folder of a model or of a run.
        given: Ranges that count in place of the model's; that of a prompt is one of all its traits.

    Raises:
        CheckpointError: It is none.
    """
    folder = model_folder(model)
    values = read_config(folder, FORMAT, ENSEMBLE_FORMAT)
    if "prompts" not in values:
        values = read_config(folder / MEMBERS / "0", FORMAT)
    prompts = [entry["prompt"] for entry in values["prompts"]]
    ranges = {
        prompt["id"]: ScoreRange(**prompt["range"])
        for prompt in prompts
        if not (prompt.get("trait") and prompt_and_trait(prompt["id"])[0] in given)
    }
    return {**ranges, **given}, file_sha256(folder / CONFIG)


def refuse_nothing_in_common(then: Scores, now: Scores) -> None:
    """Refuse administrations that share no prompt, or no trait.

    Raises:
        DataError: They share none.
    """
    before, after = (list(dict.fromkeys(one.table["prompt_id"])) for one in (then, now))
    if not set(before) & set(after):
        raise DataError(
            f"{now.name} has essays on {', '.join(after)}, and {then.name} on {', '.join(before)}: there is no common "
            "prompt. Name scores of the same prompts, or their ids' column with --map prompt_id=COLUMN."
        )
    if not {*then.scored} & {*now.scored}:
        raise DataError(
            f"{now.name} has {_scores_words(now.traits)}, and {then.name} {_scores_words(then.traits)}: there is no "
            "common one. Name scores of the same traits."
        )


def _scores_words(traits: Sequence[str]) -> str:
    return f"scores of {', '.join(traits)}" if traits else "one score an essay"
