"""The table of a translation grid's results; it loads no student and registers no loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t


def table(figures: Mapping[str, Any]) -> str:
    """BLEU by beam search, mean (SD) over seeds, beside the control with its 95 % interval; greedy BLEU; minutes."""
    arms, control = figures["arms"], figures["grid"]["control"]
    lines = [f"| loss | BLEU, mean (SD) | beside {control} (95 %) | greedy | minutes |", "|---|---:|---:|---:|---:|"]
    for name, arm in arms.items():
        bleu, others = _scores(arm, "bleu"), _scores(arms[control], "bleu")
        beside = "" if name == control else difference(bleu, others)
        known = [seconds for seconds in arm["seconds"] if seconds is not None]
        minutes = f"{fmean(known) / 60:.2g}" if known else ""
        spread = f" ({stdev(bleu):.2f})" if len(bleu) > 1 else ""
        greedy = fmean(_scores(arm, "bleu_greedy"))
        lines.append(f"| {name} | {fmean(bleu):.2f}{spread} | {beside} | {greedy:.2f} | {minutes} |")
    return "\n".join(lines)


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
