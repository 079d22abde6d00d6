"""Published figures on ASAP-AES, and whether they were measured on the essays that are reported."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMMON_FOLDS, OWN_PROTOCOL = "common folds, as published", "own protocol"


@dataclass(frozen=True)
class PublishedSystem:
    """A published system's figure.

    Args:
        system: Its name.
        qwk: Its QWK on test, the mean over prompts (and over folds, where it has several).
        source: Where the figure stands.
        on_common_folds: Whether it was measured on the five folds of Taghipour and Ng (2016), one model a prompt.
    """

    system: str
    qwk: float
    source: str
    on_common_folds: bool


_NEURAL = "Taghipour and Ng (2016), A Neural Approach to Automated Essay Scoring, EMNLP"
_EASE = f"Phandi et al. (2015), EMNLP, as given by {_NEURAL}"

ASAP_SYSTEMS = (
    PublishedSystem("EASE (SVR)", 0.699, _EASE, on_common_folds=True),
    PublishedSystem("EASE (BLRR)", 0.705, _EASE, on_common_folds=True),
    PublishedSystem("LSTM", 0.746, _NEURAL, on_common_folds=True),
    PublishedSystem(
        "Morris, dynamic loss",
        0.752,
        "Morris (2023), The Effectiveness of a Dynamic Loss Function in Neural Network Based Automated Essay Scoring, "
        "arXiv 2305.10447",
        on_common_folds=False,
    ),
    PublishedSystem("CNN + LSTM, ensemble", 0.761, _NEURAL, on_common_folds=True),
    PublishedSystem(
        "R2BERT",
        0.794,
        "Yang et al. (2020), Enhancing Automated Essay Scoring Performance via Fine-tuning Pre-trained Language Models "
        "with Combination of Regression and Ranking, Findings of EMNLP",
        on_common_folds=True,
    ),
    PublishedSystem(
        "NPCR",
        0.817,
        "Xie et al. (2022), Automated Essay Scoring via Pairwise Contrastive Regression, COLING",
        on_common_folds=True,
    ),
)

# essay_digest of the test essays of each of the folds, 12,978 essays in all: names of folders cannot tell.
_FOLD_DIGESTS = frozenset(
    {"72e328d5514ea3d4", "7cb59aaa24012079", "c8616852e7551d98", "9fe9b3f63931e98f", "f530bff7ca773dfe"}
)


def published_rows(
    systems: Iterable[PublishedSystem], essays: Mapping[str, Collection[tuple[str, str]]]
) -> list[dict[str, Any]]:
    """Published figures for a report, each with whether it was measured on the report's essays.

    Args:
        systems: The systems.
        essays: Prompt and id of the essays that the report measures, by stratum.

    Returns:
        ``system``, ``qwk``, ``source`` and ``protocol``: COMMON_FOLDS where the report measures all of the common folds
        as the system's authors did, otherwise OWN_PROTOCOL.
    """
    same = {essay_digest(stratum) for stratum in essays.values()} == _FOLD_DIGESTS
    return [
        {
            "system": one.system,
            "qwk": one.qwk,
            "source": one.source,
            "protocol": COMMON_FOLDS if same and one.on_common_folds else OWN_PROTOCOL,
        }
        for one in systems
    ]


def essay_digest(essays: Iterable[tuple[str, str]]) -> str:
    """A short text that hangs on a set of essays and not on their order.

    Args:
        essays: Prompt and id of each.

    Returns:
        The first 16 hexadecimal digits of SHA-256.
    """
    text = "".join(sorted(f"{prompt}\t{essay}\n" for prompt, essay in set(essays)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
