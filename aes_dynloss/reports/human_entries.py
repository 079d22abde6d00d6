"""What a report says of human raters: their agreement with each other, and the ratings that figures rest on."""

from __future__ import annotations

from dataclasses import field

from aes_dynloss.reports.entry import Entry, Figure, WrittenRange


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
