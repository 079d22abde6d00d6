"""The tables of a translation grid's results; it loads no student and registers no loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t


def table(figures: Mapping[str, Any]) -> str:
    """BLEU by beam search, mean (SD) over seeds, beside the control with its 95 % interval; greedy BLEU; minutes.

    An arm from which others start is trained for fewer epochs: no difference is shown.
    """
    arms, control = figures["arms"], figures["grid"]["control"]
    lines = [f"| loss | BLEU, mean (SD) | beside {control} (95 %) | greedy | minutes |", "|---|---:|---:|---:|---:|"]
    starts = {arm["start"] for arm in arms.values()}
    for name, arm in arms.items():
        bleu, others = _scores(arm, "bleu"), _scores(arms[control], "bleu")
        beside = "" if name == control or name in starts else difference(bleu, others)
        known = [seconds for seconds in arm["seconds"] if seconds is not None]
        minutes = f"{fmean(known) / 60:.2g}" if known else ""
        greedy = fmean(_scores(arm, "bleu_greedy"))
        lines.append(f"| {name} | {mean_and_spread(bleu)} | {beside} | {greedy:.2f} | {minutes} |")
    return "\n".join(lines)


def taught_table(figures: Mapping[str, Any]) -> str:
    """What the teacher of each arm set for each band when the training ended, mean (SD) over seeds."""
    lines = ["| arm | band | gold | near | any | bias |", "|---|---:|---:|---:|---:|---:|"]
    for name, arm in figures["arms"].items():
        seeds = [taught for taught in arm["taught"] if taught is not None]
        for band in range(len(seeds[0]["gold"]) if seeds else 0):
            columns = [[taught[key][band] for taught in seeds] for key in ("gold", "near", "any", "bias")]
            lines.append(f"| {name} | {band} | {' | '.join(mean_and_spread(values) for values in columns)} |")
    return "\n".join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean (SD); of a single value no SD.

    Examples:
        >>> mean_and_spread([1.0, 2.0]), mean_and_spread([1.0])
        ('1.50 (0.71)', '1.00')
    """
    return f"{fmean(values):.2f}" + (f" ({stdev(values):.2f})" if len(values) > 1 else "")


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """The mean difference of pairs with its 95 % interval, by Student's t over seeds; one pair has none.

    Args:
        values: Of the seeds.
        others: Of the same seeds.

    Examples:
        >>> difference([31.0, 32.0, 33.0], [30.0, 32.0, 31.0])
        '+1.00 (-1.48 to +3.48)'
        >>> difference([31.0], [30.5])
        '+0.50'
    """
    apart = [value - other for value, other in zip(values, others, strict=True)]
    centre = fmean(apart)
    if len(apart) == 1:
        return f"{centre:+.2f}"
    half = float(t.ppf(0.975, len(apart) - 1)) * stdev(apart) / len(apart) ** 0.5
    return f"{centre:+.2f} ({centre - half:+.2f} to {centre + half:+.2f})"


def _scores(arm: Mapping[str, Any], measure: str) -> list[float]:
    return [test[measure] for test in arm["test"]]
