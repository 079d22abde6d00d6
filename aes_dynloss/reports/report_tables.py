"""The tables of a report on predictions, the first with its lights, for its page and for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aes_dynloss.measures.breakdowns import GIVEN
from aes_dynloss.reports.blocks import Block, Folded, Words
from aes_dynloss.reports.criteria import Criterion, Direction
from aes_dynloss.reports.features import features_words
from aes_dynloss.reports.flags import value_words
from aes_dynloss.reports.measure_list import Missing, floor_title
from aes_dynloss.reports.model import Flag, MeanEntry, PromptEntry, Report
from aes_dynloss.reports.robustness import headline_words
from aes_dynloss.reports.table import (
    MOST_ACROSS,
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    figure_words,
    measure_cell,
    measure_column,
    minus,
    number,
    point,
    share,
    text_table,
    words,
    words_column,
)
from aes_dynloss.reports.trait_tables import fits_a_screen, trait_lines
from aes_dynloss.reports.traits import by_scale, main_trait
from aes_dynloss.reports.verdict import next_step, verdict_sentence

Flags = Sequence[Flag]

SYMBOLS = {"pass": "✓", "flag": "▲", "unknown": "?"}
# Title and measures of each table of a page; the first also says what was measured.
AGREEMENT = {
    "agreement-qwk": (
        "Quadratic weighted kappa",
        ("qwk", "qwk_rescaled", "qwk_cut_points", "qwk_variance_matched"),
    ),
    "agreement-points": (
        "Other agreement of score points",
        ("exact_agreement", "adjacent_agreement", "kappa", "gwet_ac1", "gwet_ac2"),
    ),
    "agreement-raw": (
        "Predictions before rounding",
        (
            *("pearson", "pearson_without_length", "spearman", "rmse", "smd", "sd_ratio"),
            *("mean_reference", "mean_raw"),
        ),
    ),
}
# Ratings behind the limits, by key of the entry's human_ratings.
RATING_COLUMNS = {
    "n": Column("rated", "Essays rated", explanation="With one human rating at least: behind PRMSE and r."),
    "n_twice": Column("rated_twice", "Rated twice", explanation="With two ratings or more: behind the raters' errors."),
    "ratings": Column("ratings", "Ratings"),
}
LIMIT_MEASURES = ("qwk_ceiling", "qwk_of_true_score", "pearson_disattenuated", "prmse")
_TWICE = "On the essays that were scored twice."
# By key of the entry's human_human.
HUMAN_COLUMNS = {
    "qwk": Column("human_qwk", "Human-human QWK", "human-human"),
    "human_machine_qwk": Column("human_machine_qwk", "Human-machine QWK", explanation=_TWICE),
    "degradation": measure_column("degradation"),
    "pearson": Column("human_pearson", "Human-human r"),
    "human_machine_pearson": Column("human_machine_pearson", "Human-machine r", explanation=_TWICE),
    "pearson_degradation": measure_column("pearson_degradation"),
}
_IN_TERMINAL = (
    *("prompt", "n", "stands_for", "range", "qwk", "qwk_interval", "qwk_rescaled", "qwk_cut_points", "exact_agreement"),
    *("adjacent_agreement", "pearson", "smd", "sd_ratio", "human_qwk", "degradation"),
)
VERSIONS = {
    GIVEN: "as given, rounded",
    "raw": "raw",
    "raw_trim": "raw, trimmed",
    "raw_trim_round": "raw, trimmed and rounded",
    "scale": "rescaled",
    "scale_trim": "rescaled, trimmed",
    "scale_trim_round": "rescaled, trimmed and rounded",
}
COVERAGE = {"stated": "Coverage stated", "measured": "Coverage measured", "mean_width": "Mean width (points)"}


def report_text(report: Report) -> str:
    """The report's main figures as text.

    Args:
        report: What ``build_report`` returned.

    Returns:
        A line for each prompt and for their mean, the floors, the notes, and a verdict; ends without a line break. A
        column that no prompt has is left out, "-" is an undefined value.
    """
    lines = []
    if fits_a_screen(report):
        lines += text_table(agreement_table(by_scale(report, short=True)).chosen(*_IN_TERMINAL).known_columns())
    lines += trait_lines(report)
    lines.append("r, SMD and sd ratio are those of raw predictions, QWK and agreement those of scores.")
    if report.mean.human_human is not None:
        lines.append("human-human, and the degradation from it, are those of essays with two human scores.")
    main = main_trait(report)
    on = "" if main is None else f" on {main}"
    lines.append(f"QWK{on}, Fisher mean: {figure_words(report.mean.qwk_fisher)}")
    if report.floors:
        floors = "; ".join(f"{floor_title(name)} {figure_words(floor.mean)}" for name, floor in report.floors.items())
        lines.append(f"Floors, mean QWK{on}: {floors}")
    if report.robustness:
        lines += filter(None, [headline_words(report.robustness)])
    if report.raters:
        lines += [f"Raters: {sentence}" for sentence in report.raters.conclusions]
    if report.features:
        lines += filter(None, [features_words(report.features)])
    lines += [f"Note: {note}" for note in report.notes]
    lines += [f"Verdict: {verdict_sentence(report)}", f"Next: {next_step(report)}"]
    return "\n".join(lines)


def agreement_table(report: Report) -> Table:
    """All agreement of a report: a row a prompt, and their mean at the foot.

    Args:
        report: What ``build_report`` returned.
    """
    measures = [*(name for _, names in AGREEMENT.values() for name in names), *LIMIT_MEASURES]
    sizes = [
        Column("n", "Essays", "n"),
        Column("stands_for", "Stand for", "stand for", explanation="Essays of which those are a sample."),
        words_column("range", "Range", "range"),
    ]
    human = [Column("twice", "Scored twice"), *HUMAN_COLUMNS.values()]
    rows = []
    for prompt, entry in report.prompts.items():
        cells = [measure_cell(entry, name, entry.why_missing(name)) for name in measures]
        low, high = f"{entry.range.low:g}", f"{entry.range.high:g}"
        step = "" if entry.range.step == 1 else f" by {entry.range.step:g}"
        points = words(f"{minus(low)} to {minus(high)}{step}", short=f"{low}-{high}{step}")
        rated: Mapping[str, Any] = entry.human_ratings or {}
        ratings = [count(rated[key]) if rated else NOTHING for key in RATING_COLUMNS]
        whole = NOTHING if entry.stands_for is None else count(entry.stands_for)
        rows.append([words(prompt), count(entry.n), whole, points, *_human_cells(entry), *ratings, *cells])
    # A mean of some measures, such as errors in score points, would mean nothing.
    mean = [
        measure_cell(report.mean, one, report.why_missing(one)) if one in report.mean else NOTHING for one in measures
    ]
    foot = [
        [report.rows.mean, *[NOTHING] * len(sizes), *_human_cells(report.mean), *[NOTHING] * len(RATING_COLUMNS), *mean]
    ]
    columns = [report.rows.column, *sizes, *human, *RATING_COLUMNS.values(), *map(measure_column, measures)]
    return Table("agreement", "Agreement", columns, rows, foot, report.level)


def _human_cells(entry: PromptEntry | MeanEntry) -> list[Cell]:
    """Essays scored twice, and HUMAN_COLUMNS; the mean has no count, and no human-machine figures on those essays."""
    human: Mapping[str, Any] = entry.human_human or {}
    mean = isinstance(entry, MeanEntry)
    why = Missing.RATERS if human.get("n") else Missing.NO_SECOND_SCORE
    kept = human if mean and human else HUMAN_COLUMNS
    cells = [number(human.get(key), why=why) if key in kept else NOTHING for key in HUMAN_COLUMNS]
    return [NOTHING if mean else count(human.get("n", 0)), *cells]


def agreement_tables(report: Report) -> list[Block]:
    """Agreement of score points, and of the predictions before rounding; and why columns are left out."""
    whole = agreement_table(report)
    tables: list[Table] = []
    for name, (title, names) in AGREEMENT.items():
        table = whole.chosen("prompt", *(() if tables else ("n", "stands_for", "range")), *names)
        drawn = any(cell.interval for row in (*table.rows, *table.foot) for cell in row)
        tables.append(_on_page(table, name, f"{title}, {table.level} intervals below" if drawn else title))
    return [*(table.known_columns() for table in tables), *_unknown_words(tables)]


def human_tables(report: Report) -> list[Block]:
    """Agreement of humans with each other, what the machine loses against it, and what the humans' errors allow.

    Where nothing of it is known, a sentence says why.
    """
    whole = agreement_table(report)
    human = whole.chosen("prompt", "twice", *(column.key for column in HUMAN_COLUMNS.values()))
    limits = whole.chosen("prompt", *(column.key for column in RATING_COLUMNS.values()), *LIMIT_MEASURES)
    tables = [
        _on_page(human, "human-table", "Two human raters, and the machine beside them"),
        _on_page(limits, "limit-table", "What the raters' errors allow a machine"),
    ]
    twice = any(entry.human_human for entry in report.prompts.values())
    known = [table.known_columns() for table in tables if twice or table.name != "human-table"]
    known.insert(1, rater_pair_table(report))
    return [*(table for table in known if table and len(table.columns) > 1), *_unknown_words(tables)]


def rater_pair_table(report: Report) -> Table:
    """Agreement of two human raters in full, by prompt; without rows where no essay was scored twice."""
    names = ("qwk", "kappa", "exact_agreement", "adjacent_agreement", "pearson")
    moments = {
        f"{moment.lower()}_{which}": f"{moment}, {which}" for which in ("first", "second") for moment in ("Mean", "SD")
    }
    rows = [
        [words(prompt), count(human.n), *(number(human[key]) for key in (*names, "smd", *moments))]
        for prompt, entry in report.prompts.items()
        if (human := entry.human_human) and human.n
    ]
    columns = [
        report.rows.column,
        Column("twice", "Scored twice"),
        *map(measure_column, names),
        Column("smd", "SMD", explanation="Second rater's mean less the first's, in pooled SDs."),
        *(Column(key, title) for key, title in moments.items()),
    ]
    return Table("rater-pair-table", "Agreement of the two raters in full", columns, rows).known_columns()


def _unknown_words(tables: Iterable[Table]) -> list[Words]:
    """Which columns are left out, and why: a sentence for each reason."""
    titles: dict[Missing, list[str]] = {}
    for table in tables:
        for reason, names in table.unknown_columns().items():
            titles.setdefault(reason, []).extend(names)
    return [Words(f"Left out: {'; '.join(names)}. {reason.value}") for reason, names in titles.items()]


def _on_page(table: Table, name: str, caption: str) -> Table:
    """A part of the agreement table; one prompt is its own mean."""
    return replace(table, name=name, caption=caption, foot=table.foot if len(table.rows) > 1 else ())


def coverage_table(report: Report) -> Table | None:
    """How often the human score lay in the machine's prediction interval; None where no prompt has any."""
    entries = {prompt: entry.prediction_interval for prompt, entry in report.prompts.items()}
    if not any(entry and entry.measured is not None for entry in entries.values()):
        return None
    rows = [
        [words(prompt), *(number(entry[key], why=Missing.NO_DEV) for key in COVERAGE)]
        for prompt, entry in entries.items()
        if entry
    ]
    columns = [measure_column("prediction_interval", title, key) for key, title in COVERAGE.items()]
    return Table("coverage-table", "Prediction intervals of single essays", [report.rows.column, *columns], rows)


def version_table(report: Report) -> Table:
    """Agreement of the score versions, by prompt."""
    names = ("qwk", "exact_agreement", "pearson", "rmse", "smd", "sd_ratio")
    rows = []
    for prompt, entry in report.prompts.items():
        for version, figures in entry.score_versions.items():
            unrounded = () if version == GIVEN or version.endswith("_round") else ("qwk", "exact_agreement")
            why = dict.fromkeys(unrounded, Missing.NOT_ROUNDED)
            cells = [number(figures[name], why=why.get(name)) for name in ("mean", "sd", *names)]
            rows.append([words(prompt), words(VERSIONS.get(version, version)), *cells])
    moments = [Column("mean", "Mean"), Column("sd", "sd")]
    columns = [report.rows.column, words_column("version", "Version"), *moments, *map(measure_column, names)]
    return Table("versions-table", "Agreement of each version with the human scores", columns, rows)


def point_table(report: Report) -> Table:
    """Essays at each score point, by prompt."""
    rows = []
    for prompt, entry in report.prompts.items():
        for row in entry.score_points:
            shares = [number(row[rater] / entry.n) for rater in ("human", "machine")]
            counts = [count(row[rater]) for rater in ("human", "machine")]
            rows.append([words(prompt), point(row.point), *counts, *shares, number(row.gap)])
    columns = [
        report.rows.column,
        Column("point", "Score point"),
        *(Column(f"{rater.lower()}_n", f"{rater} n") for rater in ("Human", "Machine")),
        *(Column(f"{rater.lower()}_share", f"{rater} share") for rater in ("Human", "Machine")),
        measure_column("score_share"),
    ]
    return Table("points-table", "Essays and shares at each score point", columns, rows)


def level_blocks(report: Report) -> list[Block]:
    """Agreement by score level, in words of what was merged, and a table; nothing where there are no levels."""
    rows = []
    for prompt, entry in report.prompts.items():
        for level in entry.score_levels:
            name = f"{level.low:g}" if level.low == level.high else f"{level.low:g} to {level.high:g}"
            rows.append(
                [words(prompt), words(minus(name)), count(level.n), share(level.agreement), share(level.adjacent)]
            )
    columns = [
        report.rows.column,
        words_column("level", "Human score"),
        Column("n", "Essays"),
        Column("agreement", "Same level", explanation="Machine's score is of the human score's level."),
        Column("adjacent", "Same or next", explanation="It is of that level or a neighbouring one."),
    ]
    table = Table("levels-table", "Agreement at each level of the human scores", columns, rows)
    least = report.judged_by.min_group
    merged = f"Levels of fewer than {least} essays are merged with the next; what agrees is told of single levels."
    return [Folded("Agreement by score level", [Words(merged), table])] if rows else []


def floor_table(report: Report) -> Table:
    """QWK of scorers that any machine should beat."""
    prompts = list(report.prompts)
    rows = [
        [words(floor_title(name)), number(floor.mean), *(number(floor.prompts.get(prompt)) for prompt in prompts)]
        for name, floor in report.floors.items()
    ]
    machine = (number(entry.qwk) for entry in report.prompts.values())
    foot = [[words("this machine"), number(report.mean.qwk), *machine]]
    columns = [words_column("scorer", "Scorer"), Column("mean", "Mean"), *map(report.rows.across, prompts)]
    return Table("floors-table", "QWK of floors on the same essays", columns, rows, foot)


def worst_table(report: Report) -> Table:
    """Essays whose human score and prediction are farthest apart."""
    rows = []
    for row in report.worst:
        scores = [point(row.reference), number(row.raw), point(row.score), number(row.reported)]
        length = count(row.words, why=Missing.NO_LENGTHS)
        difference = number(row.raw - row.reference)
        rows.append([words(row.essay_id), words(row.prompt_id), *scores, difference, length])
    titles = ("Human score", "Prediction", "Machine score", "Reported", "Difference", "Words")
    columns = [words_column("essay", "Essay"), report.rows.column, *(Column(title.lower(), title) for title in titles)]
    caption = f"The {len(rows)} largest differences of prediction and human score"
    return Table("worst-table", caption, columns, rows).known_columns()


def light_table(report: Report) -> Table:
    """Criteria down, the mean and the prompts across; a cell is the worst of the groups where several are judged.

    Beyond MOST_ACROSS prompts it counts them, and ``prompt_light_table`` has their lights.

    Args:
        report: What ``build_report`` returned.
    """
    prompts: list[str] = list(report.prompts)
    many = len(prompts) > MOST_ACROSS
    across: list[str | None] = [*([None] if len(prompts) > 1 else []), *([] if many else prompts)]
    rows = []
    for (criterion, title), judged in _judged(report).items():
        name = words(title, note=minus(str(report.judged_by.criteria[criterion])))
        rows.append([name, *(_light(judged.get(prompt, []), report) for prompt in across)])
        if many:
            verdicts = [
                worst_verdict(flag.verdict for flag in judged[prompt]) for prompt in prompts if prompt in judged
            ]
            counts = {verdict: verdicts.count(verdict) for verdict in SYMBOLS}
            rows[-1] += [count(number, mark=verdict if number else "") for verdict, number in counts.items()]
    titles = ["Criterion", *("Mean" if prompt is None else report.rows.title(prompt) for prompt in across)]
    columns = [words_column(title, title) for title in titles]
    noun = report.rows.noun
    columns += [Column(verdict, f"{report.rows.plural.capitalize()}: {verdict}") for verdict in SYMBOLS] if many else []
    where = f", on the mean, and how many {report.rows.plural} meet it" if many else f", on the mean and on each {noun}"
    return Table("lights", f"Each criterion{where}", columns, rows, sortable=False)


def prompt_light_table(report: Report) -> Table | None:
    """Prompts down, criteria across, where there are too many prompts for the columns of ``light_table``; else None.

    Args:
        report: What ``build_report`` returned.
    """
    if len(report.prompts) <= MOST_ACROSS or not report.flags:
        return None
    judged = _judged(report)
    rows = [
        [words(prompt), *(_light(flags.get(prompt, []), report) for flags in judged.values())]
        for prompt in report.prompts
    ]
    columns = [report.rows.column, *(words_column(title, title) for _, title in judged)]
    return Table("prompt-lights", f"Each criterion on each {report.rows.noun}", columns, rows)


def _judged(report: Report) -> dict[tuple[str, str], dict[str | None, list[Flag]]]:
    """Flags by criterion and title, which names the column of groups, and by prompt, or None for the mean."""
    judged: dict[tuple[str, str], dict[str | None, list[Flag]]] = {}
    for flag in report.flags:
        row = judged.setdefault((flag.criterion, flag_title(flag, report.judged_by.criteria)), {})
        row.setdefault(flag.prompt, []).append(flag)
    return judged


def flag_title(flag: Flag, criteria: Mapping[str, Criterion]) -> str:
    """What is judged, in words, with the column of groups."""
    title = criteria[flag.criterion].title
    return f"{title}: {flag.group[0]}" if flag.group else title


# Which of several groups a light names.
_WORST: Mapping[Direction, str] = {"at least": "the lowest", "at most": "the highest", "within": "the farthest from 0"}


def light_words(report: Report) -> str:
    """How to read the lights, and whose criteria they are."""
    sources: dict[str, dict[str, None]] = {}
    named: dict[str, dict[str, None]] = {}
    for flag in report.flags:
        criterion = report.judged_by.criteria[flag.criterion]
        sources.setdefault(flag.source, {})[criterion.title] = None
        if flag.group:
            named.setdefault(_WORST[criterion.direction], {})[criterion.title] = None
    whose = "; ".join(f"{', '.join(titles)}: {source}" for source, titles in sources.items())
    several = [f"{which} ({', '.join(titles)})" for which, titles in named.items()]
    groups = f" Of subgroups, {' or '.join(several if len(several) > 1 else named)} is named." if named else ""
    return (
        "A criterion is flagged where the value lies on the wrong side of its threshold, and unknown where there is no "
        f"value; unknown is not passed.{groups} Sources of the criteria: {whose}."
    )


def _light(flags: Flags, report: Report) -> Cell:
    """The verdict on one criterion at one place: a group that misses it is not outweighed by others that do not."""
    if not flags:
        return NOTHING
    verdict = worst_verdict(flag.verdict for flag in flags)
    worst = [flag for flag in flags if flag.verdict == verdict]
    criterion = report.judged_by.criteria[flags[0].criterion]
    shown = max(worst, key=lambda flag: criterion.excess(flag.value))
    # With more decimals where few would put it on the other side of its threshold.
    value = "" if shown.value is None else minus(value_words(shown.value, criterion))
    value = value.replace("percentage points", "pp")
    if len(flags) > 1:
        named = f"; {shown.group[1]} {value}" if value and shown.group else ""
        value = f"{len(worst)} of {len(flags)} groups{named}"
    return words(f"{SYMBOLS[verdict]} {verdict}", note=value, hint=shown.words, mark=verdict)


def worst_verdict(verdicts: Iterable[str]) -> str:
    """Flag before unknown before pass: what is unknown is not met."""
    present = set(verdicts)
    return next((verdict for verdict in ("flag", "unknown") if verdict in present), "pass")
