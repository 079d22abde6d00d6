"""A report in one sentence, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aes_dynloss.reports.criteria import Criterion
from aes_dynloss.reports.flags import value_words
from aes_dynloss.reports.measure_list import floor_title
from aes_dynloss.reports.model import Flag, Floor, Report
from aes_dynloss.reports.table import figure_words
from aes_dynloss.reports.traits import main_trait

QWK_IN_WORDS = "QWK, quadratic weighted kappa, is agreement with human scores: 0 as by chance, 1 where all are equal."
# More than this is said to be gained by rescaling, and is called a wide interval.
GAIN, WIDE = 0.01, 0.15


def verdict_sentence(report: Report) -> str:
    """Whether the machine beats simple scorers and comes near to humans, in a sentence; a floor that wins comes first.

    Args:
        report: What ``build_report`` returned.
    """
    mean, own, where = report.mean, figure_words(report.mean.qwk), _where(report)
    level = ""
    if mean.qwk_interval:
        level = f" ({report.level} interval {' to '.join(map(figure_words, mean.qwk_interval))})"
    best = best_floor(report)
    humans = "" if mean.human_human is None else f"; two humans agree at {figure_words(mean.human_human.qwk)}"
    if best is None or mean.qwk is None:
        return f"QWK{where} is {own}{level}{humans}."
    title, floor = floor_title(best[0]), best[1]
    if floor.mean > mean.qwk:
        other, what = figure_words(floor.mean), "does as well" if _within(report, floor) else "wins"
        return f"A simple scorer {what}: {title} reaches a QWK{where} of {other}, this machine {own}{level}{humans}."
    clearly = ", which lies within that interval" if _within(report, floor) else ""
    return (
        f"QWK{where} is {own}{level}, above every simple scorer; the best of them, {title}, reaches "
        f"{figure_words(floor.mean)}{clearly}{humans}."
    )


def _within(report: Report, floor: Floor) -> bool:
    """Whether a floor lies within the interval of the machine's QWK."""
    ends = report.mean.qwk_interval
    return ends is not None and ends[0] <= floor.mean <= ends[1]


def _where(report: Report) -> str:
    """Of essays that are scored on several traits, whose figures these are."""
    if report.traits is None:
        return ""
    main = next(iter(report.traits)) if len(report.traits) == 1 else main_trait(report)
    return " in the mean over traits" if main is None else f" on {main}"


def best_floor(report: Report) -> tuple[str, Floor] | None:
    """The floor with the highest mean QWK, and its name; None without floors."""
    return max(report.floors.items(), key=lambda one: one[1].mean, default=None)


def next_step(report: Report) -> str:
    """What to do about the first thing that stands in the way of using the machine.

    Args:
        report: What ``build_report`` returned.
    """
    mean, best = report.mean, best_floor(report)
    if best is not None and mean.qwk is not None and best[1].mean > mean.qwk:
        first = (
            "This machine gains nothing on a simple scorer" if _within(report, best[1]) else "Do not use these scores"
        )
        return (
            f"{first}. Have more essays scored by humans, or look for a better scorer (aes-dynloss "
            "tune); --preset fast counts words and n-grams as the strongest of simple scorers does."
        )
    if mean.qwk is not None and mean.qwk_rescaled is not None and mean.qwk_rescaled > mean.qwk + GAIN:
        return (
            f"Rescale the scores, for a QWK of {figure_words(mean.qwk_rescaled)}: aes-dynloss calibrate RUN "
            "--postprocessing rescale; of another system's, give raw predictions the human mean and SD of dev essays."
        )
    missed = [flag for flag in report.flags if flag.verdict == "flag"]
    if missed:
        words = _missed_words(missed, report.judged_by.criteria)
        first = f"Before scores are used, look into what misses its criterion: {words}."
        if best is None or not {"qwk", "pearson"} & {flag.criterion for flag in missed}:
            return first
        return f"{first} More essays scored by humans, or a better scorer (aes-dynloss tune), may raise QWK and r."
    if mean.qwk_interval is not None and mean.qwk_interval[1] - mean.qwk_interval[0] > WIDE:
        return "Have more essays scored by humans: the interval is wide."
    return "Have humans score a new sample, and hold the machine's scores against theirs: aes-dynloss evaluate."


def _missed_words(missed: Sequence[Flag], criteria: Mapping[str, Criterion]) -> str:
    """Each criterion that is missed, with its worst case: the mean, else a prompt, else a group of writers."""
    named: dict[str, list[Flag]] = {}
    for flag in sorted(missed, key=_place):
        named.setdefault(flag.criterion, []).append(flag)
    words = []
    for criterion, flags in named.items():
        rule = criteria[criterion]
        first = min(flags, key=lambda flag: (_place(flag), -rule.excess(flag.value)))
        value = "" if first.value is None else f" {value_words(first.value, rule)}"
        where = "" if first.prompt is None else f" on {first.where}"
        more = "" if first.prompt is None or len(flags) == 1 else f" and {len(flags) - 1} more"
        words.append(f"{rule.title}{value}{where}{more} (criterion: {rule})")
    return ", ".join(words)


def _place(flag: Flag) -> tuple[bool, bool]:
    """The mean comes before prompts, and these before groups of writers."""
    return flag.group is not None, flag.prompt is not None
