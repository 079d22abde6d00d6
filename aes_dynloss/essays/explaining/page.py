"""Explained essays as pages: the text with its sentences tinted by what they add, and an index of all essays."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from textwrap import shorten
from typing import Any

from aes_dynloss.essays.explaining.explanation import Explanation, ScoreExplanation
from aes_dynloss.essays.explaining.language import Observation
from aes_dynloss.essays.explaining.next_point import FeatureValue
from aes_dynloss.essays.features.linguistic import describe_columns
from aes_dynloss.reports.blocks import Block, Bullets, Folded, Mark, MarkedText, Section, Tabs, Words, render_page
from aes_dynloss.reports.drivers import group_words
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.table import (
    Cell,
    Column,
    Table,
    count,
    figure,
    minus,
    number,
    point,
    signed,
    signed_words,
    words,
    words_column,
)

_METHODS = {
    "estimate": "Estimate: the essay was read once, and sentences were left out of what was read.",
    "exact": "Exact: the essay was read anew without each sentence.",
}
_HOW = (
    "Each sentence's number says how many score points it adds to the raw prediction, which is the model's number "
    "before it becomes a score. It is the mean over the orders in which the essay could be put together from its "
    "sentences, and tells what the machine goes by, not what makes a good essay."
)
_SHOWN = 120  # characters of a sentence in the index
_LEVELS = (0.15, 0.4, 0.75)  # of the largest contribution
# Features stand out that lie beyond these percentiles of training essays; the farthest are shown.
_ORDINARY, _MOST = (5, 95), 12
_SAME = 0.9995  # a similarity that is shown as 1
_QUOTED = re.compile(r"`([^`]*)`")


def essay_page(explained: Explanation, about: Mapping[str, Any] | None = None, index: str = "") -> str:
    """An essay and why it got its scores, as one html page that opens from disk.

    Args:
        explained: What ``explain`` gave.
        about: Words for the foot by name, such as the model.
        index: The file of the page that leads to all essays, if there is one.

    Returns:
        Html.
    """
    facts = [f"prompt {explained.prompt_id}", *(f"{one.trait or 'score'} {one.score:g}" for one in explained.scores)]
    if explained.withheld:
        facts.append("its score would be withheld")
    tabs = [(one.trait or "score", _score_sections(explained, one)) for one in explained.scores]
    own: list[Section] = tabs[0][1] if tabs else [Section("essay", "Essay", [MarkedText([Mark(explained.text)])])]
    if len(tabs) > 1:
        own = [Section("scores", "Scores", [Words(_HOW), Tabs("traits", tabs)])]
    sections = [_advisories(explained), *own, Section("language", "Language", _language(explained))]
    about = {**(about or {}), "Method": _METHODS[explained.method]}
    return render_page(f"Essay {explained.essay_id}", facts, sections, about, ("All essays", index) if index else None)


def _advisories(explained: Explanation) -> Section:
    lead = Words("The score would be withheld.", lead=True) if explained.withheld else None
    reasons = Bullets(explained.advisories) if explained.advisories else None
    return Section("advisories", "Advisories", [lead, reasons])


def _score_sections(explained: Explanation, one: ScoreExplanation) -> list[Section]:
    how = Words(_HOW) if len(explained.scores) == 1 else None  # else above the tabs
    text: list[Block | None] = [Words(_score_words(one), lead=True), how, _marked(explained, one)]
    numbers = Folded("Sentences with their numbers", [_sentence_table(explained, one)])
    parts: list[tuple[str, str, Sequence[Block | None]]] = [
        ("sentences", "What each sentence adds", [*text, numbers]),
        ("groups", "What the model sees", [_feature_table(one)]),
        ("next", "What would change the score", _next_point(one)),
        ("nearest", "Nearest training essays", _neighbours(one)),
        ("values", "Features that stand out", _values(one)),
    ]
    return [Section(_name(one, name), title, blocks) for name, title, blocks in parts]


def _score_words(one: ScoreExplanation) -> str:
    ends = "" if one.low is None or one.high is None else f", interval {one.low:g} to {one.high:g}"
    told = "" if one.reported is None else f", reported as {one.reported:g}"
    return f"{_capital(one.trait or 'score')} {one.score:g}{told}{ends}; raw prediction {figure(one.raw)}."


def _capital(name: str) -> str:
    return f"{name[:1].upper()}{name[1:]}"


def _marked(explained: Explanation, one: ScoreExplanation) -> MarkedText:
    largest = max(map(abs, one.contributions), default=0.0)
    marks = [
        Mark(span.of(explained.text), minus(signed_words(value)), _level(value, largest))
        for span, value in zip(explained.sentences, one.contributions, strict=True)
    ]
    return MarkedText(marks or [Mark(explained.text)], _key({mark.level for mark in marks}, largest))


def _key(levels: set[int], largest: float) -> list[Mark]:
    """What the marks of a text mean, for those levels that are there; nothing where all are alike 0."""
    if not any(levels):
        return []
    bounds = [figure(part * largest) for part in _LEVELS]
    sizes = [f"{low} to {high}" for low, high in pairwise(bounds)] + [f"{bounds[-1]} or more"]
    none = Mark(f"less than {bounds[0]} either way")
    return [
        Mark(f"{'adds' if level > 0 else 'takes away'} {sizes[abs(level) - 1]}", level=level) if level else none
        for level in sorted(levels, reverse=True)
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
    rows += [[words(group_words(name)), signed(value)] for name, value in largest_first]
    foot = [[words("raw prediction"), number(one.raw)]]
    columns = [words_column("group", "Group of features"), Column("adds", "Adds (points)")]
    caption = "From the raw prediction of an average essay to this one's"
    return Table(_name(one, "features"), caption, columns, rows, foot, sortable=False)


def _next_point(one: ScoreExplanation) -> list[Block | None]:
    following = one.next_point
    if following is None:
        return []
    lead = f"{figure(following.distance)} more in the raw prediction would give the score {following.score:g}."
    if not following.moves:
        return [Words(lead)]
    units = _units(one)
    rows = [
        [
            words(each.name, note=units.get(each.name, "")),
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
        Column("percentile", "Percentile here"),
        Column("needed_percentile", "Percentile needed"),
    ]
    text = "Single features that would give it, all else alike. It tells of the model, and is no advice to a writer."
    caption = "Percentile: of training essays on this prompt, how many per cent have less"
    return [Words(f"{lead} {text}"), Table(_name(one, "next_point"), caption, columns, rows, sortable=False)]


def _neighbours(one: ScoreExplanation) -> list[Block | None]:
    if not one.neighbours:
        return []
    rows = [
        [words("(not kept)" if each.essay_id is None else each.essay_id), point(each.score), number(each.similarity)]
        for each in one.neighbours
    ]
    columns = [
        words_column("essay", "Training essay"),
        Column("score", "Human score"),
        Column("similarity", "Similarity"),
    ]
    caption = "Similarity: cosine of both essays' vectors in the encoder's last layer"
    same = Words("With a similarity of 1, this essay or a copy of it was in training.")
    learned = any(each.similarity >= _SAME for each in one.neighbours)
    return [Table(_name(one, "neighbours"), caption, columns, rows, sortable=False), same if learned else None]


def _values(one: ScoreExplanation) -> list[Block | None]:
    """The features farthest from the middle of training essays; all of them on a screen."""
    if not one.values:
        return []
    low, high = _ORDINARY
    far = [each for each in one.values if not low <= each.percentile <= high and not math.isnan(each.percentile)]
    far = sorted(far, key=lambda each: -abs(each.percentile - 50))[:_MOST]
    known = not all(math.isnan(each.percentile) for each in one.values)
    none = f"No feature lies beyond the {low}th or {high}th percentile of training essays on this prompt."
    caption = "Percentile: of training essays on this prompt, how many per cent have less, and of those with this score"
    all_caption = f"All {len(one.values):,} features"
    return [
        Table(_name(one, "far"), caption, *_value_rows(one, far), sortable=False),
        Words(none) if known and not far else None,
        Folded(all_caption, [Table(_name(one, "all"), all_caption, *_value_rows(one, one.values))], printed=False),
    ]


def _value_rows(one: ScoreExplanation, values: Sequence[FeatureValue]) -> tuple[list[Column], list[list[Cell]]]:
    units = _units(one)
    rows = [
        [
            words(each.name, note=units.get(each.name, "")),
            number(each.value),
            _percentile(each.percentile),
            _percentile(each.percentile_at_score),
        ]
        for each in values
    ]
    columns = [
        words_column("feature", "Feature"),
        Column("value", "Here"),
        Column("percentile", "Percentile"),
        Column("at_score", f"On score {one.score:g}"),
    ]
    return columns, rows


def _units(one: ScoreExplanation) -> dict[str, str]:
    return {name: unit for name, (_, unit) in describe_columns([each.name for each in one.values]).items()}


def _percentile(value: float) -> Cell:
    return count(None if math.isnan(value) else value, why=Missing.FEW_TRAINING_ESSAYS)


def _sentence_table(explained: Explanation, one: ScoreExplanation) -> Table:
    rows = [
        [words(str(place)), signed(adds), signed(last), words(span.of(explained.text).strip())]
        for place, (span, adds, last) in enumerate(
            zip(explained.sentences, one.contributions, one.left_out, strict=True), start=1
        )
    ]
    columns = [
        words_column("place", "No."),
        Column("adds", "Adds"),
        Column("left_out", "Lost without it"),
        words_column("text", "Sentence"),
    ]
    caption = "Score points. Lost without it: the raw prediction less that of the essay without the sentence"
    return Table(_name(one, "numbers"), caption, columns, rows)


def _language(explained: Explanation) -> list[Block | None]:
    if not explained.language:
        return []
    rows = [
        [
            words(one.text, note=_place(explained, one)),
            words(_QUOTED.sub("\u201c\\1\u201d", one.message), note=one.kind),
            words(", ".join(one.suggestions)),
        ]
        for one in explained.language
    ]
    columns = [words_column(name.lower(), name) for name in ("Text", "Remark", "Suggestions")]
    caption = "What a grammar checker remarks. It is no reason for the score"
    return [Table("remarks", caption, columns, rows, sortable=False)]


def _place(explained: Explanation, one: Observation) -> str:
    number_of = sum(span.start <= one.start for span in explained.sentences)
    return f"sentence\u00a0{number_of}" if number_of else ""


@dataclass(frozen=True)
class IndexRow:
    """An essay in the index.

    Args:
        essay_id: The essay.
        prompt_id: Its prompt.
        file: Its page.
        scores: Its scores by trait.
        best: The sentence that adds most.
        withheld: Whether its score would be withheld.
        reported: Its scores on their reported scales, by trait; none where there is no such scale.
    """

    essay_id: str
    prompt_id: str
    file: str
    scores: dict[str, float]
    best: str
    withheld: bool = False
    reported: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, line: Mapping[str, Any], file: str) -> IndexRow:
        """The row of an essay, by its line of JSON, whose page lies in a file."""
        parts: list[float] = next((one["contributions"] for one in line["scores"]), [])
        best = max(range(len(parts)), key=parts.__getitem__, default=None)
        text = "" if best is None else line["sentences"][best]["text"].strip()
        shown = shorten(text, _SHOWN, placeholder=" …")
        shown = f"{text[:_SHOWN]}…" if shown == "…" else shown  # one long word
        scores, reported = (
            {one["trait"] or "score": one[name] for one in line["scores"] if one.get(name) is not None}
            for name in ("score", "reported")
        )
        return cls(line["essay_id"], line["prompt_id"], file, scores, shown, line["withheld"], reported)


def index_page(essays: Sequence[IndexRow], about: Mapping[str, Any] | None = None) -> str:
    """The page that leads to all essays' pages.

    Args:
        essays: The essays.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    traits = list(dict.fromkeys(trait for one in essays for trait in one.scores))
    prompts = {one.prompt_id for one in essays}
    rows = [
        [
            words(one.essay_id, link=one.file, note=one.best),
            words(one.prompt_id if len(prompts) > 1 else ""),
            *(_index_score(one, trait) for trait in traits),
        ]
        for one in essays
    ]
    columns = [
        words_column("essay", "Essay"),
        words_column("prompt", "Prompt"),
        *(Column(f"score_{trait}", _capital(trait)) for trait in traits),
    ]
    caption = "Each essay with the sentence that adds most"
    table = Table("essays", caption, columns, rows, searchable=True).known_columns()
    facts = [f"{len(essays):,} {'essay' if len(essays) == 1 else 'essays'}"]
    facts.append(f"prompt {min(prompts)}" if len(prompts) == 1 else f"{len(prompts):,} prompts")
    return render_page("Explained essays", facts, [Section("all", "Essays", [table])], about)


def _index_score(one: IndexRow, trait: str) -> Cell:
    cell = point(one.scores.get(trait))
    if one.withheld:
        return replace(cell, note="withheld", mark="flag")
    return replace(cell, note=f"reported as {one.reported[trait]:g}") if trait in one.reported else cell
