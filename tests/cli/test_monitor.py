"""A monitor from the shell: products whole or not at all, alarms as exit codes, bad input in one message."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from command_line import command
from drifting_scores import TRAITS, write_run, write_scores, write_traits
from read_page import cells_by_row, read_lone_page

from aes_dynloss.reports.monitor import Monitor
from aes_dynloss.tables.provenance import Provenance, seal

PRODUCTS = {"monitor.html", "monitor.json", "monitor.csv", "provenance.json"}


@pytest.fixture
def programme(tmp_path, monkeypatch):
    """A run, two quiet administrations and one whose group y has lower scores."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    for name, seed, settings in (
        ("spring.csv", 1, {}),
        ("summer.csv", 2, {}),
        ("autumn.csv", 3, {"group_y": -1.5, "lengths": 1.0}),
    ):
        write_scores(tmp_path, name, seed, **settings)
    return tmp_path


def test_quiet_administrations_have_no_alarm(programme):
    outcome = command("monitor", "run", "spring.csv", "--human", "human_spring.csv", "-o", "out", "--fail-on-alarm")
    assert outcome.code == 0, outcome.err
    assert "spring.csv (300 essays) beside training: predictions_test.csv (300): no alarm in" in outcome.out
    assert {path.name for path in (programme / "out").iterdir()} == PRODUCTS
    found = json.loads((programme / "out/monitor.json").read_text(encoding="utf-8"))
    kinds = {one["kind"] for one in found["administrations"][0]["compared"]}
    assert kinds == {"score", "length", "advisory", "agreement"}
    assert command("verify", "out").code == 0


def test_planted_drift_is_found_and_told_in_all_products(programme):
    words = ["monitor", "run/model", "spring.csv", "summer.csv", "autumn.csv", "--subgroup", "group", "-o", "out"]
    words += [word for name in ("spring", "summer", "autumn") for word in ("--human", f"human_{name}.csv")]
    words += ["--feature", "spelling", "--baseline", "spring.csv"]
    assert command(*words).code == 0
    outcome = command(*words, "--force", "--fail-on-alarm")
    assert outcome.code == 3, outcome.err
    monitor = Monitor.read("out/monitor.json", "monitor", "")
    alarms = {(one.prompt, one.kind, one.group) for one in monitor.alarms}
    assert {("a", "length", None), ("a", "score", "y"), ("b", "score", "y")} <= alarms
    assert not {kind for _, kind, _ in alarms} & {"feature", "advisory", "groups"}
    assert not {("b", "length", None), ("a", "score", "x"), ("b", "score", "x")} & alarms
    assert monitor.settings["looks"] == 3
    page = (programme / "out/monitor.html").read_text(encoding="utf-8")
    document = read_lone_page(page, "<script>alert(1)</script>")
    assert len(document.all("figure")) == 3
    assert f"Alarm: {len(alarms)} things have changed" in page
    rows = pd.read_csv("out/monitor.csv")
    assert set(rows["administration"]) == {"spring.csv", "summer.csv", "autumn.csv"}
    assert rows.loc[rows["verdict"] == "flag", "administration"].unique().tolist() == ["autumn.csv"]
    provenance = json.loads((programme / "out/provenance.json").read_text(encoding="utf-8"))
    assert {"autumn.csv", "human_autumn.csv"} <= set(provenance["sources"])
    (programme / "out/monitor.csv").write_text("changed", encoding="utf-8")
    assert command("verify", "out").code == 3


def test_files_of_one_name_are_told_apart(programme):
    for year, name in (("2024", "spring.csv"), ("2025", "summer.csv")):
        (programme / year).mkdir()
        (programme / name).rename(programme / year / "scores.csv")
    outcome = command("monitor", "run", "2025/scores.csv", "--baseline", "2024/scores.csv", "-o", "out")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("2025/scores.csv (300 essays) beside 2024/scores.csv (300): no alarm")
    table = pd.read_csv("2024/scores.csv")
    table.assign(score=9).to_csv("2024/scores.csv", index=False)
    outcome = command("monitor", "run", "2024/scores.csv", "2025/scores.csv", "-o", "other")
    assert outcome.error.startswith("2024/scores.csv: Row 2 of scores.csv (essay 'a0'): score 9 is no score point")


def test_criteria_of_ones_own_and_features_from_a_table(programme):
    table = pd.read_csv("spring.csv")[["essay_id", "prompt_id"]].assign(commas=range(300))
    table.to_csv("features.csv", index=False)
    (programme / "criteria.yaml").write_text("shift: 0.9\npsi: null\nks: {at_most: 0.6}\n", encoding="utf-8")
    words = ["monitor", "run", "spring.csv", "--baseline", "spring.csv", "--features", "features.csv", "-o", "out"]
    assert command(*words, "--criteria", "criteria.yaml").code == 0
    found = json.loads((programme / "out/monitor.json").read_text(encoding="utf-8"))
    assert {name: found["criteria"][name]["threshold"] for name in ("shift", "ks")} == {"shift": 0.9, "ks": 0.6}
    (commas, _) = (one for one in found["administrations"][0]["compared"] if one["name"] == "commas")
    assert commas["measures"]["shift"]["value"] == 0
    assert commas["measures"]["psi"]["verdict"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "few.csv"],
            "30 or more of a prompt are needed in each, found a: 150 and 4",
        ),
        (["run", "other.csv"], "there is no common prompt. Name scores of the same prompts"),
        (["run", "high.csv"], "score 9 is no score point of prompt a's range 1 to 6"),
        (["run", "unscored.csv"], "Neither a column raw nor a column score in unscored.csv"),
        (["run", "spring.csv", "--subgroup", "gender"], "has no column 'gender'"),
        (["run", "spring.csv", "--feature", "spelling"], "predictions_test.csv has no column 'spelling'"),
        (["run", "spring.csv", "--human", "human_few.csv"], "must hold the same essays"),
        (
            ["run", "spring.csv", "--human", "human_high.csv"],
            "Row 3 of human_high.csv (essay 'a0'): reference 9 is no score point of prompt a's range 1 to 6",
        ),
        (
            ["run", "spring.csv", "--human", "human_spring.csv", "--human", "human_spring.csv"],
            "2 --human for 1 NEW_SCORES",
        ),
        (["run", "spring.csv", "./spring.csv"], "spring.csv is named 2 times. Name it once."),
        (["run", "spring.csv", "--baseline", "autumn.csv", "--baseline", "spring.csv"], "--baseline is given 2 times"),
        (["empty", "spring.csv"], "has no config.json. Give a run of finetune"),
        (["bare", "spring.csv"], "has no predictions_test.csv beside its model"),
        (["run", "spring.csv", "--criteria", "wrong.yaml"], "there is no criterion 'smd'"),
        (
            ["run", "spring.csv", "--criteria", "turned.yaml"],
            "The criterion qwk of drift is at most 0.90 (turned.yaml); expected at_least",
        ),
    ],
)
def test_bad_input_is_told_in_one_message_and_leaves_nothing(programme, words, message):
    scores = pd.read_csv("spring.csv")
    scores.iloc[[0, 1, 2, 3, *range(150, 155)]].to_csv("few.csv", index=False)
    scores.assign(prompt_id="c").to_csv("other.csv", index=False)
    scores.assign(score=9).to_csv("high.csv", index=False)
    scores.drop(columns=["raw", "score"]).to_csv("unscored.csv", index=False)
    pd.DataFrame({"essay_id": ["unknown"], "prompt_id": "a", "reference": 3}).to_csv("human_few.csv", index=False)
    high = {"essay_id": ["a1", "a0"], "prompt_id": "a", "reference": [3, 9]}
    pd.DataFrame(high).to_csv("human_high.csv", index=False)
    (programme / "empty").mkdir()
    (programme / "bare/model").mkdir(parents=True)
    (programme / "bare/model/config.json").write_bytes((programme / "run/model/config.json").read_bytes())
    (programme / "wrong.yaml").write_text("smd: 0.1\n", encoding="utf-8")
    (programme / "turned.yaml").write_text("qwk: {at_most: 0.9}\n", encoding="utf-8")
    outcome = command("monitor", *words, "-o", "out")
    assert outcome.code == 2
    assert message in outcome.error
    assert not (programme / "out").exists()


def test_an_existing_monitor_is_not_written_over(programme):
    assert command("monitor", "run", "spring.csv", "-o", "out").code == 0
    assert "is there already" in command("monitor", "run", "spring.csv", "-o", "out").error


@pytest.fixture
def traits(tmp_path, monkeypatch):
    """A run of three traits, two quiet administrations, of which one has a row a trait, and one with lower style."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", traits=True)
    write_traits(tmp_path, "spring.csv", 1)
    write_traits(tmp_path, "summer.csv", 2, long=True)
    write_traits(tmp_path, "autumn.csv", 3, {"style": -0.9})
    return tmp_path


def test_traits_without_drift_have_no_alarm_in_either_form(traits):
    for name in ("spring", "summer"):
        words = ["--subgroup", "group", "--human", f"human_{name}.csv", "--reference-column", "style=st"]
        outcome = command("monitor", "run", f"{name}.csv", *words, "-o", name, "--fail-on-alarm")
        assert outcome.code == 0, outcome.err
        assert f"{name}.csv (300 essays) beside training: predictions_test.csv (300): no alarm in" in outcome.out
        found = Monitor.read(f"{name}/monitor.json", "monitor", "")
        assert found.traits == [*TRAITS]
        assert sum(one.kind == "agreement" for one in found.last.compared) == 5
        assert command("verify", name).code == 0
    outcome = command("monitor", "run", "spring.csv", "--human", "human_spring.csv", "-o", "out")
    assert "--reference-column style=COLUMN" in outcome.error


def test_drift_of_a_trait_is_found_there_and_told_in_all_products(traits):
    words = [word for name in ("spring", "summer", "autumn") for word in ("--human", f"human_{name}.csv")]
    words += ["--reference-column", "style=st", "--subgroup", "group", "-o", "out"]
    outcome = command("monitor", "run", "spring.csv", "summer.csv", "autumn.csv", "--fail-on-alarm", *words)
    assert outcome.code == 3, outcome.err
    alarms = Monitor.read("out/monitor.json", "monitor", "").alarms
    assert {(one.prompt, one.trait, one.kind) for one in alarms} >= {("a", "style", "score")}
    assert {one.trait for one in alarms} == {"style"}
    rows = pd.read_csv("out/monitor.csv")
    flagged = rows[rows["verdict"] == "flag"]
    assert {*flagged["prompt"] + "/" + flagged["trait"]} == {"a/style"}
    assert rows.loc[rows["kind"] == "length", "trait"].isna().all()
    page = (traits / "out/monitor.html").read_text(encoding="utf-8")
    assert "Score, prompt a/style: " in page
    rows_of_page = cells_by_row(read_lone_page(page, "<script>alert(1)</script>"), "traits-table")
    verdicts = {trait: cells[0] for trait, cells in rows_of_page.items()}
    assert [*verdicts] == [*TRAITS]
    assert {trait for trait, verdict in verdicts.items() if verdict.startswith("alarm")} == {"style"}


def test_a_folder_of_scores_of_traits_is_read(traits):
    (traits / "parts").mkdir()
    scores = pd.read_csv("spring.csv")
    for number, part in enumerate((scores[:140], scores[140:])):
        part.to_csv(traits / f"parts/{number}.csv", index=False)
    seal(traits / "parts", Provenance.now())
    for name, source in (("one", "spring.csv"), ("both", "parts")):
        assert command("monitor", "run", source, "-o", name).code == 0
    one, both = (Monitor.read(f"{name}/monitor.json", "monitor", "") for name in ("one", "both"))
    assert one.last.compared == both.last.compared
