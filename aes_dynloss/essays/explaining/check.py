"""Tests of explanations on essays: are they faithful to the model, sane and stable?"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import explain_essays, sentence_contributions
from aes_dynloss.essays.explaining.occlusion import Values, sentence_values
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sanity import BABBLE, Part, Planted, best_sentence, plant, randomised
from aes_dynloss.essays.explaining.sentences import Span, sentence_spans
from aes_dynloss.essays.explaining.shapley import of_function
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.model.trait_rows import Asked
from aes_dynloss.essays.scoring.score import prompts_of, score_essays
from aes_dynloss.essays.screening.kinds import Policy
from aes_dynloss.measures.differences import wilson_interval
from aes_dynloss.progress import Progress
from aes_dynloss.reports.entry import Entry, Figure
from aes_dynloss.reports.table import NOTHING, Cell, Column, Table, count, number, share, words, words_column

Array = NDArray[np.float64]

# Below this share of the score range the sentences of an essay count as alike.
SMALLEST_SD = 0.01
RANDOM_ORDERS = 5
# All choices of so many sentences are read: two to this power readings.
MOST_EXACT = 10
FEWEST_SENTENCES = 3
# Ways to explain, and whether they are exact.
METHODS = {"estimate": False, "exact": True}
# Sentences of the essays whose explanations are timed, and how many of them, at most.
_TIMED, _MOST_TIMED = (15, 25), 5
# Of a model, which are made random.
PARTS: tuple[Part, ...] = ("head", "encoder")


class Share(Entry):
    """A share of essays, with its Wilson interval."""

    n: int
    share: Figure
    low: Figure
    high: Figure


class MethodCheck(Entry):
    """How one way to explain does on a prompt.

    Args:
        deletion_beats_random: Essays whose score falls faster when sentences go in the order given than in random ones.
        insertion_beats_random: Essays whose score rises faster when sentences come in that order.
        deletion_of_all: The first, of all essays, those whose sentences are alike too.
        insertion_of_all: The second, of all essays.
        shapley_rank: Mean rank correlation with exact Shapley values, of short essays.
        shapley_essays: Essays that it is the mean over.
    """

    deletion_beats_random: Share
    insertion_beats_random: Share
    deletion_of_all: Share
    insertion_of_all: Share
    shapley_rank: Figure
    shapley_essays: int


class PromptCheck(Entry):
    """The tests on one prompt, or prompt and trait.

    Args:
        essays: Essays with three sentences or more.
        alike: Share of them whose sentences differ too little to be told apart, left out of the curves.
        methods: By ``estimate`` and ``exact``.
        stable_rank: Mean rank correlation after other line ends and quotation marks.
        random_ranks: Mean rank correlation with the contributions of the same model with a random head, and with a
            random encoder, of those that it has.
        planted: Share of essays in which what is lost without a planted sentence has the sign that rescoring shows, for
            a sentence of a top essay and for babble; essays in which it changes too little are left out.
        scorings: CPU time of explaining an essay of 15 to 25 sentences, in that of scoring it, by ``estimate`` and
            ``exact``; empty without such essays.
    """

    essays: int
    alike: Figure
    methods: dict[str, MethodCheck]
    stable_rank: Figure
    random_ranks: dict[str, float | None]
    planted: dict[str, Share]
    scorings: dict[str, float] = field(default_factory=dict)


def curve_areas(values: Values, order: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Mean scores while sentences are left out in an order, and while they are put in.

    Args:
        values: Raw scores of choices of sentences, on one scale.
        order: All sentences.
    """
    count = len(order)
    out, into = np.ones((count, count), dtype=bool), np.zeros((count, count), dtype=bool)
    for step, sentence in enumerate(order.tolist()):
        out[step:, sentence] = False
        into[step:, sentence] = True
    raw = values(np.vstack([out, into]))[:, 0]
    return float(raw[:count].mean()), float(raw[count:].mean())


def other_marks(text: str) -> str:
    """The same essay with other line ends and quotation marks, sentence by sentence as long as before."""
    return text.replace("\r\n", "\n").replace("'", "\u2019").replace('"', "\u201d")


def rank_agreement(first: Array, second: Array) -> float:
    """Spearman's correlation; NaN where all values of one are equal."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def mean_known(values: Sequence[float]) -> float | None:
    """The mean of those that are no NaN; None without any."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class _Found:
    """One essay's contributions, and mean scores along their order and along random ones."""

    parts: Array
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def faster_out(self) -> bool:
        return self.deletion < self.random_deletion

    @property
    def faster_in(self) -> bool:
        return self.insertion > self.random_insertion


def _method(found: Sequence[_Found], ranks: Sequence[float], least: float) -> MethodCheck:
    told_apart = [one for one in found if one.parts.std() >= least]
    return MethodCheck(
        *(_share([one.faster_out for one in told_apart]), _share([one.faster_in for one in told_apart])),
        *(_share([one.faster_out for one in found]), _share([one.faster_in for one in found])),
        mean_known(ranks),
        len(ranks),
    )


def _share(met: Sequence[bool]) -> Share:
    if not met:
        return Share(0, None, None, None)
    part = sum(met) / len(met)
    return Share(len(met), part, *wilson_interval(part, len(met)))


def _stability(scorer: Scorer, essay: Reading, scale: str, spans: Sequence[Span], parts: Array) -> float:
    """Rank agreement with the same sentences in other marks; NaN where there are none, or where they fall otherwise."""
    text = other_marks(essay.text)
    others = sentence_spans(text)
    if text == essay.text or len(others) != len(spans):
        return float("nan")
    changed = sentence_contributions(scorer, replace(essay, text=text), [scale], others, exact=False)[0][:, 0]
    return rank_agreement(parts, changed)


def _shapley_ranks(
    scorer: Scorer, essays: Sequence[UnscoredEssay], scale: str, progress: str | None
) -> dict[str, list[float]]:
    """Rank agreement of each way to explain with exact Shapley values, all choices of sentences read anew."""
    ranks: dict[str, list[float]] = {method: [] for method in METHODS}
    for one in Progress(essays, desc=progress, unit="short essay", disable=progress is None):
        essay, spans = Reading.of(one), sentence_spans(one.text)
        truth = of_function(sentence_values(scorer, essay, [scale], spans, exact=True), len(spans))[:, 0]
        for method, exact in METHODS.items():
            parts = sentence_contributions(scorer, essay, [scale], spans, exact=exact)[0][:, 0]
            ranks[method].append(rank_agreement(parts, truth))
    return ranks


def check_explanations(
    scorer: Scorer,
    essays: Sequence[UnscoredEssay],
    scale: str,
    *,
    short: Sequence[UnscoredEssay] = (),
    seed: int = 0,
    progress: str | None = None,
) -> PromptCheck:
    """Test the explanations of one prompt's scores, or of those of one of its traits.

    Args:
        scorer: The scorer.
        essays: Essays to the prompt; those with fewer than three sentences are left out.
        scale: The prompt, or prompt and trait.
        short: Essays of FEWEST_SENTENCES to MOST_EXACT sentences, for exact Shapley values.
        seed: Of the random orders.
        progress: Words beside a progress bar; None for none.

    References:
        Petsiuk, Das and Saenko (2018), RISE (deletion and insertion). Adebayo et al. (2018), Sanity checks for saliency
        maps. Shapley (1953), A value for n-person games.
    """
    random = np.random.default_rng(seed)
    span = scorer.prompts[scale].range
    least = SMALLEST_SD * (span.high - span.low)
    chosen = [(Reading.of(one), spans) for one in essays if len(spans := sentence_spans(one.text)) >= FEWEST_SENTENCES]
    found: dict[str, list[_Found]] = {method: [] for method in METHODS}
    stable = []
    changed = {part: other for part in PARTS if (other := randomised(scorer, part, seed)) is not None}
    ranks: dict[str, list[float]] = {part: [] for part in changed}
    sentences = _sentences_to_plant(scorer, [essay for essay, _ in chosen], scale)
    planted: dict[str, list[Planted]] = {kind: [] for kind in sentences}
    for essay, spans in Progress(chosen, desc=progress, unit="essay", disable=progress is None):
        anew = sentence_values(scorer, essay, [scale], spans, exact=True)
        orders = [random.permutation(len(spans)) for _ in range(RANDOM_ORDERS)]
        by_chance = np.mean([curve_areas(anew, order) for order in orders], axis=0).tolist()
        for method, exact in METHODS.items():
            parts = sentence_contributions(scorer, essay, [scale], spans, exact=exact)[0][:, 0]
            deletion, insertion = curve_areas(anew, np.argsort(-parts))
            found[method].append(_Found(parts, deletion, insertion, by_chance[0], by_chance[1]))
        estimate = found["estimate"][-1].parts
        stable.append(_stability(scorer, essay, scale, spans, estimate))
        for part, other in changed.items():
            parts = sentence_contributions(other, essay, [scale], spans, exact=False)[0][:, 0]
            ranks[part].append(rank_agreement(estimate, parts))
        for kind, sentence in sentences.items():
            if sentence not in essay.text and (one := plant(scorer, essay, scale, sentence)) is not None:
                planted[kind].append(one)
    alike = [one.parts.std() < least for one in found["estimate"]]
    agreement = _shapley_ranks(scorer, short, scale, progress)
    return PromptCheck(
        len(chosen),
        float(np.mean(alike)) if alike else None,
        {method: _method(each, agreement[method], least) for method, each in found.items()},
        mean_known(stable),
        {part: mean_known(values) for part, values in ranks.items()},
        {kind: _share([one.agrees for one in each if abs(one.shown) >= least]) for kind, each in planted.items()},
        _scorings(scorer, [one for one in essays if _TIMED[0] <= len(sentence_spans(one.text)) <= _TIMED[1]]),
    )


def _scorings(scorer: Scorer, essays: Sequence[UnscoredEssay]) -> dict[str, float]:
    """CPU time of explaining some essays, in that of scoring them."""
    some = list(essays[:_MOST_TIMED])
    if not some:
        return {}

    def seconds(work: Callable[[], Iterable[object]]) -> float:
        start = time.process_time()
        for _ in work():
            pass
        return time.process_time() - start

    def plain() -> Iterable[object]:
        return score_essays(scorer, some, policy=Policy(), window=1, progress=None, warn=False)

    seconds(plain)  # what is loaded at first
    unit = seconds(plain)
    return {
        name: round(seconds(partial(explain_essays, scorer, some, exact=exact)) / unit, 2)
        for name, exact in METHODS.items()
    }


def _sentences_to_plant(scorer: Scorer, essays: Sequence[Reading], scale: str) -> dict[str, str]:
    """A sentence of the essay that the scorer likes best, and babble."""
    texts = [essay.text for essay in essays]
    features = [essay.own or {} for essay in essays] if scorer.own_features else None
    scores = scorer.score(texts, [scale] * len(texts), features=features).raw
    sentences = {"of a top essay": best_sentence(texts, scores.tolist()), "babble": BABBLE}
    return {kind: sentence for kind, sentence in sentences.items() if sentence}


class Check(Entry):
    """Tests of a scorer's explanations.

    Args:
        prompts: By prompt, or prompt and trait.
        most: Essays of a prompt, at most.
        seed: Of the draw and of random orders.
    """

    prompts: dict[str, PromptCheck]
    most: int
    seed: int


def check_scorer(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    *,
    most: int = 30,
    seed: int = 0,
    traits: Collection[str] = (),
    progress: bool = False,
) -> Check:
    """Test a scorer's explanations on some essays of each prompt.

    Args:
        scorer: The scorer.
        essays: Essays; of each prompt at most ``most`` are drawn, and as many short ones for exact Shapley values.
        most: Essays of a prompt.
        seed: Of the draw and of random orders.
        traits: Traits to look at; by default all.
        progress: Whether a bar on standard error tells of the progress.

    Raises:
        DataError: There is no essay, or a prompt is unknown.
    """
    given = list(essays)
    if not given:
        raise DataError("There is no essay to explain. Give essays that the model can score.")
    by_prompt: dict[str, list[UnscoredEssay]] = {}
    for essay, prompt_id in zip(given, prompts_of(scorer, given), strict=True):
        by_prompt.setdefault(prompt_id, []).append(essay)
    found = {}
    for prompt_id, of_prompt in by_prompt.items():
        drawn = _drawn(of_prompt, most, seed)
        short = _drawn([one for one in of_prompt if _is_short(one)], most, seed)
        for scale in Asked.of(scorer.prompts, [prompt_id]).scales:
            if not traits or scorer.prompts[scale].trait in traits:
                label = f"explain {scale}" if progress else None
                found[scale] = check_explanations(scorer, drawn, scale, short=short, seed=seed, progress=label)
    return Check(found, most, seed)


def _drawn(essays: Sequence[UnscoredEssay], most: int, seed: int) -> list[UnscoredEssay]:
    places = np.random.default_rng(seed).permutation(len(essays))[:most]
    return [essays[place] for place in sorted(places.tolist())]


def _is_short(essay: UnscoredEssay) -> bool:
    return FEWEST_SENTENCES <= len(sentence_spans(essay.text)) <= MOST_EXACT


def check_table(check: Check) -> Table:
    """The tests as a table: a row for each prompt and way to explain.

    Args:
        check: What :func:`check_scorer` returned.
    """
    rows = []
    for scale, prompt in check.prompts.items():
        for method, one in prompt.methods.items():
            curves = (
                *(one.deletion_beats_random, one.deletion_of_all),
                *(one.insertion_beats_random, one.insertion_of_all),
            )
            rows.append(
                [
                    words(f"{scale}, {method}"),
                    count(prompt.essays),
                    share(prompt.alike),
                    *(share(each.share, known(each.low, each.high)) for each in curves),
                    number(one.shapley_rank),
                    count(one.shapley_essays),
                    number(prompt.scorings.get(method)) if prompt.scorings else NOTHING,
                    *(_of_model(prompt) if method == "estimate" else [NOTHING] * 5),
                ]
            )
    columns = [
        words_column("prompt", "Prompt", "prompt"),
        Column("essays", "Essays", "essays"),
        Column("alike", "Alike", "alike"),
        Column("deletion", "Deletion beats random order", "deletion"),
        Column("deletion_of_all", "The same of all essays", "deletion of all"),
        Column("insertion", "Insertion beats it", "insertion"),
        Column("insertion_of_all", "The same of all essays", "insertion of all"),
        Column("rank", "Rank agreement with exact Shapley values", "rank"),
        Column("rank_n", "Essays of that", "of essays"),
        Column("scorings", "Cost, in scorings", "scorings"),
        Column("stable", "Rank agreement after other marks", "stable"),
        Column("random_head", "The same with a random head", "random head"),
        Column("random_encoder", "with a random encoder", "random encoder"),
        Column("planted_top", "Sign of a planted sentence of a top essay", "planted"),
        Column("planted_babble", "Sign of planted babble", "babble"),
    ]
    return Table("explanations", "Tests of explanations", columns, rows)


def _of_model(prompt: PromptCheck) -> list[Cell]:
    ranks = [number(prompt.random_ranks.get(part)) for part in PARTS]
    shares = prompt.planted.values()
    return [
        number(prompt.stable_rank),
        *ranks,
        *(share(one.share, known(one.low, one.high)) for one in shares),
        *[NOTHING] * (2 - len(shares)),
    ]


def known(low: float | None, high: float | None) -> tuple[float, float] | None:
    """An interval, if it is known."""
    return None if low is None or high is None else (low, high)
