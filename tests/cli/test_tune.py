"""`aes-dynloss tune`: what it tries, how it judges, what it leaves."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml
from command_line import command
from small_run import read_rows, small_essays, write_small_run

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, TrainingError
from aes_dynloss.essays.finetune import tuning
from aes_dynloss.essays.finetune.tuning import CANDIDATES, Trial, candidates

TRIALS = {
    "strings": {"preset": "fast"},
    "trees": {"preset": None, "model.kind": "boosting"},
    "no_such": {"preset": None, "model.kind": "divination"},
}
QUICK = [
    "evaluation.resamples=100",
    "evaluation.page=false",
    "evaluation.floors=false",
    "evaluation.screen=false",
    "data.split.cross_fit=3",
]


def tuned(folder, *words, trials=TRIALS):
    (folder / "trials.yaml").write_text(yaml.safe_dump(trials, sort_keys=False), encoding="utf-8")
    named = ["--trials", folder / "trials.yaml"]
    return command("tune", folder / "essays.csv", "-o", folder / "search", *named, *QUICK, *words)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    pd.DataFrame(small_essays()).to_csv(folder / "essays.csv", index=False)
    return folder, tuned(folder)


def test_what_it_leaves(searched):
    folder, outcome = searched
    assert outcome.code == 0, outcome.err
    rows = {row["trial"]: row for row in read_rows(folder / "search/trials.csv")}
    assert list(rows) == list(TRIALS)
    assert (
        "model.kind: input should be 'encoder', 'strings', 'boosting', 'forest' or 'transfer'"
        in rows["no_such"]["note"]
    )
    best = max(("strings", "trees"), key=lambda name: float(rows[name]["qwk"]))
    assert f"Best: {best}, of 2 settings" in outcome.err
    assert "Verdict: QWK is " in outcome.out
    config = folder / "search/config.yaml"
    assert read_mapping(config)["preset"] == TRIALS[best]["preset"]
    assert command("finetune", config, "--print-config").code == 0
    scored = command("score", folder / "search/model", folder / "essays.csv")
    assert (scored.code, len(scored.out.splitlines())) == (0, 61)


def test_each_parts_scores_are_of_the_setting_that_is_best_on_the_others(searched):
    folder, _ = searched
    runs = {name: folder / "search/trials" / name for name in ("strings", "trees")}
    inner = {name: pd.read_csv(run / "predictions_inner.csv") for name, run in runs.items()}
    tests = {name: pd.read_csv(run / "predictions_test.csv").set_index("essay_id") for name, run in runs.items()}
    found = pd.read_csv(folder / "search/predictions_test.csv").set_index("essay_id")
    assert len(found) == 60
    for part in range(3):
        judged = {name: tuning._judged(run)[str(part)] for name, run in runs.items()}
        own = tests[max(judged, key=judged.get)]
        rows = found.index[found["part"] == part]
        assert found.loc[rows, "raw"].tolist() == own.loc[rows, "raw"].tolist()
        for table in inner.values():  # no essay of the part had a say
            assert not set(table["essay_id"][table["part"] == part]) & set(rows)


def test_what_is_done_is_not_done_again(searched):
    folder, first = searched
    before = {path: path.stat().st_mtime_ns for path in (folder / "search/trials").rglob("predictions_test.csv")}
    again = tuned(folder)
    assert (again.code, again.out) == (0, first.out)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    other = tuned(folder, "data.split.seed=5")
    assert other.code == 2
    assert "data.split.seed was 0, now 5" in other.error


def test_time_that_is_up(searched, tmp_path):
    folder, _ = searched
    (tmp_path / "essays.csv").write_bytes((folder / "essays.csv").read_bytes())
    outcome = tuned(tmp_path, "--minutes", "0.0001")
    assert outcome.code == 0
    strings, trees, _ = read_rows(tmp_path / "search/trials.csv")
    assert (float(strings["qwk"]) > 0, trees["qwk"], trees["note"]) == (True, "", "not tried within --minutes 0.0001")


def test_a_trial_that_diverges_ends_no_search(searched, tmp_path, monkeypatch):
    """Nor does it when the search is taken up again, where it would diverge again."""
    folder, _ = searched
    (tmp_path / "essays.csv").write_bytes((folder / "essays.csv").read_bytes())
    tried = tuning._tried

    def diverging(values, name, changes, folder):
        if name == "wild":
            (folder / tuning.TRIALS / name).mkdir(parents=True, exist_ok=True)
            (folder / tuning.TRIALS / name / tuning.CONFIG).write_text("begun: true", encoding="utf-8")
            raise TrainingError("After step 3 the loss is nan, expected a finite number.")
        return tried(values, name, changes, folder)

    monkeypatch.setattr(tuning, "_tried", diverging)
    for _ in range(2):
        outcome = tuned(tmp_path, trials={"wild": {"training.head_learning_rate": 9.0}, "fast": {"preset": "fast"}})
        assert outcome.code == 0, outcome.err
        rows = {row["trial"]: row for row in read_rows(tmp_path / "search/trials.csv")}
        assert "After step 3 the loss is nan" in rows["wild"]["note"]
        assert float(rows["fast"]["qwk"]) > 0


def test_nothing_that_can_be_tried(searched, tmp_path):
    folder, _ = searched
    (tmp_path / "essays.csv").write_bytes((folder / "essays.csv").read_bytes())
    outcome = tuned(tmp_path, trials={"no_such": TRIALS["no_such"]})
    assert outcome.code == 2
    assert "trial no_such has 1 fault" in outcome.error
    assert "keys and values" in tuned(tmp_path, trials={"a": 3}).error


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"data.split.cross_fit": 4}, "data.split.cross_fit"),
        ({"data.split.seed": 5}, "data.split.seed"),
        ({"data": {"source": "other.csv"}}, "data"),
        ({"data.keep_prompts": ["river"]}, "data.keep_prompts"),
        ({"data.untrusted": "standardise"}, "data.untrusted"),  # other scores to be judged by
        ({"data.balance": "inverse_frequency"}, None),
        ({"data.augmentation.share": 0.2}, None),
    ],
)
def test_trials_are_compared_on_the_same_parts(tmp_path, monkeypatch, changes, refused):
    """What would divide the essays otherwise is refused before any is tried; how they are learned from may differ."""
    pd.DataFrame(small_essays()).to_csv(tmp_path / "essays.csv", index=False)

    def trying(*_):
        raise ConfigError("It is tried.")

    monkeypatch.setattr(tuning, "_tried", trying)
    outcome = tuned(tmp_path, trials={"fast": {"preset": "fast"}, "other": {"preset": "fast", **changes}})
    assert outcome.code == 2
    told = f"Trial other sets {refused}, yet trials are compared on the same essays in the same parts."
    assert outcome.error.startswith(told if refused else "It is tried.")
    assert not (tmp_path / "search").exists() or not refused


def test_a_configuration_is_judged_on_dev(tmp_path):
    run = write_small_run(tmp_path)
    (tmp_path / "trials.yaml").write_text(yaml.safe_dump({"slow": {"training.epochs": 1}, "as_given": {}}))
    outcome = command("tune", run, "-o", tmp_path / "search", "--trials", tmp_path / "trials.yaml")
    assert outcome.code == 0, outcome.err
    rows = {row["trial"]: float(row["qwk"]) for row in read_rows(tmp_path / "search/trials.csv")}
    for name, qwk in rows.items():
        dev = tuning._judged(tmp_path / "search/trials" / name)
        assert qwk == pytest.approx(dev[""], abs=1e-6)
    best = max(rows, key=rows.get)
    assert outcome.out.splitlines()[0].startswith("prompt")
    assert (tmp_path / "search/model/config.json").read_bytes() == (
        tmp_path / "search/trials" / best / "model/config.json"
    ).read_bytes()


class TestCandidates:
    def test_of_a_table_those_whose_encoder_is_here(self, monkeypatch):
        values = {"data": {"source": "made-up-essays"}}
        monkeypatch.setattr(tuning, "is_installed", lambda _: True)
        assert list(candidates(values, table=True)) == list(CANDIDATES)
        monkeypatch.setattr(tuning, "is_installed", lambda _: False)
        assert list(candidates(values, table=True)) == ["fast", "boosting"]
        monkeypatch.setattr(tuning, "is_installed", lambda name: "mpnet" not in name)
        assert list(candidates(values, table=True)) == [name for name in CANDIDATES if name != "best"]

    @pytest.mark.parametrize("name", CANDIDATES)
    def test_every_one_is_a_configuration(self, name):
        values = tuning._configuration({"data": {"source": "made-up-essays"}}, CANDIDATES[name])
        tuning.validate(tuning.FinetuneConfig, values, name)

    def test_of_a_configuration_its_rates_and_losses(self):
        values = {"data": {"source": "made-up-essays"}, "training": {"head_learning_rate": 0.01}}
        found = candidates(values, table=False)
        assert found["head_learning_rate_x2"] == {"training.head_learning_rate": 0.02}
        assert {"learning_rate_x0.5", "loss_huber"} < found.keys()
        assert list(candidates({**values, "model": {"kind": "boosting"}, "training": {}}, table=False)) == ["as_given"]

    def test_mean_over_parts(self):
        assert Trial("a", {}, {"0": 0.5, "1": 0.7}).mean == pytest.approx(0.6)
