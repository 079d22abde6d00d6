"""Criteria that a machine's scores should meet before they are used, each judged: pass, flag or unknown.

A report's flags, and the essays that humans and machine disagree about most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.configfile import read_mapping
from aes_dynloss.configfile import value_words as found_words
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.criteria import CRITERIA, RULES, Criterion, Direction, Rules
from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.model import Disagreement, Flag, MeanEntry, PromptEntry, Verdict
from aes_dynloss.reports.prompt_means import is_few, needs_second_score
from aes_dynloss.reports.row_words import PROMPT_ROWS, RowWords
from aes_dynloss.tables.columns import nearest
from aes_dynloss.tables.score_range import ScoreRange


def judge(name: str, value: float | None, where: str = "", criteria: Mapping[str, Criterion] = CRITERIA) -> Flag:
    """Hold a value against a criterion.

    Args:
        name: The criterion, a name of ``criteria``.
        value: The value; None or NaN where it is unknown, such as a degradation without a second human score.
        where: What was judged, such as "prompt 3" or "gender f"; empty for all essays.
        criteria: Criteria by name.

    Returns:
        The verdict. A value equal to the threshold passes.

    Raises:
        DataError: There is no such criterion, or the value is infinite.

    References:
        Williamson, Xi and Breyer (2012), A framework for evaluation and use of automated scoring, Educational
        Measurement: Issues and Practice 31(1), 2-13.
    """
    if name not in criteria:
        raise DataError(f"There is no criterion {name!r}. Choose from {', '.join(criteria)}.")
    criterion = criteria[name]
    known = None if value is None or np.isnan(value) else float(value)
    if known is not None and np.isinf(known):
        raise DataError(f"The criterion {name} needs a finite value or None, found {known}. Look for its cause.")
    title = f"{criterion.title} ({where})" if where else criterion.title
    if known is None:
        verdict: Verdict = "unknown"
        words = f"{title} is unknown (criterion: {criterion})."
    else:
        verdict = "pass" if criterion.met_by(known) else "flag"
        verb = "meets" if verdict == "pass" else "misses"
        words = f"{title} is {value_words(known, criterion)} and {verb} the criterion ({criterion})."
    return Flag(name, where, known, criterion.threshold, criterion.direction, verdict, words, criterion.source)


def value_words(value: float, criterion: Criterion) -> str:
    """A value with as many decimals as show on which side of the threshold it is: three, or more close to it.

    Args:
        value: The value, finite.
        criterion: What it is held against.

    Returns:
        ``0.701``, ``0.6996``, or in percentage points with one decimal or more.
    """
    scale = 100 if criterion.percent else 1
    text = ""
    for digits in range(1 if criterion.percent else 3, 12):
        text = f"{scale * value:.{digits}f}"
        if criterion.met_by(float(text) / scale) == criterion.met_by(value):
            break
    if float(text) == 0:
        text = text.removeprefix("-")
    return f"{text} percentage points" if criterion.percent else text


def judge_all(
    values: Mapping[str, float | None], where: str = "", criteria: Mapping[str, Criterion] = CRITERIA
) -> list[Flag]:
    """Hold several values against their criteria.

    Args:
        values: Values by name of criterion; None or NaN where unknown.
        where: What was judged.
        criteria: Criteria by name.

    Returns:
        A verdict for each value, in the order of ``criteria``.

    Raises:
        DataError: There is no such criterion, or a value is infinite.
    """
    order = [*criteria, *values]
    return [judge(name, values[name], where, criteria) for name in sorted(values, key=order.index)]


MOST_WORST = 20
_SUBGROUP, _DEGRADATION = "subgroup_", "_degradation"


def report_flags(
    prompts: Mapping[str, PromptEntry], mean: MeanEntry, called: RowWords = PROMPT_ROWS, rules: Rules = RULES
) -> list[Flag]:
    """Every criterion, judged on every prompt, in the mean over prompts, and on every subgroup.

    Args:
        prompts: The report's entries by prompt.
        mean: Its mean over prompts, on which the criteria of agreement are judged.
        called: What the prompts, or traits, are called.
        rules: The criteria, and the fewest essays scored twice of which degradation, PRMSE and the like are judged.

    Returns:
        Flags, the mean first.
    """
    of_groups = {name: name.removeprefix(_SUBGROUP) for name in rules.criteria if name.startswith(_SUBGROUP)}
    named = [name for name in rules.criteria if name not in of_groups]
    few = {prompt for prompt, entry in prompts.items() if is_few(entry.scored_twice, rules.min_group)}
    on_mean = {name: _figure(mean, name, few=len(few) == len(prompts)) for name in named if _is_of_mean(name)}
    flags = judge_all(on_mean, f"mean over {called.kind}s", rules.criteria)
    for prompt, entry in prompts.items():
        values = {name: _figure(entry, name, few=prompt in few) for name in named}
        verdicts = judge_all(values, called.within(prompt), rules.criteria)
        flags += [replace(flag, prompt=prompt) for flag in verdicts]
        for column, part in entry.fairness.columns.items() if entry.fairness else ():
            for group, figures in part.groups.items():
                judged = {name: getattr(figures, measure) for name, measure in of_groups.items()}
                verdicts = judge_all(judged, f"{called.within(prompt)}, {column} {group}", rules.criteria)
                flags += [replace(flag, prompt=prompt, group=[column, group]) for flag in verdicts]
    return flags


def few_notes(prompts: Mapping[str, PromptEntry], min_group: int) -> list[str]:
    """What is not judged as it would rest on few essays.

    Args:
        prompts: The report's entries by prompt.
        min_group: Fewest essays to rest on.
    """
    few = {prompt: n for prompt, entry in prompts.items() if is_few(n := entry.scored_twice, min_group)}
    left_out = ", and means over prompts leave it out" if len(few) < len(prompts) else ""
    because = f"fewer than {min_group}: nothing that rests on them is judged{left_out}."
    return [f"Prompt {prompt}: {count} essays were scored twice, {because}" for prompt, count in few.items()]


def _is_of_mean(name: str) -> bool:
    return name.endswith(_DEGRADATION) or name in _FIGURES_OF_MEAN


def _figure(entry: PromptEntry | MeanEntry, name: str, *, few: bool) -> float | None:
    """What a criterion of a prompt or of the mean judges; None too where ``few`` essays were scored twice."""
    of_two = name.endswith(_DEGRADATION) or (name in MEASURES and needs_second_score(name))
    if of_two and few:
        return None
    if name.endswith(_DEGRADATION):
        key = {"qwk": "degradation"}.get(name.removesuffix(_DEGRADATION), name)
        return getattr(entry.human_human, key) if entry.human_human else None
    if name == "score_share":
        gaps = [one.gap for one in getattr(entry, "score_points", ())]
        return max(gaps, key=abs, default=None)
    value: float | None = getattr(entry, name)
    return value


def _figures_of(kind: type[Entry]) -> list[str]:
    """Names of a kind of entry's figures."""
    return [one.name for one in fields(kind) if one.type == "Figure" and one.name in MEASURES]


_FIGURES_OF_MEAN = _figures_of(MeanEntry)
# Every criterion that there may be, and what it is about where it is not one of ours.
JUDGED: Mapping[str, str] = {
    **{name: criterion.title for name, criterion in CRITERIA.items()},
    **{name: MEASURES[name].title for name in _figures_of(PromptEntry) if name not in CRITERIA},
    **{f"{_SUBGROUP}{name}": f"{MEASURES[name].title} of a subgroup" for name in ("qwk", "pearson")},
}


# In SDs, score points or nats; all others are shares, correlations or their differences: a threshold is at most 1.
_BEYOND_ONE = frozenset({"smd", "dsm", "rmse", "sd_ratio", "mean_reference", "mean_raw", "shift", "psi"})
_DIRECTIONS: Mapping[str, Direction] = {"at_least": "at least", "at_most": "at most", "within": "within"}


def read_criteria(
    path: Path, usual: Mapping[str, Criterion] = CRITERIA, judged: Mapping[str, str] | None = None
) -> dict[str, Criterion]:
    r"""Criteria of one's own from a YAML or JSON file, in addition to the usual ones or in place of them.

    Each key is a name of JUDGED. Its value is a threshold of a usual criterion; or ``at_least``, ``at_most`` or
    ``within`` with a threshold, and if wanted ``title`` and ``source``; or null: not to be judged.

    Args:
        path: The file.
        usual: The usual criteria.
        judged: Titles of what may be judged, in place of JUDGED.

    Raises:
        ConfigError: It cannot be read, or holds something else; with every fault at once.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "criteria.yaml")
        ...     _ = file.write_text("qwk: 0.8\nkappa: {at_least: 0.5, source: our board}\nsubgroup_dsm: null\n")
        ...     criteria = read_criteria(file)
        >>> str(criteria["qwk"]), criteria["kappa"].source, "subgroup_dsm" in criteria
        ('at least 0.80', 'our board', False)
    """
    criteria, faults, known = dict(usual), [], JUDGED if judged is None else judged
    for name, value in read_mapping(path).items():
        if name not in known:
            faults.append(f"there is no criterion {name!r}; {nearest(str(name), known)}")
        elif value is None:
            criteria.pop(name, None)
        else:
            try:
                criteria[name] = _criterion(name, known[name], value, path.name, usual.get(name))
            except ConfigError as error:
                faults.append(f"{name}: {error}")
    if faults:
        many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{path} has {many}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return criteria


def _criterion(name: str, judged: str, value: object, source: str, usual: Criterion | None) -> Criterion:
    """One criterion of a file: a threshold, or a mapping."""
    if isinstance(value, int | float) and usual is not None:
        value = {next(key for key, one in _DIRECTIONS.items() if one == usual.direction): value}
    expected = "expected one of at_least, at_most and within with a number, and of words title and source"
    if not isinstance(value, dict) or value.keys() - {*_DIRECTIONS, "title", "source"}:
        raise ConfigError(f"{expected}, found {found_words(value)}.")
    given = [key for key in _DIRECTIONS if key in value]
    threshold = value[given[0]] if len(given) == 1 else None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not isfinite(threshold):
        raise ConfigError(f"{expected}, found {found_words(value)}.")
    if given == ["within"] and threshold < 0:
        raise ConfigError(f"within {threshold:g} holds for no value. Give the largest distance from 0, 0 or more.")
    if abs(threshold) > 1 and name.removeprefix(_SUBGROUP) not in _BEYOND_ONE:
        raise ConfigError(f"{threshold:g} is beyond 1, the most that it can be. Write 0.7 for 70 %.")
    words = {"title": judged, "source": source} | {key: value[key] for key in ("title", "source") if key in value}
    blank = [key for key, told in words.items() if not isinstance(told, str) or not told.strip()]
    if blank:
        raise ConfigError(f"{blank[0]}: expected words, found {found_words(words[blank[0]])}. Leave it out otherwise.")
    percent = bool(usual and usual.percent)
    return Criterion(words["title"], _DIRECTIONS[given[0]], float(threshold), words["source"], percent)


def worst_disagreements(
    table: pd.DataFrame, ranges: Mapping[str, ScoreRange], most: int = MOST_WORST
) -> list[Disagreement]:
    """The essays whose human score and prediction are farthest apart, in score points.

    Args:
        table: Checked predictions of all prompts.
        ranges: Score range by prompt.
        most: At most so many.

    Returns:
        The farthest first, with ``words`` and ``text`` where the table has them. Of equal ones the first in the table
        comes first.
    """
    steps = table["prompt_id"].map({prompt: span.step for prompt, span in ranges.items()})
    apart = ((table["raw"] - table["reference"]).abs() / steps).to_numpy(dtype=np.float64)
    order = np.argsort(-apart, kind="stable")[:most]
    columns = [one.name for one in fields(Disagreement) if one.name in table]
    rows: list[Any] = table[columns].iloc[order].to_dict("records")
    return [Disagreement(**row) for row in rows]
