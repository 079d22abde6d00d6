"""How many essays to read by hand for an interval of a wanted width: large-sample variances, and strata."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtri

# Essays drawn for a figure, and of a stratum, at least; of fewer, all are read. Large-sample variances need so many.
FEWEST, FEWEST_OF_STRATUM = 30, 10
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Assumed:
    """What a prompt's agreement is assumed to be before it is measured.

    Args:
        qwk: QWK of human and machine scores, between 0 and 1.
        pearson: Pearson's r of them, at least ``qwk``.
    """

    qwk: float
    pearson: float


def qwk_spread(assumed: Assumed) -> float:
    """The variance of QWK over n essays, times n.

    QWK is the concordance correlation c of score points. Of bivariate normal scores with equal means and correlation r,

        n var(c) = (1 - r^2) c^2 (1 - c^2) / r^2.

    References:
        Lin (1989), Biometrics 45(1), 255-268, with the correction of Lin (2000), Biometrics 56(1), 324-325.

    Examples:
        >>> round(qwk_spread(Assumed(0.8, 0.8)), 4)
        0.1296
    """
    c, r = assumed.qwk, assumed.pearson
    return (1 - r**2) * c**2 * (1 - c**2) / r**2


def smd_spread(assumed: Assumed) -> float:
    """The variance of the SMD of n essays' human and machine scores, times n: 2 (1 - r) near SMD 0.

    References:
        Becker (1988), Synthesizing standardized mean-change measures, British Journal of Mathematical and Statistical
        Psychology 41(2), 257-278.

    Examples:
        >>> round(smd_spread(Assumed(0.8, 0.8)), 4)
        0.4
    """
    return 2 * (1 - assumed.pearson)


SPREADS: Mapping[str, Callable[[Assumed], float]] = {"qwk": qwk_spread, "smd": smd_spread}


def neediest(measure: str, assumed: Mapping[str, Assumed], scales: Sequence[str]) -> str:
    """The scale on which a measure varies most, so that it needs most essays; of equal ones the first.

    Args:
        measure: One of SPREADS.
        assumed: Agreement by scale.
        scales: The scales of a prompt, one of each trait.

    Examples:
        >>> neediest("qwk", {"1/form": Assumed(0.9, 0.9), "1/style": Assumed(0.6, 0.6)}, ["1/form", "1/style"])
        '1/style'
    """
    return max(scales, key=lambda scale: SPREADS[measure](assumed[scale]))


@dataclass(frozen=True)
class Stratum:
    """Essays of one prompt, and of one group in each column of groups, that are alike to the plan.

    Args:
        prompt: The prompt.
        groups: The group in each column of groups; "" for groups that are too small to be told.
        essays: Essays with a score.
        certain: Those of them that are read for certain.
    """

    prompt: str
    groups: tuple[str, ...]
    essays: int
    certain: int

    @property
    def rest(self) -> int:
        """Essays that are drawn from."""
        return self.essays - self.certain


@dataclass(frozen=True)
class Domain:
    """Essays of which a figure is wanted: a prompt's, or those of one group on it.

    Args:
        prompt: The prompt.
        column: Number of the column of groups; None for all essays on the prompt.
        group: The group.
    """

    prompt: str
    column: int | None = None
    group: str = ""

    def __contains__(self, stratum: Stratum) -> bool:
        """Whether a stratum is a part of it."""
        return stratum.prompt == self.prompt and (self.column is None or stratum.groups[self.column] == self.group)


def domains_of(strata: Sequence[Stratum]) -> list[Domain]:
    """Each prompt, and behind it each of its groups that is told.

    Args:
        strata: All strata.

    Examples:
        >>> domains_of([Stratum("1", ("a",), 900, 0), Stratum("1", ("",), 5, 0)])
        [Domain(prompt='1', column=None, group=''), Domain(prompt='1', column=0, group='a')]
    """
    domains = []
    for prompt in dict.fromkeys(stratum.prompt for stratum in strata):
        domains.append(Domain(prompt))
        groups = [stratum.groups for stratum in strata if stratum.prompt == prompt]
        for column, names in enumerate(zip(*groups, strict=True)):
            domains += [Domain(prompt, column, name) for name in sorted(set(names)) if name]
    return domains


def sample_size(spread: float, half_width: float, essays: int, certain: int) -> int:
    """Essays to draw of those that are not read for certain, so that an estimate for all has an interval of that width.

    With N essays, R of them drawn from and n drawn, the estimate's variance is spread (R / N)^2 (1 / n - 1 / R): essays
    that are read for certain add none, and neither would the others if all were read.

    Args:
        spread: n times the variance over n essays.
        half_width: Half of the wanted 95 % interval.
        essays: N.
        certain: N - R.

    References:
        Cochran (1977), Sampling Techniques, sections 2.6 and 5.5.

    Examples:
        >>> sample_size(0.1296, half_width=0.03, essays=100_000, certain=0)
        551
        >>> sample_size(0.1296, half_width=0.03, essays=1000, certain=100)
        300
    """
    rest = essays - certain
    if rest == 0:
        return 0
    variance = (half_width / float(ndtri(0.5 + CONFIDENCE / 2))) ** 2
    return min(rest, math.ceil(1 / (variance / spread * (essays / rest) ** 2 + 1 / rest)))


def allocated(
    strata: Sequence[Stratum], spreads: Mapping[str, Mapping[str, float]], half_widths: Mapping[str, float]
) -> list[int]:
    """Essays to draw of each stratum, so that each domain has what is wanted.

    A domain's essays are drawn at one rate; a stratum of several domains has the highest of their rates.

    Args:
        strata: All strata.
        spreads: By prompt and measure, n times the variance over n essays.
        half_widths: Half of the wanted 95 % interval by measure.

    Examples:
        >>> strata = [Stratum("1", ("a",), 900, 0), Stratum("1", ("b",), 100, 0)]
        >>> allocated(strata, {"1": {"qwk": qwk_spread(Assumed(0.8, 0.8))}}, {"qwk": 0.05})
        [164, 67]
    """
    rates = [0.0] * len(strata)
    for domain in domains_of(strata):
        members = [number for number, stratum in enumerate(strata) if stratum in domain]
        essays, certain = (sum(getattr(strata[n], name) for n in members) for name in ("essays", "certain"))
        sizes = [
            sample_size(spreads[domain.prompt][measure], width, essays, certain)
            for measure, width in half_widths.items()
        ]
        if essays > certain:
            for number in members:
                rates[number] = max(rates[number], max(FEWEST, *sizes) / (essays - certain))
    return [
        min(stratum.rest, max(FEWEST_OF_STRATUM, math.ceil(rate * stratum.rest - 1e-9)))
        for stratum, rate in zip(strata, rates, strict=True)
    ]


def expected_half_width(spread: float, strata: Sequence[Stratum], drawn: Sequence[int]) -> float:
    """Half of the 95 % interval to expect of an estimate for some strata together.

    Args:
        spread: n times the variance over n essays.
        strata: The strata.
        drawn: Essays that are drawn of each.

    Examples:
        >>> round(expected_half_width(0.1296, [Stratum("1", (), 1000, 100)], [300]), 3)
        0.03
    """
    essays = sum(stratum.essays for stratum in strata)
    variance = sum(
        (stratum.rest / essays) ** 2 * (1 / size - 1 / stratum.rest)
        for stratum, size in zip(strata, drawn, strict=True)
        if size
    )
    return float(ndtri(0.5 + CONFIDENCE / 2)) * math.sqrt(max(0.0, spread * variance))
