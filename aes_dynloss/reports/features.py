"""Features of essays beside their human scores: read, measured by prompt, in a sentence, as a section, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import none_if_nan, pearson, sample_sd
from aes_dynloss.measures.reliability import length_partialled_pearson
from aes_dynloss.reports.blocks import Block, Folded, Section, Words
from aes_dynloss.reports.human_scores import refuse_repeats
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.model import Feature, FeatureFigures, FeatureReport
from aes_dynloss.reports.predictions import LARGEST_NUMBER
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import (
    MOST_ACROSS,
    Cell,
    Column,
    Form,
    Table,
    measure_column,
    number,
    words,
    words_column,
)
from aes_dynloss.reports.trait_forms import with_prompt_ids
from aes_dynloss.tables.cells import is_blank, parse_ids, parse_numbers, row_words
from aes_dynloss.tables.columns import ID_COLUMNS, LENGTH_COLUMN, TRAIT_COLUMN, ColumnNames, missing_columns
from aes_dynloss.tables.formats import read_cells
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ONE_PROMPT

FEATURE_COLUMNS = ("feature", "group", "unit", "prompt_id", "n", "mean", "sd", "clamped", "r", "partial_r")
# ln(1 + words), as `aes-dynloss features` names it: the length, where the predictions do not have it.
LOG_LENGTH = "log_words"
# Group of a feature that nobody described.
OWN = "own"
# The others are folded away.
MOST_SHOWN = 20
MOST_NAMED = 5
_KEYS = ["prompt_id", "essay_id"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureTable:
    """Features of essays, and the means and standard deviations that they are compared with.

    Args:
        features: Finite float64 values, indexed by prompt_id and essay_id; a row an essay, a column a feature.
        mean: Means to compare with, indexed by prompt_id, with the same columns.
        sd: Standard deviations likewise; 0, NaN or infinite where a feature does not vary.
        compared_with: The essays whose means and standard deviations these are, in words.
        most_sd: Standard deviations from the mean at which values are clamped.
        described: Group and unit by feature, where they are known.
    """

    features: pd.DataFrame
    mean: pd.DataFrame
    sd: pd.DataFrame
    compared_with: str
    most_sd: float
    described: Mapping[str, tuple[str, str]]


def compared_with_themselves(
    features: pd.DataFrame, source: str, most_sd: float, described: Mapping[str, tuple[str, str]]
) -> FeatureTable:
    """Features compared with the mean and standard deviation of the same prompt's essays in their own table.

    Args:
        features: As `FeatureTable` has them.
        source: The table's name.
        most_sd: Standard deviations from the mean at which values are clamped.
        described: Group and unit by feature, where they are known.
    """
    prompts = features.groupby(level="prompt_id")
    varied = prompts.max() > prompts.min()
    sd = prompts.std(ddof=0).where(varied)
    return FeatureTable(features, prompts.mean(), sd, f"the essays of {source} to the same prompt", most_sd, described)


def read_features(path: Path, essays: pd.DataFrame, columns: ColumnNames | None = None) -> pd.DataFrame:
    """Read a table of features, as ``aes-dynloss features`` or another programme wrote it.

    Essays meet by essay id, and by prompt where both tables know it; otherwise prompts are those of ``essays``.

    Args:
        path: A csv, jsonl or parquet file with essay_id, prompt_id where it is known, and a column a feature.
        essays: The evaluated essays with essay_id and prompt_id.
        columns: Names of the columns of ids, if the file has them under these.

    Returns:
        Values indexed by prompt_id and essay_id, a column a feature.

    Raises:
        DataError: The file cannot be read, has no column of ids or of features, an essay twice, or a column that does
            not hold a number for each essay.
    """
    cells = read_cells(path)
    names = (columns or ColumnNames()).in_file(cells.columns)
    named = {role: next((one for one in (getattr(names, role), role) if one in cells), None) for role in ID_COLUMNS}
    if named["essay_id"] is None:
        advice = "Give a table that `aes-dynloss features` wrote, or name its column of ids essay_id."
        raise DataError(missing_columns(path.name, {"essay_id": advice}, list(cells.columns)))
    ids = pd.Series(parse_ids(cells[named["essay_id"]], "essay_id", path.name), index=cells.index)
    of_prompts = None if named["prompt_id"] is None else cells[named["prompt_id"]]
    index = _index(ids, of_prompts, _of_essays(essays), path.name)
    features = [name for name in cells if name not in named.values()]
    values = pd.DataFrame(_numbers(cells[features], ids, path.name), index=index)
    values = values[values.index.get_level_values("prompt_id").notna()]
    return values if TRAIT_COLUMN not in essays else _for_each_trait(values, essays["prompt_id"].unique().tolist())


def _of_essays(essays: pd.DataFrame) -> pd.DataFrame:
    """Prompt and id of each essay, once, whatever it is scored on."""
    if TRAIT_COLUMN not in essays:
        return essays
    return with_prompt_ids(essays)[[*ID_COLUMNS]].drop_duplicates(ignore_index=True)


def _for_each_trait(values: pd.DataFrame, scales: Sequence[str]) -> pd.DataFrame:
    """The features of essays by prompt, under each of the prompt's traits."""
    parts = []
    for scale in scales:
        own = values[values.index.get_level_values("prompt_id") == prompt_and_trait(scale)[0]]
        ids = own.index.get_level_values("essay_id")
        parts.append(own.set_axis(pd.MultiIndex.from_product([[scale], ids], names=_KEYS)))
    return pd.concat(parts) if parts else values


def _index(
    ids: pd.Series[str], prompt_cells: pd.Series[Any] | None, essays: pd.DataFrame, source: str
) -> pd.MultiIndex:
    """Prompt and essay of each row; the prompt is missing where neither the table nor the evaluated essays know it."""
    if prompt_cells is not None and not all(map(is_blank, prompt_cells)) and set(essays["prompt_id"]) != {ONE_PROMPT}:
        prompts = pd.Series(parse_ids(prompt_cells, "prompt_id", source))
    else:
        refuse_repeats(pd.MultiIndex.from_arrays([ids]), source)
        repeated = essays["essay_id"][essays["essay_id"].duplicated()]
        if len(repeated):
            raise DataError(
                f"{source} has no prompt_id, and essay {repeated.iloc[0]!r} is among the predictions of two prompts. "
                "Add the column prompt_id to it."
            )
        prompts = ids.map(essays.set_index("essay_id")["prompt_id"])
    refuse_repeats(pd.MultiIndex.from_arrays([ids, prompts]), source)
    return pd.MultiIndex.from_arrays([prompts, ids], names=_KEYS)


def _numbers(cells: pd.DataFrame, ids: pd.Series[str], source: str) -> dict[str, Array]:
    """Each column as numbers; all columns that are none are named in one message."""
    values, faults = {}, {}
    for name in map(str, cells):
        try:
            values[name] = parse_numbers(cells[name], name, ids, source)
        except DataError as error:
            faults[name] = str(error)
            continue
        wrong = ~(np.abs(values[name]) <= LARGEST_NUMBER)
        if wrong.any():
            row = int(wrong.argmax())
            what = "blank" if np.isnan(values[name][row]) else f"beyond {LARGEST_NUMBER:g}"
            faults[name] = f"{row_words(row, source, ids)}: {name} is {what}."
    if faults:
        listed = [repr(name) for name in [*faults][:MOST_NAMED]]
        more = f" and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise DataError(
            f"Every column of {source} beside essay_id and prompt_id is a feature and must have a number for each "
            f"essay. Not so: {', '.join(listed)}{more}. {next(iter(faults.values()))} Drop these columns, or fill them "
            "in."
        )
    if not values:
        raise DataError(f"{source} holds no feature: add a column of numbers beside essay_id and prompt_id.")
    return values


def measure_features(table: FeatureTable, essays: pd.DataFrame, prompts: Sequence[str]) -> FeatureReport:
    """Distribution of each feature on each prompt, and its correlation with the human score.

    The length of the partial correlation is ln(1 + words) of the essays, else the feature LOG_LENGTH.

    Args:
        table: Features of these essays, and maybe of others.
        essays: Evaluated essays with essay_id, prompt_id, reference and, where it is known, words.
        prompts: Their prompts, in the order of the report.

    Raises:
        DataError: An essay has no features.

    References:
        Madnani, Loukina, von Davier, Burstein and Cahill (2017), Building better open-source tools to support fairness
        in automated scoring: RSMTool's report on features.

    Example:
        >>> scores = {"reference": [1, 2, 3, 4], "words": [90, 80, 120, 100]}
        >>> essays = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", **scores})
        >>> index = pd.MultiIndex.from_frame(essays[["prompt_id", "essay_id"]])
        >>> values = pd.DataFrame({"commas": [1.0, 3.0, 2.0, 5.0]}, index=index)
        >>> table = compared_with_themselves(values, "f.csv", most_sd=4.0, described={})
        >>> figures = measure_features(table, essays, ["1"]).by_name["commas"].prompts["1"]
        >>> figures.mean, round(figures.r, 3), round(figures.partial_r, 3)
        (2.75, 0.832, 0.995)
    """
    keys = pd.MultiIndex.from_frame(essays[_KEYS])
    missing = keys[~keys.isin(table.features.index)]
    if len(missing):
        prompt, essay = missing[0]
        raise DataError(
            f"{len(missing)} of {len(keys)} evaluated essays have no features, such as {essay!r} of prompt {prompt!r}. "
            "Give a table with a row for each of them."
        )
    by_prompt = {}
    for prompt in prompts:
        part = essays[essays["prompt_id"] == prompt]
        values = table.features.reindex(pd.MultiIndex.from_frame(part[_KEYS]))
        mean, sd = (frame.loc[prompt].to_numpy(dtype=np.float64) for frame in (table.mean, table.sd))
        human = part["reference"].to_numpy(dtype=np.float64)
        by_prompt[prompt] = _prompt_figures(values, human, _log_length(part, values), mean, table.most_sd * sd)
    features = {}
    for position, name in enumerate(map(str, table.features)):
        group, unit = table.described.get(name, (OWN, ""))
        features[name] = Feature(group, unit, {prompt: rows[position] for prompt, rows in by_prompt.items()})
    return FeatureReport(table.most_sd, table.compared_with, features)


def _log_length(essays: pd.DataFrame, values: pd.DataFrame) -> Array | None:
    if LENGTH_COLUMN in essays:
        return np.asarray(np.log1p(np.maximum(essays[LENGTH_COLUMN].to_numpy(dtype=np.float64), 0)))
    return values[LOG_LENGTH].to_numpy(dtype=np.float64) if LOG_LENGTH in values else None


def _prompt_figures(
    values: pd.DataFrame, human: Array, length: Array | None, mean: Array, limit: Array
) -> list[FeatureFigures]:
    """Figures of each column; ``limit`` is the distance from ``mean`` at which it is clamped."""
    columns = np.ascontiguousarray(values.to_numpy(dtype=np.float64).T)
    scores = np.broadcast_to(human, columns.shape)
    partial = np.full(len(columns), np.nan)
    if length is not None:
        partial = length_partialled_pearson(scores, columns, np.broadcast_to(length, columns.shape))
    clamped = (np.abs(columns - mean[:, None]) > limit[:, None]).mean(axis=1)
    clamped[~(np.isfinite(limit) & (limit > 0))] = np.nan
    figures = np.stack([columns.mean(axis=1), sample_sd(columns), clamped, pearson(scores, columns), partial], axis=1)
    return [FeatureFigures(len(human), float(row[0]), *map(none_if_nan, row[1:])) for row in figures]


def feature_rows(features: FeatureReport) -> list[dict[str, Any]]:
    """Rows of FEATURE_COLUMNS for features.csv: a feature on a prompt each.

    Args:
        features: What ``measure_features`` returned.
    """
    return [
        {"feature": name, "group": feature.group, "unit": feature.unit, "prompt_id": prompt, **figures}
        for name, feature in features.by_name.items()
        for prompt, figures in feature.prompts.items()
    ]


def features_words(features: FeatureReport) -> str:
    """The features that go most with the human score, in a sentence; nothing where no correlation is defined.

    Args:
        features: What ``measure_features`` returned.
    """
    measure = _ranked_by(features)
    means = {name: _mean(feature, measure) for name, feature in _ranked(features)[:MOST_NAMED]}
    listed = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items() if mean is not None)
    if not listed:
        return ""
    given = " given length" if measure == "partial_r" else ""
    return f"Features: {len(features.by_name)}; largest correlations with the human score{given}: {listed}"


Measured = Literal["mean", "sd", "clamped", "r", "partial_r"]


def _ranked_by(features: FeatureReport) -> Measured:
    """The correlation given length, or where no length is known that with the score."""
    return "partial_r" if any(_known(feature, "partial_r") for feature in features.by_name.values()) else "r"


def _known(feature: Feature, measure: Measured) -> list[float]:
    """The figures of the prompts on which the measure is defined."""
    return [value for one in feature.prompts.values() if (value := getattr(one, measure)) is not None]


def _mean(feature: Feature, measure: Measured) -> float | None:
    known = _known(feature, measure)
    return float(np.mean(known)) if known else None


def _ranked(features: FeatureReport) -> list[tuple[str, Feature]]:
    """Features by the size of their correlation, in the mean over prompts."""
    measure = _ranked_by(features)
    return sorted(features.by_name.items(), key=lambda item: -abs(_mean(item[1], measure) or 0.0))


_MEASURES: Mapping[Measured, tuple[Column, Form]] = {
    "mean": (Column("mean", "Mean"), "figure"),
    "sd": (Column("sd", "SD"), "figure"),
    "clamped": (measure_column("feature_clamped", key="clamped"), "percent"),
    "r": (measure_column("feature_r", key="r"), "figure"),
    "partial_r": (measure_column("feature_partial_r", key="partial_r"), "figure"),
}
_FEATURE = words_column("feature", "Feature")


def features_section(features: FeatureReport, called: RowWords) -> Section:
    """Features as a section of a page: those that go most with the human score, and the others folded away.

    Args:
        features: What ``measure_features`` returned.
        called: What the report's rows are called.
    """
    ranked = _ranked(features)
    shown, others = dict(ranked[:MOST_SHOWN]), dict(ranked[MOST_SHOWN:])
    sizes = next(iter(features.by_name.values())).prompts
    essays, many = sum(called.of_prompts({row: one.n for row, one in sizes.items()}).values()), len(sizes) > 1
    pooled = f" A figure is the mean over {called.plural}, with their range below." if many else ""
    column, _ = _MEASURES[_ranked_by(features)]
    first = f" First come the {len(shown)} with the largest {column.title}, of either sign." if others else ""
    what = (
        f"{len(features.by_name)} features of {essays:,} essays.{first}{pooled} Clamped is the share of essays beyond "
        f"{features.most_sd:g} standard deviations from the mean of {features.compared_with}. The length is ln(1 + "
        f"words). features.csv has the figures of every {called.noun}."
    )
    across = 1 < len(sizes) <= MOST_ACROSS
    blocks: list[Block | None] = [
        Words(what),
        _feature_table(features, "features-table", "Features and human scores, units below", shown, called),
        Folded(f"By {called.noun}", [_prompt_table(features, shown, called)]) if across else None,
        Folded(
            f"The other {len(others)} features", [_feature_table(features, "features-others", "Others", others, called)]
        ),
    ]
    return Section("features", "Features", blocks)


def _feature_table(
    features: FeatureReport, name: str, caption: str, shown: Mapping[str, Feature], called: RowWords
) -> Table:
    rows = [
        [
            words(title, note=feature.unit),
            words(feature.group.replace("_", " ")),
            *(_cell(features, feature, measure, form, called) for measure, (_, form) in _MEASURES.items()),
        ]
        for title, feature in shown.items()
    ]
    columns = [_FEATURE, words_column("group", "Group"), *(column for column, _ in _MEASURES.values())]
    return Table(name, caption, columns, rows)


def _cell(features: FeatureReport, feature: Feature, measure: Measured, form: Form, called: RowWords) -> Cell:
    """A measure's mean over the prompts on which it is defined, with its range."""
    known = _known(feature, measure)
    if not known:
        return number(None, why=_why_missing(features, feature, measure))
    prompts = len(feature.prompts)
    hint = f"Defined on {len(known)} of {called.counted(prompts)}." if len(known) < prompts else ""
    return Cell(float(np.mean(known)), form, (min(known), max(known)) if prompts > 1 else None, hint=hint)


def _why_missing(features: FeatureReport, feature: Feature, measure: Measured) -> Missing:
    if measure == "clamped" or not any(_known(feature, "sd")):
        return Missing.CONSTANT_FEATURE
    without_length = measure == "partial_r" and _ranked_by(features) == "r"
    return Missing.NO_LENGTHS if without_length else Missing.UNDEFINED


def _prompt_table(features: FeatureReport, shown: Mapping[str, Feature], called: RowWords) -> Table:
    measure = _ranked_by(features)
    column, _ = _MEASURES[measure]
    prompts = list(next(iter(shown.values())).prompts)
    rows = [
        [words(name), *(number(getattr(feature.prompts[prompt], measure)) for prompt in prompts)]
        for name, feature in shown.items()
    ]
    return Table(
        "features-prompts", f"{column.title}, by {called.noun}", [_FEATURE, *map(called.across, prompts)], rows
    )
