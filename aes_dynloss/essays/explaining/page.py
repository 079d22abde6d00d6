"""Explained essays as pages: the text with its sentences tinted by what they add, and an index of all essays."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from aes_dynloss.essays.explaining.explanation import Explanation, ScoreExplanation
from aes_dynloss.reports.blocks import Block, Folded, Mark, MarkedText, Section, Tabs, Words, render_page
from aes_dynloss.reports.table import (
    Cell,
    Column,
    Table,
    number,
    point,
    share,
    signed,
    signed_words,
    words,
    words_column,
)

_METHODS = {
    "estimate": "The essay was read once, and sentences were left out of what was read.",
    "exact": "The essay was read anew without each sentence.",
}
_HOW = (
    "A sentence's number is what it adds to the raw prediction, in score points, in the mean over the orders in which "
    "the essay could be put together from its sentences. Blue, underlined: adds; orange, wavy: takes away. It tells "
    "what the machine goes by, not what makes a good essay."
)
_SHOWN = 120  # characters of a sentence in the index
_LEVELS = (0.15, 0.4, 0.75)  # of the largest contribution


def essay_page(explained: Explanation, about: Mapping[str, Any] | None = None) -> str:
    """An essay and why it got its scores, as one html page that opens from disk.

    Args:
        explained: What ``explain`` gave.
        about: Words for the foot by name, such as the model.

    Returns:
        Html.
    """
    facts = [f"prompt {explained.prompt_id}", *(f"{one.trait or 'score'} {one.score:g}" for one in explained.scores)]
    if explained.withheld:
        facts.append("its score would be withheld")
    tabs = [(one.trait or "score", _score_blocks(explained, one)) for one in explained.scores]
    blocks: list[Block | None] = [Words(_HOW), Words(_METHODS[explained.method])]
    blocks += [Tabs("traits", tabs)] if len(tabs) > 1 else [block for _, own in tabs for block in own]
    sections = [
        Section("essay", "Essay", blocks),
        Section("advisories", "Advisories", [Words(reason) for reason in explained.advisories]),
        Section("language", "Language", _language(explained)),
    ]
    return render_page(f"Essay {explained.essay_id}", facts, sections, about)


def _score_words(one: ScoreExplanation) -> str:
    ends = "" if one.low is None or one.high is None else f", interval {one.low:g} to {one.high:g}"
    return f"{one.trait or 'score'} {one.score:g} (raw prediction {one.raw:.2f}{ends})"


def _score_blocks(explained: Explanation, one: ScoreExplanation) -> list[Block | None]:
    largest, words_of = max(map(abs, one.contributions), default=0.0), _score_words(one)
    marks = [
        Mark(span.of(explained.text), signed_words(value), _level(value, largest))
        for span, value in zip(explained.sentences, one.contributions, strict=True)
    ]
    return [
        Words(f"{words_of[:1].upper()}{words_of[1:]}.", lead=True),
        MarkedText(marks or [Mark(explained.text)]),
        _feature_table(one),
        *_next_point(one),
        _neighbour_table(one),
        Folded("Sentences", [_sentence_table(explained, one)]),
        Folded("Features beside those of training essays", [_value_table(one)]) if one.values else None,
    ]


def _level(value: float, largest: float) -> int:
    if largest <= 0:
        return 0
    level = sum(abs(value) >= part * largest for part in _LEVELS)
    return level if value > 0 else -level


def _name(one: ScoreExplanation, table: str) -> str:
    return table if one.trait is None else f"{table}-{re.sub(r'[^A-Za-z0-9_-]', '-', one.trait)}"


def _feature_table(one: ScoreExplanation) -> Table | None:
    if one.features is None:
        return None
    largest_first = sorted(one.features.groups.items(), key=lambda item: -abs(item[1]))
    rows = [[words("an average essay"), number(one.features.baseline)]]
    rows += [[words(name.replace("_", " ")), signed(value)] for name, value in largest_first]
    foot = [[words("raw prediction"), number(one.raw)]]
    columns = [words_column("group", "What the model sees"), Column("adds", "Adds (points)")]
    return Table(_name(one, "features"), "What groups of features add", columns, rows, foot, sortable=False)


def _next_point(one: ScoreExplanation) -> list[Block | None]:
    following = one.next_point
    if following is None:
        return []
    lead = f"{following.distance:.2f} more in the raw prediction would give the score {following.score:g}."
    if not following.moves:
        return [Words(lead)]
    rows = [
        [
            words(each.name),
            number(each.value),
            number(each.needed),
            _percentile(each.percentile),
            _percentile(each.needed_percentile),
        ]
        for each in following.moves
    ]
    columns = [
        words_column("feature", "Feature"),
        Column("value", "Here"),
        Column("needed", "Needed"),
        Column("percentile", "Percentile", explanation="Of training essays to this prompt, those that have less."),
        Column("needed_percentile", "Needed percentile"),
    ]
    text = "Single features that would give it, all else alike. It tells of the model, and is no advice to a writer."
    return [
        Words(f"{lead} {text}"),
        Table(_name(one, "next_point"), "What would change the score", columns, rows, sortable=False),
    ]


def _neighbour_table(one: ScoreExplanation) -> Table | None:
    if not one.neighbours:
        return None
    rows = [
        [words("(not kept)" if each.essay_id is None else each.essay_id), point(each.score), number(each.similarity)]
        for each in one.neighbours
    ]
    columns = [
        words_column("essay", "Training essay"),
        Column("score", "Human score"),
        Column("similarity", "Similarity", explanation="Cosine of both essays' vectors in the encoder's last layer."),
    ]
    return Table(_name(one, "neighbours"), "Nearest training essays", columns, rows, sortable=False)


def _value_table(one: ScoreExplanation) -> Table:
    rows = [
        [words(each.name), number(each.value), _percentile(each.percentile), _percentile(each.percentile_at_score)]
        for each in one.values
    ]
    columns = [
        words_column("feature", "Feature"),
        Column("value", "Here"),
        Column("percentile", "Percentile", explanation="Of training essays to this prompt, those that have less."),
        Column(
            "at_score", f"On score {one.score:g}", explanation="The same among training essays on this score point."
        ),
    ]
    return Table(_name(one, "values"), "Features", columns, rows)


def _percentile(value: float) -> Cell:
    return share(None if math.isnan(value) else value / 100)


def _sentence_table(explained: Explanation, one: ScoreExplanation) -> Table:
    rows = [
        [words(str(place)), signed(adds), signed(last), words(span.of(explained.text).strip())]
        for place, (span, adds, last) in enumerate(
            zip(explained.sentences, one.contributions, one.left_out, strict=True), start=1
        )
    ]
    columns = [
        Column("place", "Sentence"),
        Column("adds", "Adds (points)", explanation="In the mean over all orders of the sentences."),
        Column("left_out", "Lost without it (points)", explanation="The score less that of the essay without it."),
        words_column("text", "Text"),
    ]
    return Table(_name(one, "sentences"), "Sentences", columns, rows)


def _language(explained: Explanation) -> list[Block | None]:
    if not explained.language:
        return []
    rows = [
        [words(one.text), words(one.kind), words(one.message), words(", ".join(one.suggestions))]
        for one in explained.language
    ]
    columns = [words_column(name.lower(), name) for name in ("Text", "Kind", "Remark", "Suggestions")]
    lead = "What a grammar checker remarks. None of it is a reason for the score."
    return [Words(lead), Table("remarks", "Spelling and grammar", columns, rows)]


@dataclass(frozen=True)
class IndexRow:
    """An essay in the index.

    Args:
        essay_id: The essay.
        prompt_id: Its prompt.
        file: Its page.
        scores: Its scores by trait.
        best: The sentence that adds most.
    """

    essay_id: str
    prompt_id: str
    file: str
    scores: dict[str, float]
    best: str

    @classmethod
    def of(cls, line: Mapping[str, Any], file: str) -> IndexRow:
        """The row of an essay, by its line of JSON, whose page lies in a file."""
        parts: list[float] = next((one["contributions"] for one in line["scores"]), [])
        best = max(range(len(parts)), key=parts.__getitem__, default=None)
        text = "" if best is None else line["sentences"][best]["text"].strip()
        scores = {one["trait"] or "score": one["score"] for one in line["scores"]}
        return cls(line["essay_id"], line["prompt_id"], file, scores, shorten(text, _SHOWN, placeholder=" …"))


def index_page(essays: Sequence[IndexRow], about: Mapping[str, Any] | None = None) -> str:
    """The page that leads to all essays' pages.

    Args:
        essays: The essays.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    traits = list(dict.fromkeys(trait for one in essays for trait in one.scores))
    rows = [
        [
            words(one.essay_id, link=one.file),
            words(one.prompt_id),
            *(point(one.scores.get(trait)) for trait in traits),
            words(one.best),
        ]
        for one in essays
    ]
    columns = [
        words_column("essay", "Essay"),
        words_column("prompt", "Prompt"),
        *(Column(f"score_{trait}", trait) for trait in traits),
        words_column("best", "Sentence that adds most"),
    ]
    table = Table("essays", "Essays", columns, rows, searchable=True)
    return render_page("Explained essays", [f"{len(essays):,} essays"], [Section("all", "Essays", [table])], about)
