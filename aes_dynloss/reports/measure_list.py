"""Measures of a report with their definitions and references, and the reasons why a value is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Missing(Enum):
    """Why a value is missing: the member's name is the code, its value the sentence for a reader."""

    NO_DEV = "Unknown: it needs the same scorer's predictions of dev essays."
    NO_DEV_OF_RUN = "Unknown: a run has no predictions of dev essays."
    NO_SECOND_SCORE = "Unknown: it needs a second human score of the same essays."
    NO_LENGTHS = "Unknown: it needs the essays' lengths in words."
    NO_COST = "Unknown: no run's seconds are known, or they are of cards and of processors."
    RATERS = "Undefined: the raters agree by chance alone, or score on another scale than the reference."
    EQUAL_HUMAN_SCORES = "Undefined: all human scores are equal."
    EQUAL_PREDICTIONS = "Undefined: all predictions are equal."
    SOME_PROMPTS = "Undefined: some prompts have no value, so that there is no mean."
    NOT_ROUNDED = "Only rounded scores are score points."
    NOT_SCORED = "The machine scored none of them."
    UNALTERED = "There was no essay that the change altered."
    NO_SPREAD = "No change, or no spread of predictions."
    UNDEFINED = "It is undefined on these scores."

    @property
    def sentence(self) -> str:
        """The reason for a reader."""
        return self.value


_WILLIAMSON = "Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1)"
_LORD = "Lord and Novick (1968), Statistical Theories of Mental Test Scores, chapter 3"
_LOUKINA_2019 = "Loukina, Madnani and Zechner (2019), BEA"
_FLEISS = "Cohen (1968), Psychological Bulletin 70(4); Fleiss and Cohen (1973)"
_GWET = "Gwet (2008), British Journal of Mathematical and Statistical Psychology 61(1)"
_SPEARMAN = "Spearman (1904), American Journal of Psychology 15(1)"
_OURS = "This report's own summary"


@dataclass(frozen=True)
class Measure:
    """A measure that a report holds.

    Args:
        name: Its key in report.json.
        title: Its name in tables.
        definition: What it is, in one line.
        reference: Author and year of where it comes from.
        needs: The reason why it is missing without what it needs beside human and machine scores.
        short: Its name in plain text; the title by default.
    """

    name: str
    title: str
    definition: str
    reference: str
    needs: Missing | None = None
    short: str | None = None


_ALL = (
    Measure(
        "qwk",
        "QWK",
        "Quadratic weighted kappa of human and machine score points: 1 is full agreement, 0 agreement by chance; a "
        "disagreement costs its square.",
        _FLEISS,
    ),
    Measure(
        "qwk_rescaled",
        "QWK, rescaled",
        "QWK after the predictions were given the human scores' mean and sd on dev.",
        _WILLIAMSON,
        Missing.NO_DEV,
        short="rescaled",
    ),
    Measure(
        "qwk_cut_points",
        "QWK, cut points",
        "QWK after the predictions were cut into score points where dev's QWK is highest.",
        "This toolkit: fitted on dev alone",
        Missing.NO_DEV,
        short="cut points",
    ),
    Measure(
        "qwk_variance_matched",
        "QWK, variance matched",
        "QWK after the predictions were given the human scores' mean and sd on these same essays: what a line could "
        "mend at most.",
        _WILLIAMSON,
    ),
    Measure(
        "qwk_fisher",
        "QWK, Fisher mean",
        "Mean of the prompts' QWK after Fisher's transformation, as the 2012 ASAP competition took it.",
        "Fisher (1921); Hewlett Foundation (2012)",
    ),
    Measure(
        "exact_agreement",
        "Exact agreement",
        "Share of essays with the same human and machine score point.",
        _WILLIAMSON,
        short="exact",
    ),
    Measure(
        "adjacent_agreement",
        "Adjacent agreement",
        "Share of essays whose two score points are equal or neighbours.",
        _WILLIAMSON,
        short="adjacent",
    ),
    Measure(
        "kappa",
        "Kappa",
        "Cohen's kappa without weights: agreement beyond chance, any disagreement counting the same.",
        "Cohen (1960), Educational and Psychological Measurement 20(1)",
    ),
    Measure(
        "gwet_ac1",
        "AC1",
        "Gwet's agreement beyond chance, which does not collapse where nearly all essays share a score.",
        _GWET,
    ),
    Measure(
        "gwet_ac2",
        "AC2",
        "AC1 with quadratic credit for scores that nearly agree.",
        "Gwet (2014), Handbook of Inter-Rater Reliability, 4th edition",
    ),
    Measure(
        "pearson",
        "r",
        "Pearson's correlation of human scores and unrounded predictions.",
        f"Pearson (1895); {_WILLIAMSON}",
    ),
    Measure(
        "pearson_without_length",
        "r without length",
        "Correlation of human scores and predictions among essays of one length (partial correlation).",
        "Yule (1907), Proceedings of the Royal Society A 79",
        Missing.NO_LENGTHS,
    ),
    Measure("spearman", "Spearman", "Correlation of the ranks.", _SPEARMAN),
    Measure("rmse", "RMSE", "Root mean squared error of the predictions, in score points.", _WILLIAMSON),
    Measure(
        "smd",
        "SMD",
        "Standardised mean difference: machine's mean less humans' mean, in pooled sds; above 0 where the machine is "
        "lenient.",
        _WILLIAMSON,
    ),
    Measure("sd_ratio", "sd ratio", "Spread of the predictions as a share of the human scores' spread.", _WILLIAMSON),
    Measure("mean_reference", "Human mean", "Mean human score.", _OURS),
    Measure("mean_raw", "Machine mean", "Mean prediction before rounding.", _OURS),
    Measure(
        "human_human",
        "Human-human QWK",
        "QWK of two human raters with each other, on the essays that were scored twice.",
        _WILLIAMSON,
        Missing.NO_SECOND_SCORE,
        short="human-human",
    ),
    Measure(
        "degradation",
        "QWK lost",
        "Degradation: human-human QWK less human-machine QWK on the same essays.",
        _WILLIAMSON,
        Missing.NO_SECOND_SCORE,
        short="degradation",
    ),
    Measure(
        "pearson_degradation",
        "r lost",
        "Degradation of the correlation: human-human r less human-machine r on the same essays.",
        _WILLIAMSON,
        Missing.NO_SECOND_SCORE,
    ),
    Measure(
        "pearson_disattenuated",
        "r, disattenuated",
        "Correlation of the predictions with the true score: r divided by the root of the human score's reliability.",
        f"{_SPEARMAN}; {_LORD}",
        Missing.NO_SECOND_SCORE,
    ),
    Measure(
        "prmse",
        "PRMSE",
        "Proportional reduction in mean squared error when the machine predicts the true score, which raters' errors "
        "do not lower.",
        "Haberman (2008); Loukina et al. (2020), BEA",
        Missing.NO_SECOND_SCORE,
    ),
    Measure(
        "qwk_ceiling",
        "QWK ceiling",
        "Highest QWK to expect of any machine, given the human score's reliability under classical test theory.",
        f"{_LORD}; Haberman (2019), ETS RR-19-20",
        Missing.NO_SECOND_SCORE,
    ),
    Measure(
        "qwk_of_true_score",
        "QWK of the true score",
        "QWK to expect of a machine that gives every essay its true score.",
        f"{_LORD}; Haberman (2019), ETS RR-19-20",
        Missing.NO_SECOND_SCORE,
    ),
    Measure(
        "score_share",
        "Score-point gap",
        "Machine's share of a score point less the humans' share of it.",
        "Convention of assessment programmes",
    ),
    Measure(
        "score_versions",
        "Score versions",
        "Scores as predicted, and rescaled to the humans' mean and sd on dev; either also trimmed, and rounded.",
        f"RSMTool; {_WILLIAMSON}",
    ),
    Measure(
        "prediction_interval",
        "Prediction interval",
        "Score points among which an essay's human score lies with the stated coverage, from errors on dev (split "
        "conformal).",
        "Papadopoulos et al. (2002); Lei et al. (2018), Journal of the American Statistical Association 113(523)",
        Missing.NO_DEV,
    ),
    Measure(
        "subgroup_smd",
        "SMD of a group",
        "Group's mean machine score less its mean human score, in the pooled sd of all essays.",
        _WILLIAMSON,
    ),
    Measure(
        "subgroup_dsm",
        "DSM of a group",
        "Difference of standardised means: as the SMD, after human and machine scores of all essays are each "
        "standardised.",
        "RSMTool",
    ),
    Measure(
        "osa",
        "OSA",
        "Overall score accuracy: what groups explain of squared errors (adjusted R²); 0 where all are scored alike.",
        _LOUKINA_2019,
    ),
    Measure(
        "osd",
        "OSD",
        "Overall score difference: what groups explain of signed errors (adjusted R²); 0 where no group is favoured.",
        _LOUKINA_2019,
    ),
    Measure(
        "csd",
        "CSD",
        "Conditional score difference: what groups explain of signed errors beyond the human score.",
        _LOUKINA_2019,
    ),
    Measure(
        "p_holm",
        "Holm p",
        "p value adjusted for the number of comparisons, so that the chance of any false alarm stays bounded.",
        "Holm (1979), Scandinavian Journal of Statistics 6(2)",
    ),
    Measure(
        "interval",
        "Interval",
        "Percentile bootstrap over essays within prompts.",
        "Efron and Tibshirani (1993), An Introduction to the Bootstrap",
    ),
)
MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}
