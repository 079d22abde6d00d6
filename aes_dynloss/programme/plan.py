"""A double-scoring plan: which scored essays humans read, each with its chance to be drawn, and who reads them.

Essays with advisories, without a score, or of which the machine is least sure are read for certain; of the others a
random sample is drawn within strata. Both have design weights, so that estimates for all essays stay unbiased.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError
from aes_dynloss.measures.bootstrap import prompt_generator
from aes_dynloss.measures.fairness import group_labels, merged_groups
from aes_dynloss.programme.allocation import (
    SPREADS,
    Assumed,
    Domain,
    Stratum,
    allocated,
    domains_of,
    expected_half_width,
    neediest,
)
from aes_dynloss.reports.criteria import MIN_GROUP
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import prompt_order, read_report
from aes_dynloss.reports.trait_forms import columns_of_traits, row_an_essay
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.cells import listed_words, parse_numbers
from aes_dynloss.tables.columns import ID_COLUMNS, TEXT_COLUMN, TRAIT_COLUMN, ColumnNames
from aes_dynloss.tables.formats import column_names
from aes_dynloss.tables.scale_ids import prompt_and_trait, scales_of
from aes_dynloss.tables.score_range import ONE_PROMPT, ScoreRange

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]

WITHHELD, UNCERTAIN = "withheld", "uncertain"
_CERTAINTY, _INTERVAL, _ADVISORIES = "certainty", ("low", "high"), "advisories"
# Of a plan's table of essays that are read.
CERTAIN, RANDOM = "certain", "random"


@dataclass(frozen=True)
class Wanted:
    """What a plan is to reach.

    Args:
        half_widths: Half of the wanted 95 % interval by measure of SPREADS, for each prompt and group.
        subgroups: Columns of groups of writers.
        uncertain: Share of each prompt's essays, the least certain, that is read for certain.
        seed: Seed of what is drawn, >= 0.
    """

    half_widths: Mapping[str, float]
    subgroups: Sequence[str] = ()
    uncertain: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class ScoredEssays:
    """Scored essays to plan for.

    Args:
        table: Columns essay_id, prompt_id, text (only if there), because (why an essay is read for certain, a list of
            words; empty if it is not), scored (bool) and the columns of groups; a row an essay.
        ranges: Score range by prompt, or by prompt and trait, where it is known.
        traits: Traits by prompt; empty where essays have one score.
    """

    table: pd.DataFrame
    ranges: Mapping[str, ScoreRange]
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def scales(self) -> dict[str, list[str]]:
        """The ids of each prompt's scales: its own, or one of each trait."""
        return {prompt: scales_of(prompt, self.traits.get(prompt, ())) for prompt in self.table["prompt_id"].unique()}

    def with_ranges(self, known: Mapping[str, ScoreRange]) -> ScoredEssays:
        """The same with the ranges of prompts that had none."""
        return replace(self, ranges={**known, **self.ranges})


def parse_half_widths(words: Sequence[str]) -> dict[str, float]:
    """Half widths by measure, from words such as ``qwk=0.03``.

    Raises:
        ConfigError: A word is no such pair, or a measure is there twice.

    Examples:
        >>> parse_half_widths(["qwk=0.03", "smd=.05"])
        {'qwk': 0.03, 'smd': 0.05}
    """
    pairs = [(measure, value) for measure, _, value in (word.partition("=") for word in words)]
    return _values("--half-width", pairs, SPREADS)


def parse_assumed(words: Sequence[str]) -> dict[str, float]:
    """QWK by prompt, or by prompt and trait, from words such as ``0.8`` or ``phones=0.8``; without it, of all others.

    Raises:
        ConfigError: A word is no such pair, or a prompt is there twice.

    Examples:
        >>> parse_assumed(["0.8", "phones=0.75"])
        {'all': 0.8, 'phones': 0.75}
    """
    pairs = [(prompt if equals else ONE_PROMPT, value) for prompt, equals, value in (w.rpartition("=") for w in words)]
    return _values("--assume-qwk", pairs)


def _values(option: str, pairs: Sequence[tuple[str, str]], known: Mapping[str, Any] | None = None) -> dict[str, float]:
    """The number of each name that an option was given for."""
    values: dict[str, float] = {}
    for name, value in pairs:
        number = _between_0_and_1(name, value, option, known)
        if name in values:
            raise ConfigError(f"{option} names {name} twice, {values[name]:g} and {number:g}. Give it one value.")
        values[name] = number
    return values


def _between_0_and_1(name: str, value: str, option: str, known: Mapping[str, Any] | None = None) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < 1 or (known is not None and name not in known):
        named = "" if known is None else f" with {' or '.join(known)} before it, such as qwk=0.03"
        raise ConfigError(f"{option} {name}={value}: expected a number between 0 and 1{named}.")
    return number


def assumed_agreement(
    scales: Mapping[str, Sequence[str]], given: Mapping[str, float], report: Path | None
) -> tuple[dict[str, Assumed], dict[str, ScoreRange]]:
    """What agreement is assumed on each scale, and the score ranges that a report knows.

    Args:
        scales: The scales of each prompt: the prompt itself, or one of each trait.
        given: QWK by scale, by prompt or of all, which goes before the report's.
        report: A run's folder, or its report.json; None where there is none.

    Raises:
        ConfigError: Nothing tells the QWK of a scale, or it is 0 or less there.
        DataError: The report cannot be read.
    """
    entries = {}
    if report is not None:
        entries = by_scale(read_report(report / "report.json" if report.is_dir() else report)).prompts
    assumed = {}
    for prompt, scale in ((prompt, scale) for prompt, own in scales.items() for scale in own):
        qwk = next((given[name] for name in (scale, prompt, ONE_PROMPT) if name in given), None)
        entry = entries.get(scale)
        r = None
        if qwk is None and entry is not None:
            qwk, r = entry.qwk, entry.pearson
        if qwk is None or qwk <= 0:
            found = "no report has one" if qwk is None else f"the report has {qwk:.3f}"
            raise ConfigError(
                f"The QWK to expect on prompt {scale!r} is needed, and {found}. Name the model's run or report.json "
                f"with --report, or give --assume-qwk {scale}=0.8."
            )
        # Beyond 0.99 there would be next to nothing to measure, and nothing is that certain before.
        qwk = min(qwk, 0.99)
        assumed[scale] = Assumed(qwk, min(max(qwk, r or qwk), 0.99))
    return assumed, {scale: entry.range for scale, entry in entries.items() if scale in assumed}


def read_scored(
    path: Path, names: ColumnNames, ranges: Mapping[str, ScoreRange], subgroups: Sequence[str], uncertain: float
) -> ScoredEssays:
    """Read scores that ``aes-dynloss score`` wrote, or another system's.

    Args:
        path: The file: essay_id, prompt_id, raw or score or both; of certainty (or low and high), advisories,
            withheld and text what there is. Of several traits it has the columns that `score` writes of each, or a row
            for each of an essay's; an essay is as certain as its least certain trait.
        names: Names of its columns.
        ranges: Score range by prompt, where it is known.
        subgroups: Columns of groups of writers.
        uncertain: Share of each prompt's essays, the least certain, that is read for certain.

    Raises:
        DataError: The file or a row cannot be used.
    """
    columns = column_names(path)
    names = names.in_file(columns)
    if names.text is None and TEXT_COLUMN in columns:
        names = ColumnNames(**{**vars(names), TEXT_COLUMN: TEXT_COLUMN})
    kept = [*subgroups, *({_CERTAINTY, *_INTERVAL, _ADVISORIES} & {*columns, *columns_of_traits(columns)})]
    read = read_predictions(path, columns=names, ranges=ranges, kept=kept)
    parts = [read.table.assign(scored=True), *([] if read.withheld is None else [read.withheld.assign(scored=False)])]
    table = pd.concat(parts, ignore_index=True)
    known = _certainty(table, path.name)
    if known is not None:
        table[_CERTAINTY] = known
    table, traits = _row_an_essay(table)
    because = [[] if scored else [WITHHELD] for scored in table["scored"]]
    if _ADVISORIES in table:
        because = [[*one, *listed_words(cell)] for one, cell in zip(because, table[_ADVISORIES], strict=True)]
    if uncertain > 0 and known is None:
        logger.warning(
            "%s has no column certainty, nor low and high, so that no essay is read because it is uncertain.", path.name
        )
    elif uncertain > 0:
        for row in _least_certain(table, uncertain):
            because[row].append(UNCERTAIN)
    taken = [column for column in (*ID_COLUMNS, TEXT_COLUMN, "scored", *subgroups) if column in table]
    own = {scale: span for scale, span in read.ranges.items() if scale not in read.inferred}
    return ScoredEssays(table[taken].assign(because=pd.Series(because, dtype=object)), own, traits)


def _row_an_essay(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The essays of scores of several traits, the least certainty of each, and the traits of each prompt."""
    if TRAIT_COLUMN not in table:
        return table, {}
    essays = row_an_essay(table, {"scored": "all", _CERTAINTY: "min"})
    traits: dict[str, list[str]] = {prompt: [] for prompt in essays["prompt_id"]}
    for scale in table["prompt_id"].unique():
        prompt, trait = prompt_and_trait(scale)
        traits[prompt].append(trait)
    return essays, traits


def _certainty(table: pd.DataFrame, source: str) -> Array | None:
    """How certain the machine is of each essay's score: as it says, or the less the wider its interval is."""
    columns = [_CERTAINTY] if _CERTAINTY in table else [*_INTERVAL]
    if not set(columns) <= set(table.columns):
        return None
    found = [parse_numbers(table[name], name, table["essay_id"], source) for name in columns]
    return found[0] if len(found) == 1 else found[0] - found[1]


def _least_certain(table: pd.DataFrame, share: float) -> list[int]:
    """Rows of the scored essays with the least certainty, of each prompt its share."""
    rows: list[int] = []
    certainty = table[_CERTAINTY].to_numpy(dtype=np.float64)
    for _, own in table.groupby("prompt_id"):
        known = own.index[own["scored"].to_numpy() & ~np.isnan(certainty[own.index])]
        rows += known[np.argsort(certainty[known], kind="stable")[: round(share * len(known))]].tolist()
    return rows


@dataclass(frozen=True)
class Plan:
    """What is read, and why it suffices.

    Args:
        essays: A row an essay that is read, in no order that tells anything: essay_id, prompt_id, part (CERTAIN or
            RANDOM), because, stratum (its number), inclusion_probability, weight, and text if there is one.
        strata: Strata that are drawn from.
        drawn: Essays that are drawn of each.
        assumed: Agreement by scale.
        wanted: What is to be reached.
        scored: What is planned for.
    """

    essays: pd.DataFrame
    strata: Sequence[Stratum]
    drawn: Sequence[int]
    assumed: Mapping[str, Assumed]
    wanted: Wanted
    scored: ScoredEssays

    @property
    def neediest(self) -> dict[str, dict[str, str]]:
        """By prompt and measure the scale that needs most essays, and so sets their number."""
        return _neediest(self.scored.scales, self.assumed, self.wanted)

    def domains(self) -> list[tuple[Domain, dict[str, float]]]:
        """Each domain with ``essays``, ``certain``, ``random`` and the half width to expect of each measure.

        Of several traits it is that of the one that needs most; the others' are narrower.
        """
        found, neediest = [], self.neediest
        for domain in domains_of(self.strata):
            members = [number for number, stratum in enumerate(self.strata) if stratum in domain]
            strata, drawn = [self.strata[n] for n in members], [self.drawn[n] for n in members]
            figures: dict[str, float] = {
                "essays": sum(one.essays for one in strata),
                CERTAIN: sum(one.certain for one in strata),
                RANDOM: sum(drawn),
            }
            for measure in self.wanted.half_widths:
                spread = SPREADS[measure](self.assumed[neediest[domain.prompt][measure]])
                figures[measure] = expected_half_width(spread, strata, drawn)
            found.append((domain, figures))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for plan.json."""
        strata = [{**asdict(one), "drawn": size} for one, size in zip(self.strata, self.drawn, strict=True)]
        return {
            "wanted": {**asdict(self.wanted), "confidence": 0.95},
            "assumed": {scale: asdict(one) for scale, one in self.assumed.items()},
            "ranges": {scale: asdict(one) for scale, one in self.scored.ranges.items()},
            "traits": {prompt: list(own) for prompt, own in self.scored.traits.items()},
            "strata": strata,
        }


def _neediest(
    scales: Mapping[str, Sequence[str]], assumed: Mapping[str, Assumed], wanted: Wanted
) -> dict[str, dict[str, str]]:
    return {
        prompt: {measure: neediest(measure, assumed, own) for measure in wanted.half_widths}
        for prompt, own in scales.items()
    }


def draw_plan(scored: ScoredEssays, assumed: Mapping[str, Assumed], wanted: Wanted) -> Plan:
    """Draw the essays to read: one sample for all traits, as large as the one needs that needs most.

    Args:
        scored: Scored essays.
        assumed: Agreement by scale.
        wanted: What is to be reached.

    Raises:
        DataError: A column holds too many groups.
    """
    table = scored.table
    labels = _labels(table, wanted.subgroups)
    certain = np.array([bool(words) for words in table["because"]])
    counted = table["scored"].to_numpy()
    codes, uniques = pd.MultiIndex.from_arrays([table["prompt_id"], *labels]).factorize()
    keys: list[tuple[str, ...]] = list(uniques)
    found = sorted(set(codes[counted].tolist()), key=lambda code: (prompt_order(keys[code][0]), keys[code][1:]))
    strata = []
    for code in found:
        essays, read = (int((codes[rows] == code).sum()) for rows in (counted, counted & certain))
        strata.append(Stratum(keys[code][0], keys[code][1:], essays, read))
    spreads = {
        prompt: {measure: SPREADS[measure](assumed[scale]) for measure, scale in own.items()}
        for prompt, own in _neediest(scored.scales, assumed, wanted).items()
    }
    drawn = allocated(strata, spreads, wanted.half_widths)
    parts = [table[certain].assign(part=CERTAIN, stratum=-1, inclusion_probability=1.0)]
    for number, (code, stratum, size) in enumerate(zip(found, strata, drawn, strict=True)):
        rest = np.flatnonzero((codes == code) & counted & ~certain)
        chosen = prompt_generator(wanted.seed, f"plan {keys[code]}").choice(rest, size, replace=False)
        chance = size / stratum.rest if stratum.rest else 1.0
        parts.append(table.iloc[np.sort(chosen)].assign(part=RANDOM, stratum=number, inclusion_probability=chance))
    chosen_essays = pd.concat([part for part in parts if len(part)], ignore_index=True)
    chosen_essays["weight"] = 1 / chosen_essays["inclusion_probability"]
    return Plan(chosen_essays, strata, drawn, assumed, wanted, scored)


def _labels(table: pd.DataFrame, subgroups: Sequence[str]) -> list[NDArray[np.object_]]:
    """Each essay's group in each column, those too small on their prompt merged, as a report merges them."""
    labels = []
    for name in subgroups:
        column = np.empty(len(table), dtype=object)
        for _, own in table.groupby("prompt_id"):
            column[own.index] = merged_groups(name, group_labels(own[name]), MIN_GROUP)[0]
        labels.append(column)
    return labels


def plan_json(values: Mapping[str, Any]) -> str:
    """A plan's settings as the text of their file."""
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
