"""A regression that some prompts teach and another is scored by: beside its definition, on known levels, as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.classical.transfer import SPREADS, TransferRegression, essays_to_mark
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {
    "a": ScoreRange(1, 6),
    "b": ScoreRange(0, 30),
    "c": ScoreRange(2, 12),
    "d": ScoreRange(0, 3),
    "new": ScoreRange(1, 9),
}
SHAPES = {"a": (0.0, 1.0), "b": (9.0, 4.0), "c": (-3.0, 0.2), "d": (2.0, 7.0), "new": (50.0, 3.0)}
FORMS = ("with_target_essays", "strict")


def prompts(count: int = 120, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Numbers, all but the first in units of each prompt's own; the first and third tell the score, with noise."""
    random = np.random.default_rng(seed)
    numbers, scores = {}, {}
    for name, (mean, sd) in SHAPES.items():
        latent = random.normal(size=(count, 4))
        quality = (latent @ [0.8, 0, 0.4, 0] + random.normal(0, 0.4, count)) / np.sqrt(0.96)
        numbers[name] = mean + np.array([1, sd, sd, sd]) * latent
        scores[name] = RANGES[name].from_unit(0.55 + 0.15 * quality)
    return numbers, scores


def fitted(form: str = "with_target_essays", without: str = "new", **changed: np.ndarray) -> TransferRegression:
    numbers, scores = prompts()
    sources = {name: rows for name, rows in numbers.items() if name != without}
    return TransferRegression.fit(sources, scores | changed, RANGES, form)


class TestTheNewPrompt:
    def test_it_is_ranked_though_its_numbers_have_another_unit(self):
        numbers, scores = prompts()
        raw = fitted().adapted(numbers["new"], RANGES["new"]).of_numbers(numbers["new"])
        assert pearsonr(raw, scores["new"]).statistic > 0.85

    @pytest.mark.parametrize("unit", [1e-3, 1e3])
    def test_its_unit_has_no_effect(self, unit):
        numbers, _ = prompts()
        model = fitted()
        changed = numbers["new"] * np.array([1, unit, unit, unit]) - 7
        one = model.adapted(numbers["new"], RANGES["new"]).of_numbers(numbers["new"])
        other = model.adapted(changed, RANGES["new"]).of_numbers(changed)
        np.testing.assert_allclose(one, other)

    def test_its_scores_have_the_guessed_mean_and_sd(self):
        """The mean of the source prompts' means; of their sds, which are alike on [0, 1], the same times the spread."""
        skewed, model = np.exp(prompts()[0]["new"]), fitted()  # so that some are clamped
        unit = RANGES["new"].to_unit(model.adapted(skewed, RANGES["new"]).of_numbers(skewed))
        assert unit.mean() == pytest.approx(model.levels[:, 0].mean())
        assert unit.std() == pytest.approx(model.spread * 0.15, rel=0.15)
        assert model.spread in SPREADS

    def test_the_guessed_sd_falls_with_the_number_of_score_points(self):
        numbers, scores = prompts()
        wide = {}
        for name, one in scores.items():
            unit, steps = RANGES[name].to_unit(one), RANGES[name].count - 1
            wide[name] = RANGES[name].from_unit(0.5 + 0.3 / np.sqrt(steps) * (unit - unit.mean()) / unit.std())
        model = fitted(**wide)
        few, many = (
            one.to_unit(model.adapted(numbers["new"], one).of_numbers(numbers["new"])).std()
            for one in (ScoreRange(0, 3), ScoreRange(0, 48))
        )
        assert 2 < few / many < np.sqrt(48 / 3)  # of few prompts the line is drawn flatter

    @pytest.mark.parametrize(("times", "counted"), [(0.7, 0.7), (1.4, 1.4), (0.01, 0.5), (100, 2)])
    def test_the_guessed_sd_goes_with_that_of_lengths(self, times, counted):
        """As far as source prompts' go, whose sds of lengths, and of scores, are here 0.5 to 2 times the new one's."""
        numbers, scores = prompts()
        for name, factor in (("a", 0.5), ("b", 2.0)):
            numbers[name][:, 0] *= factor
            scores[name] = RANGES[name].from_unit(0.5 + factor * (RANGES[name].to_unit(scores[name]) - 0.5))
        model = TransferRegression.fit({name: numbers[name] for name in "abcd"}, scores, RANGES)
        plain, changed = numbers["new"], numbers["new"] * np.array([times, 1, 1, 1])
        one, other = (model.adapted(each, RANGES["new"]).of_numbers(each).std() for each in (plain, changed))
        assert other / one == pytest.approx(counted, rel=0.2)

    def test_strict_sees_nothing_of_it_but_its_range(self):
        """So that one essay has the score that it has among others."""
        numbers, _ = prompts()
        raw = fitted("strict").strict(RANGES["new"]).of_numbers(numbers["a"])
        alone = fitted("strict").strict(RANGES["new"]).of_numbers(numbers["a"][3:4])
        assert raw[3] == pytest.approx(alone[0])
        with pytest.raises(DataError, match="by its essays"):
            fitted().strict(RANGES["new"])


class TestTheSourcePrompts:
    @pytest.mark.parametrize("form", FORMS)
    def test_each_counts_alike(self, form):
        """Essays that stand there ten times change nothing."""
        numbers, scores = prompts()
        sources = {name: rows for name, rows in numbers.items() if name != "new"}
        once = TransferRegression.fit(sources, scores, RANGES, form)
        tenfold = sources | {"b": np.repeat(sources["b"], 10, axis=0)}
        again = TransferRegression.fit(tenfold, scores | {"b": np.repeat(scores["b"], 10)}, RANGES, form)
        np.testing.assert_allclose(once.coefficients, again.coefficients, atol=1e-9)
        np.testing.assert_allclose(once.levels, again.levels)

    def test_the_accuracy_is_that_of_prompts_left_out(self):
        """Where one prompt's scores fall as the others' rise, it is predicted upside down."""
        _, scores = prompts()
        honest = fitted()
        turned = fitted(a=RANGES["a"].from_unit(1 - RANGES["a"].to_unit(scores["a"])))
        assert honest.accuracy > 0.85
        assert turned.accuracy < honest.accuracy - 0.4

    def test_guesses_are_off_by_what_left_out_prompts_show(self):
        """Means .4, .5, .6 and .7: each is guessed by the mean of the three others."""
        moved = {
            name: RANGES[name].from_unit(level + 0.1 * np.tile([-1, 1], 60))
            for name, level in zip("abcd", (0.4, 0.5, 0.6, 0.7), strict=True)
        }
        mean_error, _ = fitted(**moved).guess_errors
        expected = [level - (2.2 - level) / 3 for level in (0.4, 0.5, 0.6, 0.7)]
        assert mean_error == pytest.approx(np.sqrt(np.mean(np.square(expected))))

    def test_one_is_enough_to_rank_by(self):
        numbers, scores = prompts()
        model = TransferRegression.fit({"a": numbers["a"]}, scores, RANGES)
        raw = model.adapted(numbers["new"], RANGES["new"]).of_numbers(numbers["new"])
        assert pearsonr(raw, scores["new"]).statistic > 0.8

    def test_none_is_refused_and_so_are_equal_scores(self):
        with pytest.raises(DataError, match="there is none"):
            TransferRegression.fit({}, {}, {})
        with pytest.raises(DataError, match=r"Prompt a: all of its scores are 3\."):
            fitted(a=np.full(120, 3.0))


class TestAFewScores:
    def gap(self, count: int) -> tuple[float, float]:
        """How far predictions' mean and sd are from those of scores that no source prompt has, over draws of labels."""
        numbers, scores = prompts()
        unit = RANGES["new"].to_unit(scores["new"])
        truth = RANGES["new"].from_unit(0.8 + 2 * (unit - unit.mean()))
        # One source prompt's scores vary twice as much as the others', so that guesses are known to be far off.
        wide = RANGES["a"].from_unit(0.5 + 2 * (RANGES["a"].to_unit(scores["a"]) - 0.5))
        model, gaps = fitted(a=wide), []
        for seed in range(20):
            drawn = np.random.default_rng(seed).permutation(len(truth))[:count]
            labels = (numbers["new"][drawn], truth[drawn]) if count else None
            raw = model.adapted(numbers["new"], RANGES["new"], labels).of_numbers(numbers["new"])
            gaps.append((abs(raw.mean() - truth.mean()), abs(np.log(raw.std() / truth.std()))))
        return tuple(np.mean(gaps, axis=0).tolist())

    def test_the_more_the_nearer(self):
        means, sds = zip(*(self.gap(count) for count in (0, 10, 50, 120)), strict=True)
        assert list(means) == sorted(means, reverse=True)
        assert list(sds) == sorted(sds, reverse=True)
        assert means[0] > 3 * means[-1]
        assert sds[0] > 10 * sds[-1]

    def test_one_score_moves_the_mean_alone(self):
        assert self.gap(1)[1] == pytest.approx(self.gap(0)[1])
        assert self.gap(1)[0] < self.gap(0)[0]

    def test_they_say_what_counts_on_this_prompt(self):
        """The second number, of which source prompts know nothing, makes half of the new one's scores."""
        numbers, scores = prompts()
        new = numbers["new"]
        truth = RANGES["new"].to_unit(scores["new"]) + 0.15 * (new[:, 1] - 50) / 3
        model, rest = fitted(), slice(60, None)
        found = []
        for count in (0, 10, 60):
            labels = (new[:count], RANGES["new"].from_unit(truth[:count])) if count else None
            raw = model.adapted(new, RANGES["new"], labels).of_numbers(new[rest])
            found.append(pearsonr(raw, truth[rest]).statistic)
        assert found == sorted(found)
        assert found[-1] > found[0] + 0.15

    def test_where_they_say_what_source_prompts_say_the_order_stays(self):
        numbers, scores = prompts()
        model, new = fitted(), numbers["new"]
        without = model.adapted(new, RANGES["new"]).of_numbers(new)
        marked = essays_to_mark(without, 25)
        raw = model.adapted(new, RANGES["new"], (new[marked], scores["new"][marked])).of_numbers(new)
        assert pearsonr(raw, without).statistic > 0.98

    def test_they_are_chosen_all_along_the_predicted_order(self):
        raw = np.random.default_rng(0).normal(size=103)
        chosen = essays_to_mark(raw, 10)
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        parts = np.array_split(np.sort(raw), 10)
        assert [np.isin(part, raw[chosen]).sum() for part in parts] == [1] * 10
        assert essays_to_mark(raw, 10, seed=1).tolist() != chosen.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_its_arrays_predict_as_it_does(form):
    numbers, _ = prompts()
    model = fitted(form)
    again = TransferRegression.from_arrays(model.to_arrays())
    assert (again.form, again.sources, again.spread, again.own) == (form, model.sources, model.spread, model.own)
    one, other = (
        each.strict(RANGES["new"]) if form == "strict" else each.adapted(numbers["new"], RANGES["new"])
        for each in (model, again)
    )
    np.testing.assert_array_equal(one.of_numbers(numbers["new"]), other.of_numbers(numbers["new"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("levels", np.ones((3, 4))),
        ("levels", np.zeros((4, 4))),
        ("coefficients", np.full(4, np.nan)),
        ("chosen", np.ones(4)),
        ("mean", np.ones(3)),
    ],
)
def test_damaged_arrays_are_refused(name, value):
    with pytest.raises(CheckpointError):
        TransferRegression.from_arrays(fitted("strict").to_arrays() | {name: value})
