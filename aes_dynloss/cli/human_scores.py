"""What ``evaluate`` holds predictions against: all essays' human scores, or those of a plan's sample, and decisions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import EXISTING
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.cli.options import Command
    from aes_dynloss.measures.resolution import Rule
    from aes_dynloss.programme.sheets import TakenBack
    from aes_dynloss.reports.adjudication import Decisions
    from aes_dynloss.reports.model import Report
    from aes_dynloss.reports.predictions import PredictionTable
    from aes_dynloss.tables.score_range import ScoreRange

logger = logging.getLogger(__name__)

_OPTIONS = (
    click.option(
        "--references", type=EXISTING, help="File with the human scores, if PREDICTIONS has none; joined by essay id."
    ),
    click.option(
        "--weight-column",
        metavar="COLUMN",
        help="Column of design weights, of essays that were drawn to be read: the figures are then estimates for all. "
        "`--adjudicated` of a plan brings its own.",
    ),
    click.option(
        "--adjudicated",
        type=EXISTING,
        multiple=True,
        help="Decisions of humans: a folder of `aes-dynloss plan` with its sheets filled in, which without "
        "--references gives the human scores too; or a review sheet of `score --review`, which may be repeated. The "
        "final scores are reported beside the machine's.",
    ),
    click.option(
        "--rule",
        type=click.Choice(["mean", "higher", "third"]),
        default="mean",
        help="With --adjudicated: which score counts of an essay that was read twice; two readings more than one score "
        "point apart need a third, which with third decides alone.",
    ),
    click.option(
        "--audit",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --adjudicated: add a line for each decision to this log, as `score --audit` does for scores.",
    ),
)


def human_score_options(command: Command) -> Command:
    """Add the options of human scores and decisions."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class HumanSource:
    """Where human scores and decisions come from.

    Args:
        references: File with the human scores; None where the predictions hold them.
        weights: Column of design weights; None where all essays have human scores.
        ranges: Score range by prompt, where it is known.
        sheets: Review sheets.
        rule: Which score counts of several readings.
        plan: What markers made of a plan's sheets.
    """

    references: Path | None
    weights: str | None
    ranges: Mapping[str, ScoreRange]
    sheets: Sequence[Path]
    rule: Rule
    plan: TakenBack | None = None

    @classmethod
    def of(
        cls,
        references: Path | None,
        weights: str | None,
        adjudicated: Sequence[Path],
        rule: Rule,
        ranges: Mapping[str, ScoreRange],
    ) -> HumanSource:
        """What the options name; a plan's sheets are taken back.

        Raises:
            ConfigError: A folder is named beside other sheets, or weights are named beside decisions, or not named
                where the references are a sample.
            DataError: A folder is no plan, or a sheet of it cannot be used.
        """
        from aes_dynloss.programme.sheets import DESIGN_WEIGHT, take_back

        source = cls(references, weights, ranges, adjudicated, rule)
        folders = [path for path in adjudicated if path.is_dir()]
        if references is not None and weights is None and _has_column(references, DESIGN_WEIGHT):
            raise ConfigError(
                f"{references.name} has scores of a sample, with the column {DESIGN_WEIGHT}. Give --weight-column "
                f"{DESIGN_WEIGHT}."
            )
        if folders and weights is not None:
            raise ConfigError(
                "A plan has design weights of its own. Leave out --weight-column, and --references of a sample."
            )
        if adjudicated and weights is not None:
            raise ConfigError(
                "--adjudicated puts decisions in the place of scores, which has no weighted figures. Leave it out, or "
                "give the human scores of all essays, without --weight-column."
            )
        if not folders:
            return source
        if len(adjudicated) > 1:
            raise ConfigError("--adjudicated takes one plan's folder, or review sheets. Give them one after the other.")
        taken = take_back(folders[0], rule)
        _tell(taken)
        source = replace(source, sheets=(), plan=taken, ranges={**taken.ranges, **ranges})
        return source if references else replace(source, references=taken.marked, weights=DESIGN_WEIGHT)

    @property
    def kept(self) -> list[str]:
        """Columns without a role that are needed."""
        return [] if self.weights is None else [self.weights]

    def refuse(self, **unweighted: object) -> None:
        """Refuse options, by name, whose figures have no weights, where there are weights, and raters of a plan.

        Raises:
            ConfigError: One of them is given.
        """
        from aes_dynloss.programme.sheets import MARKER
        from aes_dynloss.reports.adjudication import HUMAN_SCORE

        named = [name for name, value in unweighted.items() if value]
        if self.plan is not None and "rater_column" in named:
            raise ConfigError(
                "A plan's sheets say who read, and raters have no weighted figures. For a report on raters, evaluate "
                f"the same scores with --references {self.plan.readings} --rater-column {MARKER} --reference-column "
                f"{HUMAN_SCORE}."
            )
        if self.weights is not None and named:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in named)
            raise ConfigError(f"{options} would give figures of a sample without its weights. Leave them out.")

    def decisions(self, test: PredictionTable) -> Decisions | None:
        """The decisions on these predictions, if there are any.

        Raises:
            DataError: A sheet cannot be used.
        """
        from aes_dynloss.reports.adjudication import decisions_of_sheets, read_decisions, with_human_scores
        from aes_dynloss.tables.columns import TRAIT_COLUMN

        if self.plan is not None:
            return with_human_scores(self.plan.decisions, test)
        scales = list(test.ranges) if TRAIT_COLUMN in test.table else []
        sheets = [read_decisions(path, scales) for path in self.sheets]
        return decisions_of_sheets(sheets, test, self.rule) if sheets else None

    def report(self, test: PredictionTable, subgroups: Collection[str], **settings: Any) -> Report:  # noqa: ANN401
        """The report, weighted where there are weights.

        Args:
            test: The predictions.
            subgroups: Columns of groups of writers.
            settings: What ``build_report`` takes; None is its default.
        """
        from aes_dynloss.reports.prompts import build_report
        from aes_dynloss.reports.weighted import build_weighted_report

        given = {name: value for name, value in settings.items() if value is not None}
        if self.weights is None:
            return build_report(test, subgroups=list(subgroups), **given)
        return build_weighted_report(test, self.weights, subgroups=list(subgroups), **given)

    def adjudicated(self, report: Report, test: PredictionTable, decisions: Decisions | None) -> Report:
        """The report with human decisions, unless these are the very scores that it rests on."""
        from aes_dynloss.reports.adjudication import adjudication_entry, left_out_notes

        if decisions is None or self.weights is not None:
            return report
        entry = adjudication_entry(report, test, decisions)
        return replace(report, adjudicated=entry, notes=[*report.notes, *left_out_notes(decisions)])


def log_decisions(
    path: Path | None, test: PredictionTable, decisions: Decisions | None, rule: Rule, inputs: Sequence[Path]
) -> None:
    """Add the decisions, which have been checked, to a log if that is wanted; those of an evaluation once.

    Args:
        path: The log.
        test: The predictions.
        decisions: The decisions on them.
        rule: How two or three readings became one.
        inputs: The files that they rest on, by whose content and the rule the log knows the evaluation.
    """
    from hashlib import sha256

    from aes_dynloss.reports.adjudication import decision_entries
    from aes_dynloss.tables.audit_log import AuditLog
    from aes_dynloss.tables.provenance import sha256_of

    if path is None or decisions is None:
        return
    evaluation = sha256(" ".join([rule, *map(sha256_of, inputs)]).encode("ascii")).hexdigest()
    log, entries = AuditLog(path), decision_entries(test, decisions, evaluation)
    known = log.count("evaluation", evaluation)
    if known:
        logger.warning("%s has %d decisions of this evaluation already: the same scores, sheets and rule.", path, known)
    log.append(entries[known:])


def _has_column(path: Path, column: str) -> bool:
    from aes_dynloss.tables.formats import column_names

    return column in column_names(path)


def _tell(taken: TakenBack) -> None:
    """Say what is missing of a plan's readings."""
    if taken.unread:
        logger.warning("%d essays of the plan are not read yet; others stand for them.", taken.unread)
    if taken.waiting:
        logger.warning("%d essays have readings more than one score point apart, and need a third.", taken.waiting)
    for path in taken.third:
        logger.warning("Wrote %s, to be filled in.", path)
