"""Postprocessing of ensembles: fitted on the mean over members, on essays that none was trained on, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_encoder import write_tiny_encoder
from tiny_scorer import TWO_PROMPTS, tiny_scorer

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays.ensembles.ensembling import ensemble_runs
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.measures.calibration import RESAMPLES, CutPoints, RescalingLine, fit_cut_points, fit_rescaling

RANGES = {scale.prompt.id: scale.prompt.range for scale in TWO_PROMPTS}
FITS = {
    "rescale": lambda raw, reference, prompt: fit_rescaling(raw, reference),
    "cut_points": lambda raw, reference, prompt: fit_cut_points(raw, reference, RANGES[prompt], resamples=RESAMPLES),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    return folder / "model"


def dev_table(seed: int, essays: range, prompts=RANGES) -> pd.DataFrame:
    """Made-up dev predictions of one run; an essay's human score hangs on its number, its raw on the run too.

    The prompts' essays have the same numbers for ids.
    """
    parts = []
    for prompt, score_range in prompts.items():
        random = np.random.default_rng(seed)
        human = score_range.points[np.array([number * 7 % 11 % score_range.count for number in essays], dtype=int)]
        raw = score_range.points.mean() + 0.3 * (human - human.mean()) + random.normal(0, 0.2 + seed / 5, len(essays))
        columns = {"essay_id": [str(number) for number in essays], "prompt_id": prompt}
        parts.append(pd.DataFrame(columns | {"reference": human, "raw": raw, "score": score_range.to_point(raw)}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def make_run(model, tmp_path):
    """Makes the folder of a run: a model, and the dev predictions that are given."""

    def made(name: str, dev: pd.DataFrame | None, source: Path = model) -> Path:
        folder = tmp_path / name
        shutil.copytree(source, folder / "model")
        if dev is not None:
            dev.to_csv(folder / "predictions_dev.csv", index=False)
        return folder

    return made


def by_hand(kind: str, tables: list[pd.DataFrame], essays: range) -> dict[str, RescalingLine | CutPoints]:
    """The rules fitted on the mean over runs of some essays, found one by one."""
    rules = {}
    for prompt in RANGES:
        raw, reference = [], []
        for number in essays:
            rows = [table[(table["essay_id"] == str(number)) & (table["prompt_id"] == prompt)] for table in tables]
            raw.append(sum(row["raw"].item() for row in rows) / len(rows))
            reference.append(rows[0]["reference"].item())
        rules[prompt] = FITS[kind](np.array(raw), np.array(reference), prompt)
    return rules


def check_rules(found: Postprocessing, kind: str, expected: dict[str, RescalingLine | CutPoints]) -> None:
    assert found.kind == kind
    assert found.fitted.keys() == expected.keys()
    for prompt, rule in expected.items():
        other = found.fitted[prompt]
        if isinstance(rule, RescalingLine):
            assert (other.slope, other.intercept) == pytest.approx((rule.slope, rule.intercept), abs=1e-9)
        else:
            assert other.cuts == pytest.approx(rule.cuts, abs=1e-9)


def differ(rules: dict, others: dict) -> bool:
    return all(
        abs(rule.slope - others[prompt].slope) > 0.02
        if isinstance(rule, RescalingLine)
        else np.abs(np.subtract(rule.cuts, others[prompt].cuts)).max() > 0.02
        for prompt, rule in rules.items()
    )


@pytest.mark.parametrize("kind", FITS)
def test_fitted_on_the_mean_over_seeds(make_run, kind):
    tables = [dev_table(seed, range(40)) for seed in (1, 2, 3)]
    runs = [make_run(f"seed_{seed}", table) for seed, table in enumerate(tables)]
    expected = by_hand(kind, tables, range(40))
    for table in tables:  # and neither on one run
        assert differ(expected, by_hand(kind, [table], range(40)))
    check_rules(ensemble_runs(runs, kind).postprocessing, kind, expected)
    check_rules(ensemble_runs([runs[2], runs[0], runs[1]], kind).postprocessing, kind, expected)
    tables[1].sample(frac=1, random_state=0).to_csv(runs[1] / "predictions_dev.csv", index=False)
    check_rules(ensemble_runs(runs, kind).postprocessing, kind, expected)


def test_without_a_postprocessing_nothing_is_read(make_run):
    runs = [make_run("a", None), make_run("b", None)]
    (runs[0] / "predictions_dev.csv").write_text("damaged")
    assert ensemble_runs(runs).postprocessing == Postprocessing()
    assert ensemble_runs([run / "model" for run in runs]).postprocessing == Postprocessing()


class TestFolds:
    """A dev essay of one fold may be a training essay of another."""

    @pytest.mark.parametrize("kind", FITS)
    def test_only_essays_that_are_dev_in_every_run(self, make_run, kind):
        tables = [dev_table(1, range(30)), dev_table(2, range(10, 40)), dev_table(3, range(5, 25))]
        runs = [make_run(f"fold_{number}", table) for number, table in enumerate(tables)]
        expected = by_hand(kind, tables, range(10, 25))
        assert differ(expected, by_hand(kind, tables[:2], range(10, 30)))
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
            check_rules(ensemble_runs([runs[place] for place in order], kind).postprocessing, kind, expected)

    @pytest.mark.parametrize("kind", FITS)
    def test_none_in_common(self, make_run, kind):
        runs = [make_run("fold_0", dev_table(1, range(20))), make_run("fold_1", dev_table(1, range(20, 40)))]
        words = (
            rf"^{kind} is fitted on essays that are dev essays in the run of every member, 2 of each prompt or more; "
            r"prompt letter has 0, prompt notice has 0\. A dev essay of one fold may be a training essay of another, .*"
            r"Use --postprocessing none, or members of one fold\.$"
        )
        with pytest.raises(ConfigError, match=words):
            ensemble_runs(runs, kind)
        assert ensemble_runs(runs, "none").postprocessing == Postprocessing()

    def test_an_id_is_that_of_another_essay_in_another_prompt(self, make_run):
        letters, notices = ({prompt: RANGES[prompt]} for prompt in RANGES)
        runs = [make_run("a", dev_table(1, range(20), letters)), make_run("b", dev_table(1, range(20), notices))]
        with pytest.raises(ConfigError, match="prompt letter has 0, prompt notice has 0"):
            ensemble_runs(runs, "rescale")

    @pytest.mark.parametrize(("shared", "enough"), [(1, False), (2, True)])
    def test_two_of_a_prompt_are_the_fewest(self, make_run, shared, enough):
        first = dev_table(1, range(20))
        second = dev_table(2, range(20))
        second = second[(second["prompt_id"] == "letter") | (second["essay_id"].astype(int) < shared)]
        runs = [make_run("a", first), make_run("b", second)]
        if enough:
            assert ensemble_runs(runs, "rescale").postprocessing.fitted.keys() == RANGES.keys()
        else:
            with pytest.raises(ConfigError, match=r"2 of each prompt or more; prompt notice has 1\. A dev essay"):
                ensemble_runs(runs, "rescale")


def test_a_prompt_that_the_ensemble_does_not_know_needs_none(model, make_run, tmp_path):
    scorer = EncoderScorer.from_pretrained(model)
    letter = ScoringModel(scorer.model.encoder, ModelConfig(), TWO_PROMPTS[:1])
    EncoderScorer(letter, scorer.tokenizer).save_pretrained(tmp_path / "letter")
    tables = [dev_table(1, range(20)), dev_table(2, range(20), {"letter": RANGES["letter"]})]
    runs = [make_run("both", tables[0]), make_run("one", tables[1], tmp_path / "letter")]
    fitted = ensemble_runs(runs, "rescale").postprocessing.fitted
    assert list(fitted) == ["letter"]


class TestRefusals:
    def test_other_human_scores(self, make_run):
        tables = [dev_table(1, range(20)), dev_table(2, range(20))]
        tables[1].loc[tables[1].index[7], "reference"] = 3.0
        assert tables[0]["reference"][7] != 3
        runs = [make_run("a", tables[0]), make_run("b", tables[1])]
        found = f"{tables[0]['reference'][7]:g}"
        words = (
            rf"Essay 7 of prompt letter has the human score {found} in the run of .*a/model and 3 in that of .*b/model"
        )
        with pytest.raises(DataError, match=words):
            ensemble_runs(runs, "rescale")

    def test_no_predictions(self, model, make_run, tmp_path):
        runs = [make_run("a", dev_table(1, range(20))), make_run("b", None)]
        with pytest.raises(DataError, match=r"The member .*b/model comes without its run's predictions_dev\.csv, from"):
            ensemble_runs(runs, "rescale")
        dev_table(1, range(20)).to_csv(tmp_path / "predictions_dev.csv", index=False)
        elsewhere = Path(shutil.copytree(model, tmp_path / "copy"))  # those beside it need not be its own
        with pytest.raises(DataError, match=r"The member .*copy comes without its run's predictions_dev\.csv"):
            ensemble_runs([runs[0], elsewhere], "rescale")

    def test_the_model_within_a_run_is_as_good_as_the_run(self, make_run, monkeypatch):
        runs = [make_run(str(seed), dev_table(seed, range(20))) for seed in (1, 2)]
        expected = ensemble_runs(runs, "rescale").postprocessing
        assert ensemble_runs([run / "model" for run in runs], "rescale").postprocessing == expected
        monkeypatch.chdir(runs[0] / "model")
        assert ensemble_runs([Path(), Path("../../2")], "rescale").postprocessing == expected

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda table: table.drop(columns="raw"), "has no column 'raw'; "),
            (
                lambda table: table.drop(columns="prompt_id"),
                "has no column 'prompt_id'; ",
            ),
            (lambda table: table.assign(reference=np.nan), "holds no human scores"),
            (
                lambda table: table.assign(reference=17),
                "reference 17 is no score point of prompt letter's range 1 to 6",
            ),
            (lambda table: table.assign(raw="x"), "raw 'x' is not a finite number"),
        ],
    )
    def test_damaged_predictions(self, make_run, change, words):
        runs = [make_run("a", dev_table(1, range(20))), make_run("b", change(dev_table(2, range(20))))]
        with pytest.raises(DataError, match=words):
            ensemble_runs(runs, "rescale")

    def test_a_run_without_a_model(self, make_run, tmp_path):
        (tmp_path / "begun").mkdir()
        with pytest.raises(CheckpointError, match=r"begun has no config\.json\. Give a run of finetune"):
            ensemble_runs([make_run("a", None), tmp_path / "begun"])


def test_what_is_worth_a_word(make_run, caplog):
    tables = [dev_table(seed, range(20)) for seed in (1, 2)]
    for table in tables:
        table.loc[table["prompt_id"] == "notice", "reference"] = 1.5
    runs = [make_run(str(number), table) for number, table in enumerate(tables)]
    found = ensemble_runs(runs, "rescale").postprocessing.fitted
    assert (found["notice"].slope, found["notice"].intercept) == (1, 0)
    assert caplog.messages == [
        "1 of the 2 members repeat another one, which counts the more for it.",
        "Prompt notice: all human scores on dev are equal, so predictions are not rescaled.",
    ]
