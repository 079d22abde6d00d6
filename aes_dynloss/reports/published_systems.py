"""Systems whose figures on ASAP-AES are published, and whether these were measured on the essays of a report."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from aes_dynloss.reports.comparison import PublishedFigure

COMMON_FOLDS, OWN_PROTOCOL = "common folds, as published", "own protocol"
PROMPT_LEFT_OUT = "one prompt left out in turn, as published"
_NEURAL = "Taghipour and Ng (2016), A Neural Approach to Automated Essay Scoring, EMNLP"
_EASE = f"Phandi et al. (2015), EMNLP, as given by {_NEURAL}"
_CTS = "Ridley et al. (2021), Automated Cross-prompt Scoring of Essay Traits, AAAI"

ASAP_SYSTEMS = (
    PublishedFigure("EASE (SVR)", 0.699, _EASE, COMMON_FOLDS),
    PublishedFigure("EASE (BLRR)", 0.705, _EASE, COMMON_FOLDS),
    PublishedFigure("LSTM", 0.746, _NEURAL, COMMON_FOLDS),
    PublishedFigure(
        "Morris, dynamic loss",
        0.752,
        "Morris (2023), The Effectiveness of a Dynamic Loss Function in Neural Network Based Automated Essay Scoring, "
        "arXiv 2305.10447",
        OWN_PROTOCOL,
    ),
    PublishedFigure("CNN + LSTM, ensemble", 0.761, _NEURAL, COMMON_FOLDS),
    PublishedFigure(
        "R2BERT",
        0.794,
        "Yang et al. (2020), Enhancing Automated Essay Scoring Performance via Fine-tuning Pre-trained Language Models "
        "with Combination of Regression and Ranking, Findings of EMNLP",
        COMMON_FOLDS,
    ),
    PublishedFigure(
        "NPCR",
        0.817,
        "Xie et al. (2022), Automated Essay Scoring via Pairwise Contrastive Regression, COLING",
        COMMON_FOLDS,
    ),
)

# They learn from seven prompts and see the essays of the eighth, not its scores: each prompt scales its own features.
ASAP_CROSS_PROMPT_SYSTEMS = (
    PublishedFigure(
        "PAES",
        0.657,
        "Ridley et al. (2020), Prompt Agnostic Essay Scorer: A Domain Generalization Approach to Cross-prompt "
        f"Automated Essay Scoring, arXiv 2008.01441, as given by {_CTS}",
        PROMPT_LEFT_OUT,
    ),
    PublishedFigure("CTS", 0.670, _CTS, PROMPT_LEFT_OUT),
    PublishedFigure(
        "PMAES",
        0.687,
        "Chen and Li (2023), PMAES: Prompt-mapping Contrastive Learning for Cross-prompt Automated Essay Scoring, ACL",
        PROMPT_LEFT_OUT,
    ),
    PublishedFigure(
        "KAES",
        0.695,
        "Li and Pan (2025), KAES: Multi-aspect Shared Knowledge Finding and Aligning for Cross-prompt Automated "
        "Scoring of Essay Traits, AAAI",
        PROMPT_LEFT_OUT,
    ),
)

# By data set and protocol, as a grid names them.
SYSTEMS: Mapping[tuple[str, str], tuple[PublishedFigure, ...]] = {
    ("asap", "folds"): ASAP_SYSTEMS,
    ("asap", "leave_one_prompt_out"): ASAP_CROSS_PROMPT_SYSTEMS,
}

# essay_digest of the test essays of each of the folds, and of each prompt's essays, 12,978 essays in all: names of
# folders cannot tell.
_FOLD_DIGESTS = frozenset(
    {"72e328d5514ea3d4", "7cb59aaa24012079", "c8616852e7551d98", "9fe9b3f63931e98f", "f530bff7ca773dfe"}
)

_PROMPT_DIGESTS = frozenset(
    {
        "755248bf5655c82b",
        "064de50745bd23e1",
        "ddc44f9345bd2e71",
        "8f02b4efe92954f3",
        "cbeb2f3c9ca4d9ed",
        "7ef727ac015446c7",
        "e366687be833f6fc",
        "13e98f0f50b608d2",
    }
)


def published_rows(
    systems: Iterable[PublishedFigure], essays: Mapping[str, Collection[tuple[str, str]]]
) -> list[PublishedFigure]:
    """Published figures for a report, each with whether it was measured on the report's essays.

    Args:
        systems: The systems.
        essays: Prompt and id of the essays that the report measures, by stratum.

    Returns:
        Figures, of their own ``protocol``, COMMON_FOLDS or PROMPT_LEFT_OUT, where the report measures all of the common
        folds, or all essays of each prompt, as the system's authors did, otherwise OWN_PROTOCOL.
    """
    measured = {essay_digest(stratum) for stratum in essays.values()}
    same = {COMMON_FOLDS: measured == _FOLD_DIGESTS, PROMPT_LEFT_OUT: measured == _PROMPT_DIGESTS}
    return [one if same.get(one.protocol) else replace(one, protocol=OWN_PROTOCOL) for one in systems]


def essay_digest(essays: Iterable[tuple[str, str]]) -> str:
    """A short text that hangs on a set of essays and not on their order.

    Args:
        essays: Prompt and id of each.

    Returns:
        The first 16 hexadecimal digits of SHA-256.
    """
    text = "".join(sorted(f"{prompt}\t{essay}\n" for prompt, essay in set(essays)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
