"""A monitor of scores over administrations: whether essays, their scores or agreement with humans have drifted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.screening.training_statistics import FLAGGED_SHARE
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import agreement_draws, prompt_generator
from aes_dynloss.measures.design_weights import weighted_agreement, weighted_draws
from aes_dynloss.measures.drift import (
    Agreement,
    Drift,
    Granted,
    bin_counts,
    difference_interval,
    ks_distance,
    look_level,
    rise_above,
    share_rise,
    stability_index,
    standardized_shift,
)
from aes_dynloss.measures.fairness import group_labels
from aes_dynloss.programme.administrations import ADVISORIES, Scores, refuse_nothing_in_common, score_column
from aes_dynloss.programme.sheets import DESIGN_WEIGHT
from aes_dynloss.reports.criteria import Criterion
from aes_dynloss.reports.monitor import (
    DRIFT_CRITERIA,
    LEVEL,
    Administration,
    Drifted,
    DriftFigure,
    Kind,
    Monitor,
    judged,
    refuse_other_directions,
)
from aes_dynloss.reports.predictions import WITHHELD
from aes_dynloss.reports.prompts import prompt_order
from aes_dynloss.tables.columns import LENGTH_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait, scale_id
from aes_dynloss.tables.score_range import ScoreRange

Array = NDArray[np.float64]

# Essays of a prompt or a group, then and now, below which nothing is compared.
FEWEST_ESSAYS = 30
RESAMPLES = 2000
CONFIDENCE = 0.95


class _Part(NamedTuple):
    """Essays of a prompt, or of one group on it; of the prompt's essays then thresholds of advisories were learned."""

    prompt: str
    then: pd.DataFrame
    now: pd.DataFrame
    learned: int
    column: str | None = None
    group: str | None = None

    @property
    def enough(self) -> bool:
        return min(len(self.then), len(self.now)) >= FEWEST_ESSAYS

    def groups(self, column: str) -> Iterator[_Part]:
        """Its groups in a column."""
        then, now = (group_labels(table[column]) for table in (self.then, self.now))
        for group in sorted({*then} | {*now}):
            yield self._replace(column=column, group=group, then=self.then[then == group], now=self.now[now == group])


def build_monitor(
    baseline: Scores,
    administrations: Sequence[Scores],
    *,
    subgroups: Sequence[str] = (),
    criteria: Mapping[str, Criterion] = DRIFT_CRITERIA,
    seed: int = 0,
    model: str | None = None,
) -> Monitor:
    """Hold administrations against a baseline; the last one is judged.

    Args:
        baseline: What was before: the essays that the model was tested on, or an earlier administration.
        administrations: Administrations in their order, one at least.
        subgroups: Columns of groups of writers.
        criteria: Criteria by measure.
        seed: Seed of the resamples of QWK, >= 0.
        model: SHA-256 of the config.json of the model that is monitored, where it is known.

    Raises:
        ConfigError: A criterion has another direction than that of DRIFT_CRITERIA, on which its p value rests.
        DataError: An administration shares no prompt with the baseline, or none of which both have FEWEST_ESSAYS
            essays; or a column holds too many groups.

    Examples:
        >>> table = pd.DataFrame({"essay_id": range(60), "prompt_id": "1", "score": [1.0, 2.0, 3.0] * 20})
        >>> then, now = Scores("then", table, {}), Scores("now", table.assign(score=table["score"] + 1), {})
        >>> [one.what for one in build_monitor(then, [now]).alarms]
        ['score']
    """
    refuse_other_directions(criteria)
    notes: list[str] = []
    known = dict(_agreements(baseline, seed))
    found, look = [], 0
    for scores in administrations:
        refuse_nothing_in_common(baseline, scores)
        last = scores is administrations[-1]
        compared = list(_compared(baseline, scores, subgroups, notes if last else []))
        if scores.human is not None:
            look += 1
            compared += _with_humans(scores, seed, known, look, criteria)
        found.append(Administration(scores.name, len(scores.table), compared))
    compared, tests = judged(found[-1].compared, criteria)
    found[-1] = replace(found[-1], compared=compared)
    settings: dict[str, float | int | str] = {
        "level": LEVEL,
        "correction": "Holm, over all tests of the last administration",
        "intervals": f"{100 * CONFIDENCE:g} %; of QWK at the k-th look {100 * LEVEL:g} % / (k (k + 1)) are outside",
        "fewest_essays": FEWEST_ESSAYS,
        "resamples_of_qwk": RESAMPLES,
        "seed": seed,
        "looks": look,
        "subgroups": ", ".join(subgroups) or "none",
    }
    if administrations[-1].traits:
        settings["traits"] = ", ".join(administrations[-1].traits)
    return Monitor(
        baseline=baseline.name,
        baseline_essays=len(baseline.table),
        administrations=found,
        criteria=dict(criteria),
        tests=tests,
        settings=settings,
        notes=[
            *notes,
            *_model_notes([baseline, *administrations], model),
            *_human_notes(administrations[-1], compared),
        ],
    )


def _compared(baseline: Scores, scores: Scores, subgroups: Sequence[str], notes: list[str]) -> Iterator[Drifted]:
    """Everything that is compared but agreement with humans; what is left out goes into the notes."""
    features = [name for name in scores.features if name in baseline.features]
    for side, other in ((baseline, scores), (scores, baseline)):
        unknown = [name for name in other.features if name not in features]
        if unknown:
            notes.append(f"Features that are not known of {side.name} are not compared: {', '.join(unknown)}.")
    notes += _blank_notes([baseline, scores], features)
    if baseline.spread > 1:
        notes.append(
            f"Essays of {baseline.name} were scored by parts of the model, fitted without them and to fewer essays. An "
            f"SD of scores that is up to {100 * (baseline.spread - 1):.0f} % higher now is no drift here. Beside an "
            "earlier administration (--baseline) nothing is granted."
        )
    traits = list(dict.fromkeys([*baseline.scored, *scores.scored]))
    for part in _by_prompt(baseline, scores, notes):
        yield from _differences(part, features, baseline)
        notes += _unscored_notes(part, traits)
        for column in subgroups:
            groups = list(part.groups(column))
            index = stability_index([len(one.then) for one in groups], [len(one.now) for one in groups], CONFIDENCE)
            yield _drifted(part, "groups", {"psi": index}, column=column)
            few = [str(one.group) for one in groups if not one.enough]
            if few:
                notes.append(f"Prompt {part.prompt}, {column}: fewer than {FEWEST_ESSAYS} essays of {', '.join(few)}.")
            for one in groups:
                if one.enough:
                    yield from _differences(one, features, baseline)


def _unscored_notes(part: _Part, traits: Sequence[str | None]) -> Iterator[str]:
    """Prompts and traits with essays enough, but of which too few have a score."""
    for trait in traits:
        column = score_column(trait)
        then, now = (int(table[column].count()) if column in table else 0 for table in (part.then, part.now))
        if then + now and min(then, now) < FEWEST_ESSAYS:
            yield (
                f"Scores of prompt {scale_id(part.prompt, trait)} are not compared: {then} essays have one then and "
                f"{now} now, of which {FEWEST_ESSAYS} are needed."
            )


def _blank_notes(sides: Sequence[Scores], features: Sequence[str]) -> Iterator[str]:
    """Features that some essays lack, by prompt: they count for nothing there, and may have drifted with what they are.

    Where too few essays have one, it is not compared.
    """
    for name in features:
        for scores in sides:
            for prompt, own in _tables(scores.table).items():
                blank, known = int(own[name].isna().sum()), int(own[name].notna().sum())
                if blank and known < FEWEST_ESSAYS:
                    yield (
                        f"Prompt {prompt}: feature {name} is blank in {blank:,} of {len(own):,} essays of "
                        f"{scores.name}, and is not compared."
                    )
                elif blank:
                    yield (
                        f"Prompt {prompt}: feature {name} is blank in {blank:,} of {len(own):,} essays of "
                        f"{scores.name}; those that have it are compared."
                    )


def _by_prompt(baseline: Scores, scores: Scores, notes: list[str]) -> list[_Part]:
    """The prompts that both have, in their order."""
    then, now = _tables(baseline.table), _tables(scores.table)
    empty = scores.table.iloc[:0]
    prompts = sorted({*then} | {*now}, key=prompt_order)
    pairs = ((prompt, then.get(prompt, empty), now.get(prompt, empty)) for prompt in prompts)
    parts = [_Part(prompt, before, after, len(before)) for prompt, before, after in pairs]
    few = [part for part in parts if not part.enough]
    if len(few) == len(parts):
        sizes = ", ".join(f"{part.prompt}: {len(part.then)} and {len(part.now)}" for part in parts)
        raise DataError(
            f"{baseline.name} and {scores.name} have too few scores to compare: {FEWEST_ESSAYS} or more of a prompt "
            f"are needed in each, found {sizes}. Wait for more."
        )
    notes += [
        f"Prompt {part.prompt} is not compared: {len(part.then)} essays then and {len(part.now)} now, of which "
        f"{FEWEST_ESSAYS} are needed."
        for part in few
    ]
    return [part for part in parts if part.enough]


def _tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each prompt, or prompt and trait."""
    return {str(prompt): own for prompt, own in table.groupby("prompt_id", sort=False)}


def _differences(part: _Part, features: Sequence[str], baseline: Scores) -> Iterator[Drifted]:
    """Scores, lengths, features and advisories of some essays."""
    columns: list[tuple[Kind, str, str, str | None]] = [
        *(("score", "", score_column(trait), trait) for trait in baseline.scored),
        ("length", "", LENGTH_COLUMN, None),
        *(("feature", name, name, None) for name in features),
    ]
    for kind, name, column, trait in columns:
        if column in part.then and column in part.now:
            then, now = (table[column].dropna().to_numpy(dtype=np.float64) for table in (part.then, part.now))
            if min(len(then), len(now)) >= FEWEST_ESSAYS:
                granted = Granted.of_spread(baseline.spread if kind == "score" else 1.0)
                yield _numbers(part, kind, then, now, granted, name=name, trait=trait)
    yield from _advisories(part)


def _numbers(part: _Part, kind: Kind, then: Array, now: Array, granted: Granted, **known: str | None) -> Drifted:
    found = {
        "shift": standardized_shift(then, now, CONFIDENCE),
        "psi": stability_index(*bin_counts(then, now), CONFIDENCE, granted),
        "ks": ks_distance(then, now, CONFIDENCE, granted),
    }
    sizes = {"n_then": len(then), "n_now": len(now)}
    return _drifted(part, kind, found, then=float(then.mean()), now=float(now.mean()), **sizes, **known)


def _advisories(part: _Part) -> Iterator[Drifted]:
    """Shares of essays with each advisory that there is, and of withheld scores where both sides know them.

    Where no advisories are known of the essays then, their share was about the one that thresholds were learned for.
    """
    of, essays = len(part.then), len(part.now)
    known = [column for column in (ADVISORIES, WITHHELD) if column in part.then and column in part.now]
    then, now = (_flagged(table, known) for table in (part.then, part.now))
    for kind in sorted({*then, *now}):
        before, after = then.get(kind, 0), now.get(kind, 0)
        drift = share_rise((before, of), (after, essays), CONFIDENCE)
        yield _drifted(part, "advisory", {"rise": drift}, name=kind, then=before / of, now=after / essays)
    if ADVISORIES in part.now and ADVISORIES not in part.then:
        for kind, after in sorted(_flagged(part.now, [ADVISORIES]).items()):
            rise = {"rise": rise_above(FLAGGED_SHARE, part.learned, (after, essays), CONFIDENCE)}
            yield _drifted(part, "advisory", rise, name=kind, then=FLAGGED_SHARE, now=after / essays, n_then=None)


def _flagged(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """Essays with each advisory, and those whose score is withheld, as far as these columns tell."""
    counts = {}
    if ADVISORIES in columns:
        counts = {str(kind): int(essays) for kind, essays in table[ADVISORIES].explode().value_counts().items()}
    withheld = int(table[WITHHELD].sum()) if WITHHELD in columns else 0
    return {**counts, WITHHELD: withheld} if withheld else counts


def _agreements(scores: Scores, seed: int) -> Iterator[tuple[str, tuple[float, int, Agreement]]]:
    """QWK with humans by prompt, or prompt and trait, of how many essays, and on Fisher's scale."""
    if scores.human is None:
        return
    tables = _tables(scores.human)
    for scale in sorted(tables, key=lambda scale: prompt_order(_prompt_and_trait(scale, scores)[0])):
        if len(tables[scale]) >= FEWEST_ESSAYS:
            value, draws = _kappa(tables[scale], scores.ranges[scale], prompt_generator(seed, scale))
            agreement = Agreement.of(value, draws)
            if agreement is not None:
                yield scale, (value, len(tables[scale]), agreement)


def _prompt_and_trait(scale: str, scores: Scores) -> tuple[str, str | None]:
    """The prompt and the trait of an id among an administration's human scores."""
    return prompt_and_trait(scale) if scores.traits else (scale, None)


def _kappa(essays: pd.DataFrame, span: ScoreRange, generator: np.random.Generator) -> tuple[float, Array]:
    """QWK and its bootstrap draws; with design weights, those of all essays that they stand for.

    Where all essays were read there is nobody to stand for, and they count as a sample of writers.
    """
    human, raw, score = (essays[name].to_numpy(dtype=np.float64) for name in ("reference", "raw", "score"))
    if DESIGN_WEIGHT in essays and (essays[DESIGN_WEIGHT] > 1).any():
        columns = human, raw, score, essays[DESIGN_WEIGHT].to_numpy(dtype=np.float64)
        drawn = weighted_draws(*columns, RESAMPLES, generator, step=span.step)["qwk"]
        return float(weighted_agreement(*columns, step=span.step)["qwk"]), drawn
    points = [span.to_index(values) for values in (human, score)]
    drawn = agreement_draws(points[0], {"qwk": points[1]}, {}, RESAMPLES, generator)["qwk"]
    return float(quadratic_weighted_kappa(*points)), drawn


def _with_humans(
    scores: Scores,
    seed: int,
    known: Mapping[str, tuple[float, int, Agreement]],
    look: int,
    criteria: Mapping[str, Criterion],
) -> Iterator[Drifted]:
    """QWK now and what of it was lost, at a level that bounds the chance of any false alarm over all looks."""
    level = look_level(look, LEVEL)
    correction = LEVEL / level
    for scale, (value, essays, agreement) in _agreements(scores, seed):
        least = criteria["qwk"].threshold if "qwk" in criteria else 0.0
        p = min(1.0, correction * agreement.p_below(least))
        ends = agreement.interval(level)
        measures = {"qwk": DriftFigure(value=value, interval=list(ends), p=p)}
        then, before = None, None
        if scale in known:
            then, before, earlier = known[scale]
            fall = difference_interval((then, *earlier.interval(level)), (value, *ends))
            p = min(1.0, correction * agreement.p_lower_than(earlier))
            measures["qwk_fall"] = DriftFigure(value=then - value, interval=list(fall), p=p)
        prompt, trait = _prompt_and_trait(scale, scores)
        ends_now: dict[str, Any] = {"n_then": before, "n_now": essays, "then": then, "now": value}
        yield Drifted(prompt=prompt, trait=trait, kind="agreement", measures=measures, **ends_now)


def _drifted(part: _Part, kind: Kind, found: Mapping[str, Drift], **known: Any) -> Drifted:  # noqa: ANN401 - its fields
    """What is compared of some essays; their place and numbers are the part's, unless they are known better."""
    measures = {
        measure: DriftFigure(value=one.value, interval=None if one.interval is None else list(one.interval), p=one.p)
        for measure, one in found.items()
    }
    own = {"prompt": part.prompt, "column": part.column, "group": part.group}
    sizes = {"n_then": len(part.then), "n_now": len(part.now)}
    return Drifted(kind=kind, measures=measures, **{**own, **sizes, **known})


def _model_notes(scored: Sequence[Scores], model: str | None) -> list[str]:
    """Which scores are not of the model that is monitored, or else of that of the last administration."""
    expected = model or scored[-1].model
    others = list(dict.fromkeys(scores.name for scores in scored if expected and scores.model not in (None, expected)))
    if not others:
        return []
    return [
        f"Scored by another model, or by this one before it was calibrated anew: {', '.join(others)}. Drift may be the "
        "model's."
    ]


def _human_notes(scores: Scores, compared: Sequence[Drifted]) -> list[str]:
    """Prompts, or prompts and traits, with human scores of which no QWK is told, and why."""
    told = {one.scale for one in compared if one.kind == "agreement"}
    tables = {} if scores.human is None else _tables(scores.human)
    sizes = {prompt: len(own) for prompt, own in tables.items()}
    few = [f"{prompt} ({size})" for prompt, size in sizes.items() if size < FEWEST_ESSAYS]
    same = [prompt for prompt, size in sizes.items() if size >= FEWEST_ESSAYS and prompt not in told]
    notes = []
    if few:
        notes.append(f"Fewer than {FEWEST_ESSAYS} human scores, so that no QWK is told: prompts {', '.join(few)}.")
    if same:
        notes.append(
            f"QWK is 1, or the same in every resample, so that none is told or judged: prompts {', '.join(same)}."
        )
    return notes
