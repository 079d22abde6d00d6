"""Stacks of arms: weights and rescaling from out-of-fold predictions of the same stratum, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from benchmark_figures import build, half_up, of_prompt, sklearn_kappa
from scored_runs import RANGES, essay_table, predicted, scored_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.measures.stacking import DEV_SHRINKAGE, fit_weights
from aes_dynloss.reports.arms import dev_halves, split_by_prompt
from aes_dynloss.reports.benchmark import ScoredRun
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.reports.predictions import PredictionTable, check_predictions
from aes_dynloss.reports.stacks import stacked_runs
from aes_dynloss.tables.score_range import ScoreRange

STRATA = ("fold_0", "fold_1")


def stackable(arm: str, stratum: str, seed: str = "0", noise: float = 0.15, train: int = 60) -> ScoredRun:
    """A run with out-of-fold predictions of train essays."""
    run = scored_run(arm, stratum, seed, noise)
    table = predicted(essay_table(stratum, train, RANGES, "train"), f"{arm} {stratum} {seed} train", noise)
    return replace(run, out_of_fold=check_predictions(table, ranges=RANGES))


def arms_of(**noises: float) -> dict[str, list[ScoredRun]]:
    return {arm: [stackable(arm, stratum, noise=noise) for stratum in STRATA] for arm, noise in noises.items()}


ARMS = arms_of(ridge=0.1, kernel=0.12, weak=0.5)
STACK = {"stack": list(ARMS)}
REPORT = build(ARMS, "ridge", stacks=STACK)


def test_its_figures_are_those_of_independent_code():
    entry = REPORT["arms"]["stack"]
    assert (entry["ensemble_of"], entry["members"]) == (list(ARMS), 3)
    for prompt in RANGES:
        kappas = []
        for number, stratum in enumerate(STRATA):
            runs = [ARMS[arm][number] for arm in sorted(ARMS)]
            fold, test = ([of_prompt(getattr(run, part), prompt) for run in runs] for part in ("out_of_fold", "test"))
            human, raw = fold[0]["reference"].to_numpy(), np.column_stack([table["raw"] for table in fold])
            weights = fit_weights(raw, human, fold[0]["essay_id"].tolist())
            stored = entry["weights"][stratum][prompt]
            assert stored == pytest.approx({f"{arm}, 0": one for arm, one in zip(sorted(ARMS), weights, strict=True)})
            assert stored["weak, 0"] < 0.15
            own, new = raw @ weights, np.column_stack([table["raw"] for table in test]) @ weights
            score = half_up(prompt, (new - own.mean()) / own.std() * human.std() + human.mean())
            kappas.append(sklearn_kappa(prompt, test[0]["reference"], score))
        assert entry["prompts"][prompt]["qwk"] == pytest.approx(np.mean(kappas), abs=1e-12)
    mixture = build(ARMS, "ridge", mixtures={"mean": list(ARMS)})["arms"]["mean"]["mean"]
    assert entry["mean"]["qwk_rescaled"] > mixture["qwk_rescaled"] + 0.005  # both by dev
    assert entry["mean"]["qwk_rescaled"] != entry["mean"]["qwk"]


def test_weights_are_in_the_report_and_only_there():
    assert [arm for arm, entry in REPORT["arms"].items() if "weights" in entry] == ["stack"]
    assert Benchmark.from_dict(REPORT.to_dict()) == REPORT
    (note,) = [note for note in REPORT["notes"] if "stack" in note]
    assert note.startswith(
        "stack: a stack's weights by stratum and prompt, and the rescaling of its scores, are fitted"
    )
    plain = build(ARMS, "ridge")
    assert plain["arms"] == {arm: REPORT["arms"][arm] for arm in ARMS}
    assert "stack" not in str(plain["notes"])


def with_test_scores(run: ScoredRun, part: str) -> ScoredRun:
    """The run with other human scores in a part."""
    table = getattr(run, part)
    turned = {prompt: span.low + span.high for prompt, span in RANGES.items()}
    human = table.table["prompt_id"].map(turned) - table.table["reference"]
    return replace(run, **{part: replace(table, table=table.table.assign(reference=human))})


@pytest.mark.parametrize("part", ["test", "dev"])
def test_no_human_score_of_test_and_dev_reaches_scores_and_weights(part):
    runs = [replace(run, seed=arm) for arm in ARMS for run in ARMS[arm]]
    expected, weights = stacked_runs(runs)
    found, others = stacked_runs([with_test_scores(run, part) for run in runs])
    assert others == weights
    for one, other in zip(expected, found, strict=True):
        assert one.test.table["score"].tolist() == other.test.table["score"].tolist()
    changed, _ = stacked_runs([with_test_scores(run, "out_of_fold") for run in runs])
    assert changed[0].test.table["score"].tolist() != expected[0].test.table["score"].tolist()


PARTLY_TRAINED = {**ARMS, "kernel": [replace(run, out_of_fold=None) for run in ARMS["kernel"]]}


def runs_of(arms: dict[str, list[ScoredRun]]) -> list[ScoredRun]:
    return [replace(run, seed=arm) for arm, runs in arms.items() for run in runs]


class TestFittedOnDev:
    """Some members leave no out-of-fold predictions: they were trained in epochs."""

    def test_weights_and_lines_are_those_of_dev(self):
        runs = runs_of(PARTLY_TRAINED)
        stacks, weights = stacked_runs(runs)
        parts = [part for run in runs for part in split_by_prompt(run)]
        for stack in stacks:
            (prompt,) = stack.test.ranges
            own = {
                part.seed: part.dev.table
                for part in parts
                if part.stratum == stack.stratum and prompt in part.test.ranges
            }
            table, raw = own["ridge"], np.column_stack([one["raw"] for one in own.values()])
            human = table["reference"].to_numpy()
            fitted = fit_weights(raw, human, table["essay_id"].tolist(), least_shrinkage=DEV_SHRINKAGE)
            assert weights[stack.stratum][prompt] == pytest.approx(dict(zip(own, fitted, strict=True)))
            assert fitted.min() >= DEV_SHRINKAGE / len(own)
            expected = half_up(prompt, fit_rescaling(raw @ fitted, human).apply(stack.test.table["raw"]))
            assert stack.test.table["score"].tolist() == list(expected)

    def test_human_scores_of_test_reach_nothing(self):
        runs = runs_of(PARTLY_TRAINED)
        expected, weights = stacked_runs(runs)
        found, others = stacked_runs([with_test_scores(run, "test") for run in runs])
        assert others == weights
        for one, other in zip(expected, found, strict=True):
            assert one.test.table["score"].tolist() == other.test.table["score"].tolist()
        assert stacked_runs([with_test_scores(run, "dev") for run in runs])[1] != weights

    def test_the_report_says_so(self):
        report = build(PARTLY_TRAINED, "ridge", stacks={**STACK, "exact": ["ridge", "weak"]})
        notes = [note for note in report["notes"] if "fitted on its members'" in note]
        assert [note.split(":")[0] for note in notes] == ["stack", "exact"]
        assert ["predictions of dev" in note for note in notes] == [True, False]

    def test_each_half_of_dev_is_weighed_by_the_other(self):
        halves = {
            arm: [half for run in runs for half in dev_halves(replace(run, dev=run.out_of_fold, out_of_fold=None))]
            for arm, runs in ARMS.items()
        }
        weights = build(halves, "ridge", stacks=STACK, measured_on="dev")["arms"]["stack"]["weights"]
        assert set(weights) == {f"{stratum}/{half}" for stratum in STRATA for half in "ab"}
        assert weights["fold_0/a"]["2"] != weights["fold_0/b"]["2"]


def test_each_stratum_has_weights_of_its_own():
    better = {"a": (0.05, 0.5), "b": (0.5, 0.05)}
    arms = {
        arm: [stackable(arm, stratum, noise=noise) for stratum, noise in zip(STRATA, noises, strict=True)]
        for arm, noises in better.items()
    }
    weights = build(arms, "a", stacks={"both": ["a", "b"]})["arms"]["both"]["weights"]
    for stratum, arm in zip(STRATA, better, strict=True):
        assert all(by_member[f"{arm}, 0"] > 0.9 for by_member in weights[stratum].values())


def test_seeds_are_members_and_few_essays_keep_equal_weights():
    arms = {arm: [stackable(arm, "fold_0", seed, train=29) for seed in ("1", "2")] for arm in ("a", "b")}
    entry = build(arms, "a", stacks={"both": ["a", "b"]})["arms"]["both"]
    assert entry["members"] == 4
    assert entry["weights"]["fold_0"]["2"] == {f"{arm}, {seed}": 0.25 for arm in "ab" for seed in "12"}


def test_a_stack_is_measured_on_halves_of_dev_too():
    halves = {arm: [half for run in runs for half in dev_halves(run)] for arm, runs in ARMS.items()}
    report = build(halves, "ridge", stacks=STACK, measured_on="dev")
    weights = report["arms"]["stack"]["weights"]
    assert weights == {
        f"{stratum}/{half}": REPORT["arms"]["stack"]["weights"][stratum] for stratum in STRATA for half in "ab"
    }


def traits_of_a_prompt(essays: int, part: str, seed: int) -> dict[str, pd.DataFrame]:
    """Two traits of the same essays on two ranges, of which the machine sees the second one alone."""
    random = np.random.default_rng([essays, seed])
    quality = random.normal(0, 1, essays)
    tables = {}
    for trait, span, noise in (("content", ScoreRange(1, 6), 3.0), ("style", ScoreRange(0, 30), 0.3)):
        unit = (span.high - span.low) / 6
        middle = (span.low + span.high) / 2
        human = span.to_point(middle + unit * (quality + random.normal(0, 0.3, essays)))
        raw = middle + unit * (quality + random.normal(0, noise, essays))
        ids = [f"{part} {number}" for number in range(essays)]
        table = pd.DataFrame(
            {"essay_id": ids, "prompt_id": f"1/{trait}", "trait": trait, "reference": human, "raw": raw}
        )
        tables[trait] = table.assign(score=span.to_point(raw))
    return tables


def trait_run(lacking: int = 0) -> ScoredRun:
    """A run of both, the first few test essays without style."""
    spans = {"1/content": ScoreRange(1, 6), "1/style": ScoreRange(0, 30)}
    parts = {}
    for seed, (part, essays) in enumerate({"test": 40, "dev": 30, "train": 80}.items()):
        content, style = traits_of_a_prompt(essays, part, seed).values()
        style = style[lacking if part == "test" else 0 :]
        parts[part] = check_predictions(pd.concat([content, style], ignore_index=True), ranges=spans)
    return ScoredRun("fold_0", "ridge, 0", parts["test"], parts["dev"], parts["train"])


def test_a_trait_takes_from_what_is_said_of_the_others():
    run = trait_run()
    (alone, _), _ = stacked_runs([run])
    (content, style), weights = stacked_runs([run], across_traits=True)
    assert list(weights["fold_0"]["1/content"]) == ["ridge, 0", "ridge, 0, style"]
    assert weights["fold_0"]["1/content"]["ridge, 0, style"] > 0.8
    assert weights["fold_0"]["1/style"]["ridge, 0"] > 0.8
    fits = [one.test.table[["reference", "raw"]].corr().iloc[0, 1] for one in (alone, content, style)]
    assert fits[1] > fits[0] + 0.3
    by_hand = run.test.table.set_index(["prompt_id", "essay_id"])["raw"]
    own, other = (by_hand[f"1/{trait}"].to_numpy() for trait in ("content", "style"))
    shares = list(weights["fold_0"]["1/content"].values())
    fold = run.out_of_fold.table.set_index(["prompt_id", "essay_id"])["raw"]
    here, there = (fold[f"1/{trait}"].to_numpy() for trait in ("content", "style"))
    expected = shares[0] * own + shares[1] * (here.mean() + (other - there.mean()) / there.std() * here.std())
    found = content.test.table.set_index("essay_id")["raw"]
    np.testing.assert_allclose(found[by_hand["1/content"].index].to_numpy(), expected)


def test_an_essay_without_another_trait_goes_by_its_own():
    whole, part = trait_run(), trait_run(lacking=3)
    found = [stacked_runs([run], across_traits=True)[0][0].test.table.set_index("essay_id") for run in (whole, part)]
    lacking = [f"test {number}" for number in range(3)]
    own = part.test.table.query("trait == 'content'").set_index("essay_id")["raw"]
    np.testing.assert_allclose(found[1]["raw"][lacking], own[lacking])
    np.testing.assert_allclose(found[1]["raw"].drop(lacking), found[0]["raw"].drop(lacking))


def test_raters_who_are_stricter_on_another_trait_move_no_score():
    run = trait_run()

    def lowered(table: PredictionTable) -> PredictionTable:
        moved = table.table.assign(raw=table.table["raw"] - 10 * (table.table["trait"] == "style"))
        return replace(table, table=moved)

    moved = replace(run, **{part: lowered(getattr(run, part)) for part in ("test", "dev", "out_of_fold")})
    raw = [stacked_runs([one], across_traits=True)[0][0].test.table["raw"] for one in (run, moved)]
    np.testing.assert_allclose(raw[1], raw[0])


def test_halves_of_dev_hold_an_essay_with_all_its_traits():
    for half in dev_halves(trait_run()):
        traits = half.test.table.groupby("essay_id")["trait"].nunique()
        assert (traits == 2).all()
        assert len(traits) == 15
    (content, _), _ = stacked_runs([dev_halves(trait_run())[0]], across_traits=True)
    assert content.test.table[["reference", "raw"]].corr().iloc[0, 1] > 0.8


def test_a_trait_without_dev_essays_is_no_fault():
    run = trait_run()
    content = replace(run.dev, table=run.dev.table.query("trait == 'content'"), ranges={"1/content": ScoreRange(1, 6)})
    stacks, weights = stacked_runs([replace(run, dev=content)], across_traits=True)
    assert len(weights["fold_0"]["1/content"]) == len(stacks) == 2


def test_essays_of_one_score_have_no_stack_across_traits():
    with pytest.raises(ConfigError, match="Stacks across traits need essays that are scored on several"):
        stacked_runs([stackable("a", "fold_0")], across_traits=True)


class TestRefusals:
    def refused(self, change, words):
        arms = {**ARMS, "kernel": [change(ARMS["kernel"][0]), ARMS["kernel"][1]]}
        with pytest.raises(DataError, match=words):
            build(arms, "ridge", stacks=STACK)

    def test_an_arm_with_nothing_to_fit_on(self):
        words = r"no dev predictions .* in the run of 'kernel, 0', prompt '(2|10)' of stratum 'fold_0'"
        self.refused(lambda run: replace(run, out_of_fold=None, dev=None), words)

    @pytest.mark.parametrize("part", ["test", "dev"])
    def test_essays_that_it_is_measured_on(self, part):
        words = r"40 essays are in out-of-fold predictions and in the predictions, such as '(t|d)-fold_0-2-0'"
        self.refused(lambda run: replace(run, out_of_fold=getattr(run, part)), words)

    def test_out_of_fold_predictions_of_another_stratum(self):
        """Its members' train essays are not the same."""
        other = ARMS["kernel"][1].out_of_fold
        self.refused(lambda run: replace(run, out_of_fold=other), "have not scored the same essays")

    def test_no_human_scores(self):
        def change(run):
            blank = run.out_of_fold.table.assign(reference=np.nan)
            return replace(run, out_of_fold=replace(run.out_of_fold, table=blank))

        self.refused(change, "hold no human scores to fit weights on")

    def test_other_human_scores(self):
        self.refused(lambda run: with_test_scores(run, "out_of_fold"), "have different human scores")

    @pytest.mark.parametrize("wanted", [{"both": ["ridge", "huber"]}, {"ridge": ["ridge", "kernel"]}])
    def test_what_is_not_there(self, wanted):
        with pytest.raises(ConfigError, match="mixture, stack or choice"):
            build(ARMS, "ridge", stacks=wanted)

    def test_a_name_that_a_mixture_has(self):
        with pytest.raises(ConfigError, match="with its own name"):
            build(ARMS, "ridge", mixtures=STACK, stacks=STACK)


def test_a_trait_of_other_essays_is_no_member():
    run = trait_run()
    table = run.out_of_fold.table
    apart = table["essay_id"].where(table["trait"] == "content", "other " + table["essay_id"])
    moved = replace(run, out_of_fold=replace(run.out_of_fold, table=table.assign(essay_id=apart)))
    _, weights = stacked_runs([moved], across_traits=True)
    assert list(weights["fold_0"]["1/content"]) == ["ridge, 0"]


def test_scales_that_differ_have_no_common_error():
    """A stack's runs are of one prompt and trait each, but its error is of all of them."""
    found = build({"ridge": [trait_run()]}, "ridge", trait_stacks={"stack": ["ridge"]})["arms"]
    assert {arm: entry["traits"]["mcrmse"] for arm, entry in found.items()} == {"ridge": None, "stack": None}
