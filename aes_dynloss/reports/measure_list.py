"""Measures of a report with their definitions and references, and the reasons why a value is missing."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files


class Missing(Enum):
    """Why a value is missing: the member's name is the code, its value the sentence for a reader."""

    NO_DEV = "Unknown: it needs the same scorer's predictions of dev essays."
    NO_DEV_OF_RUN = "Unknown: a run has no predictions of dev essays."
    NO_SECOND_SCORE = "Unknown: it needs a second human score of the same essays."
    NO_LENGTHS = "Unknown: it needs the essays' lengths in words."
    NO_COST = "Unknown: no run's seconds are known, or they are of cards and of processors."
    PUBLISHED = "Unknown: published predictions do not say it."
    RATERS = "Undefined: the raters agree by chance alone, or score on another scale than the reference."
    EQUAL_HUMAN_SCORES = "Undefined: all human scores are equal."
    EQUAL_PREDICTIONS = "Undefined: all predictions are equal."
    SOME_PROMPTS = "Undefined: some prompts have no value, so that there is no mean."
    NOT_ROUNDED = "Only rounded scores are score points."
    NOT_SCORED = "The machine scored none of them."
    UNALTERED = "There was no essay that the change altered."
    NO_SPREAD = "No change, or no spread of predictions."
    CONSTANT_FEATURE = "Undefined: the feature does not vary."
    FEW_TRAINING_ESSAYS = "Unknown: the model keeps too few training essays to compare with."
    UNWEIGHTED = "Undefined, or not estimated with design weights."
    UNDEFINED = "It is undefined on these scores."


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


def _read_measures() -> dict[str, Measure]:
    """The measures of measures.toml, in its order; a source that it does not list is a KeyError."""
    content = tomllib.loads((files("aes_dynloss.reports") / "measures.toml").read_text(encoding="utf-8"))
    measures = {}
    for name, entry in content["measures"].items():
        reference = "; ".join(content["sources"][source] for source in entry["sources"])
        needs = Missing[entry["needs"]] if "needs" in entry else None
        measures[name] = Measure(name, entry["title"], entry["definition"], reference, needs, entry.get("short"))
    return measures


MEASURES: Mapping[str, Measure] = _read_measures()
_FLOORS = {
    "mean_score": "mean score",
    "length": "essay length",
    "tfidf_ridge": "tf-idf and ridge regression",
    "words_and_ngrams": "linguistic features and n-grams",
}
_RESCALED = "_rescaled"


def floor_title(name: str) -> str:
    """A floor's name for a reader; one that is not ours keeps its own.

    Args:
        name: Its key in report.json.

    Examples:
        >>> floor_title("length_rescaled")
        'essay length (rescaled)'
    """
    plain = name.removesuffix(_RESCALED)
    return name if plain not in _FLOORS else _FLOORS[plain] + (" (rescaled)" if plain != name else "")
