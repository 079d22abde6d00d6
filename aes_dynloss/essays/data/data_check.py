"""A report on scored essays before they are trained on: what can be used, what cannot, and what looks odd."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import ANSWER_WORDS, DataConfig, SplitConfig, TextKind
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.group_columns import GroupLeak, group_leaks
from aes_dynloss.essays.data.readers import build_table, gather_essays
from aes_dynloss.essays.data.scored_rows import Layout, ScoredEssay
from aes_dynloss.essays.data.splits import Leak, Splits, cross_fit_splits, fold_parts, split_essays, text_key
from aes_dynloss.tables.formats import source_name
from aes_dynloss.tables.rows import FaultLog
from aes_dynloss.tables.score_range import ScoreRange

# Unicode's control, format, private and unassigned characters; of these, texts rightly hold line ends and tabs.
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Co", "Cn"}
_PLAIN = set("\n\r\t")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FEWEST = 30  # of fewer nothing is said of their kind, by which no advisory would be learned


@dataclass(frozen=True)
class PromptReport:
    """One prompt's usable essays.

    Args:
        n: Number of essays.
        range: The prompt's score points in words; None if no range is given and none can be told from the scores.
        low: Lowest score seen.
        high: Highest score seen.
        mean: Mean score.
        sd: Standard deviation of the scores (n - 1 in the denominator); None for one essay, or beyond float64.
        score_counts: Number of essays of each score seen.
        words: Minimum, quartiles and maximum of the essays' lengths in words.
    """

    n: int
    range: str | None
    low: float
    high: float
    mean: float
    sd: float | None
    score_counts: dict[str, int]
    words: tuple[float, ...]

    @classmethod
    def of(cls, essays: Sequence[ScoredEssay], score_range: ScoreRange | None) -> PromptReport:
        """Describe the essays of one prompt, at least one."""
        scores = np.array([essay["score"] for essay in essays])
        lengths = [len(essay["text"].split()) for essay in essays]
        with np.errstate(over="ignore"):  # of scores near the end of float64, which are reported as they are
            mean, sd = float(scores.mean()), float(scores.std(ddof=1)) if len(essays) > 1 else None
        return cls(
            n=len(essays),
            range=None if score_range is None else str(score_range),
            low=float(scores.min()),
            high=float(scores.max()),
            mean=mean if np.isfinite(mean) else float((scores / len(essays)).sum()),
            sd=sd if sd is None or np.isfinite(sd) else None,
            score_counts={f"{score:.10g}": count for score, count in sorted(Counter(scores.tolist()).items())},
            words=tuple(float(length) for length in np.percentile(lengths, [0, 25, 50, 75, 100])),
        )


@dataclass(frozen=True)
class LostRow:
    """A row that cannot be used, and why."""

    row: int
    essay_id: str | None
    reason: str


@dataclass(frozen=True)
class DataReport:
    """What a check of scored essays found.

    Args:
        source: Name of the source.
        kind: Whether they are said to be essays or short answers.
        rows: Rows read, usable or not.
        used: Essays that can be used.
        left_out: Essays of prompts that are not kept.
        lost: Rows that cannot be used.
        errors: What else stands in the way of training.
        ranges_given: Whether the score ranges were given, not taken from the scores.
        repeated_ids: Ids of rows that say again what an earlier row said.
        swallowing: Ids of essays in whose text other rows seem to hide, because a quote is not closed.
        same_texts: Ids of essays with the same text, but for case and spaces.
        hidden_characters: For each control, format, private or replacement character, the essays that hold it.
        prompts: A report on each prompt.
        splits: Number of essays of each split; None if splits were not to be checked or cannot be made.
        leaks: Texts in more than one split, as pairs of split and essay id.
        group_leaks: Likely columns of writers, classes or schools of which values stand in more than one part of the
            split; of the default one, if splits were not to be checked.
    """

    source: str
    kind: TextKind
    rows: int
    used: int
    left_out: int
    lost: list[LostRow]
    errors: list[str]
    ranges_given: bool
    repeated_ids: list[str]
    swallowing: list[str]
    same_texts: list[list[str]]
    hidden_characters: dict[str, list[str]]
    prompts: dict[str, PromptReport]
    splits: dict[str, int] | None
    leaks: list[Leak]
    group_leaks: list[GroupLeak]

    @property
    def clean(self) -> bool:
        """Whether training would accept these essays."""
        return not self.lost and not self.errors

    @property
    def may_be_answers(self) -> bool:
        """Whether what are said to be essays are as short as answers, on most prompts."""
        medians = [prompt.words[len(prompt.words) // 2] for prompt in self.prompts.values()]
        return self.kind == "essays" and self.used >= _FEWEST and float(np.median(medians)) <= ANSWER_WORDS

    def as_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        return {"clean": self.clean, **asdict(self)}


def check_data(config: DataConfig, *, check_splits: bool) -> DataReport:
    """Read essays as training would, but go on after rows that cannot be used.

    Args:
        config: Source, layout and splits.
        check_splits: Whether to make the splits and look for texts that stand in two of them.

    Raises:
        DataError: Nothing of the source can be read.
        ConfigError: A hub split is named for a local source.
    """
    faults = FaultLog()
    gathering = gather_essays(config, faults)
    if not (gathering.essays or gathering.left_out or faults.faults):
        faults.raise_if_any()
    errors = [] if faults.stopped is None else [f"Reading ended early. {faults.stopped}"]
    table, splits, groups = None, None, []
    # Lost essays may stand in id files; they are reported already.
    lost_ids = {fault.essay_id for fault in faults.faults if fault.essay_id is not None}
    try:
        table = build_table(config, gathering, lost_ids)
        whole = replace(table, left_out=table.left_out | lost_ids)
        if check_splits:
            splits = split_essays(whole, config.split)
        groups = _group_leaks(whole, config.split, splits)
    except DataError as error:
        errors.append(str(error))
    ranges = {} if table is None else {prompt.id: prompt.range for prompt in table.prompts.values()}
    once = list({essay["essay_id"]: essay for essay in gathering.essays}.values())
    by_prompt: dict[str, list[ScoredEssay]] = {}
    by_text: dict[bytes, list[str]] = {}
    for score in gathering.essays:
        by_prompt.setdefault(score["prompt_id"], []).append(score)
    for essay in once:
        by_text.setdefault(text_key(essay["text"]), []).append(essay["essay_id"])
    return DataReport(
        source=source_name(config.source),
        kind=config.kind,
        rows=len(once) + len(gathering.left_out) + len(gathering.repeated) + len(faults.faults),
        used=len(once),
        left_out=len(gathering.left_out),
        lost=[LostRow(fault.row, fault.essay_id, fault.reason) for fault in faults.faults],
        errors=errors,
        ranges_given=Layout.of(config).prompts is not None,
        repeated_ids=gathering.repeated,
        swallowing=gathering.swallowing,
        same_texts=[ids for ids in by_text.values() if len(ids) > 1],
        hidden_characters=_hidden_characters(once),
        prompts={prompt: PromptReport.of(essays, ranges.get(prompt)) for prompt, essays in sorted(by_prompt.items())},
        splits=None if splits is None else {name: part.essay_count for name, part in splits.tables().items()},
        leaks=[] if splits is None else list(splits.leaks),
        group_leaks=groups,
    )


def _group_leaks(table: EssayTable, config: SplitConfig, splits: Splits | None) -> list[GroupLeak]:
    """Likely group columns that leak between parts; none where there is no such column, or no split can be made."""
    if not table.likely_groups:
        return []
    if config.cross_fit is not None:
        folds, _ = cross_fit_splits(table, config, with_dev=False)
        return group_leaks(table, fold_parts(folds))
    try:
        return group_leaks(table, (splits or split_essays(table, config)).tables())
    except DataError:  # of a split that nobody asked for
        return []


def _hidden_characters(essays: Sequence[ScoredEssay]) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for essay in essays:
        for character in set(essay["text"]) - _PLAIN:
            if character == _REPLACEMENT or unicodedata.category(character) in _HIDDEN_CATEGORIES:
                name = f"U+{ord(character):04X} {unicodedata.name(character, 'without name')}"
                ids.setdefault(name, []).append(essay["essay_id"])
    return dict(sorted(ids.items()))
