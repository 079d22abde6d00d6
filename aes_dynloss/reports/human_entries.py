"""What a report says of human raters: their agreement with each other, the ratings that figures rest on, decisions."""

from __future__ import annotations

from dataclasses import field

from aes_dynloss.reports.entry import Entry, Figure, Interval, WrittenRange


class MeanHumanAgreement(Entry):
    """Agreement of two humans, and what the machine loses against it, in the mean over prompts."""

    qwk: Figure
    degradation: Figure
    pearson: Figure
    pearson_degradation: Figure


class HumanAgreement(Entry):
    """Agreement of two humans with each other, and the machine's on the same ``n`` essays of a prompt.

    ``smd`` is the second human's mean less the first's in pooled SDs; ``confusion`` holds first score, second score and
    essays, of the score points of ``range``.
    """

    n: int
    qwk: Figure
    human_machine_qwk: Figure
    degradation: Figure
    pearson: Figure
    human_machine_pearson: Figure
    pearson_degradation: Figure
    kappa: Figure = None
    exact_agreement: Figure = None
    adjacent_agreement: Figure = None
    smd: Figure = None
    mean_first: Figure = None
    sd_first: Figure = None
    mean_second: Figure = None
    sd_second: Figure = None
    range: WrittenRange | None = None
    confusion: list[list[int | float]] = field(default_factory=list)


class HumanRatings(Entry):
    """The ratings behind PRMSE and the disattenuated r, and the variances of raters' errors and of true scores.

    Args:
        n: Essays with a rating.
        n_twice: Essays with two or more.
        ratings: Their number.
        error_variance: Variance of one rater's errors, in squared points of the raters' scale.
        true_variance: Variance of true scores, likewise.
    """

    n: int
    n_twice: int
    ratings: int
    error_variance: Figure
    true_variance: Figure


class RaterEntry(Entry):
    """A human rater, or the machine as one: labels are in SDs of all ratings of their prompt, from their mean.

    Args:
        rater: The name.
        n: Ratings; of the machine, essays.
        mean: Mean rating.
        sd_ratio: SD within prompts as a share of all raters'.
        severity: From the mean of the human raters, above 0 where lenient; shrunken towards it.
        consistency: Correlation with other raters' scores, or the machine's: ``RaterReport.compared_with``.
        lowest: Share of ratings that are the lowest of their prompt.
        highest: Share of ratings that are the highest.
        drift: Change of severity from the first rating of all to the last, where dates are known.
        drift_p_holm: Its p value, adjusted for the number of raters.
        remarks: Rater effects that are large and beyond chance.
    """

    rater: str
    n: int
    mean: Figure
    sd_ratio: Figure
    severity: Figure
    severity_interval: Interval
    consistency: Figure
    consistency_interval: Interval
    lowest: Figure
    highest: Figure
    drift: Figure = None
    drift_interval: Interval = None
    drift_p_holm: Figure = None
    remarks: str = ""


class RaterAssignment(Entry):
    """Whether raters explain, within prompts, what they have no influence on."""

    r_squared_adjusted: Figure
    p: Figure
    p_holm: Figure


class AdjustedAgreement(Entry):
    """Agreement of the machine with a prompt's mean ratings, as given and adjusted for raters' severity."""

    n: int
    pearson: Figure
    pearson_adjusted: Figure
    rmse: Figure
    rmse_adjusted: Figure
    qwk: Figure
    qwk_adjusted: Figure


class RaterReport(Entry):
    """Human raters and the machine beside them.

    Args:
        raters: Human raters by name, of ``min_group`` essays or more.
        untold: Number of the others.
        machine: The machine as one more rater.
        compared_with: ``other raters`` or ``machine``: what consistency is the correlation with.
        severity_sd: SD of severity between raters, beyond chance.
        severity_p: p value of raters of one severity.
        assignment: Tests of assignment by chance, by covariate.
        adjusted: By prompt.
        conclusions: What a reader should know, in sentences.
    """

    raters: list[RaterEntry]
    untold: int
    machine: RaterEntry
    compared_with: str
    severity_sd: float
    severity_p: Figure
    assignment: dict[str, RaterAssignment]
    adjusted: dict[str, AdjustedAgreement]
    conclusions: list[str]


class ReviewFigures(Entry):
    """Agreement of scores before or after human review; the mean over prompts has no ``n``."""

    LEFT_OUT = ("n",)

    n: int | None = None
    qwk: Figure = None
    exact_agreement: Figure = None
    adjacent_agreement: Figure = None


class ReviewedMean(Entry):
    """The machine's figures, and those of the scores that count in the end, over prompts that the machine scored."""

    machine: ReviewFigures
    final: ReviewFigures


class ReviewedPrompt(Entry):
    """One prompt before and after human review; ``machine`` is None where it scored none of the essays."""

    decided: int
    machine: ReviewFigures | None
    final: ReviewFigures


class Adjudication(Entry):
    """What humans decided on essays for review: essays, and figures before and after.

    With several traits an essay is ``decided`` when one of its scores is; a prompt's ``decided`` are its own scores.
    """

    decided: int
    undecided: int
    without_score: int
    prompts: dict[str, ReviewedPrompt]
    mean: ReviewedMean
