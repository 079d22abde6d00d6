"""A reported scale in the model folder: set by calibrate, kept by it, and in whatever a model answers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import command
from facts import facts
from folder_content import content
from small_run import read_rows, small_essays, tune, write_rows, write_small_run

from aes_dynloss import EssayScorer
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.ensembles.reported_scale import calibrate_scale
from aes_dynloss.essays.model.card import with_reported_scale
from aes_dynloss.essays.model.model_folder import read_fitted
from aes_dynloss.measures.scales import ConversionTable, equipercentile_table
from aes_dynloss.tables.score_range import ScoreRange

LINE = {"phones": (0, 20, 40, 60, 80, 100), "river": (0, 25, 50, 75, 100)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scaled")
    source = write_rows(folder / "more.jsonl", small_essays(60))
    run_yaml = write_small_run(folder)
    values = yaml.safe_load(run_yaml.read_text())
    del values["model"]
    run_yaml.write_text(yaml.safe_dump(values))
    words = [f"data.source={source}", "model.kind=strings", "model.postprocessing=rescale"]
    outcome = tune(run_yaml, folder / "run", *words)
    assert outcome.code == 0, outcome.err
    write_rows(folder / "essays.csv", [{"prompt_id": "river", "text": row["text"]} for row in small_essays(35)[-5:]])
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def tables_of(run: Path) -> dict[str, tuple[float, ...]]:
    return {prompt: table.reported for prompt, table in read_fitted(run / "model").postprocessing.reported.items()}


def test_a_line_is_set_used_kept_and_removed(made, run):
    before = content(run)
    outcome = command("calibrate", run, "--scale", "0:100")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "phones: 0, 20, 40, 60, 80, 100\nriver: 0, 25, 50, 75, 100\n"
    assert tables_of(run) == LINE
    changed = {name for name, file in content(run).items() if before.get(name) != file}
    predictions = {name for name in before if name.startswith("predictions_") and "inner" not in name}
    reports = {"report.json", "report.csv"}
    assert changed == {
        "model/config.json",
        "model/README.md",
        "manifest.json",
        "provenance.json",
        *reports,
        *predictions,
    }
    check_told(run, LINE)
    words = "- river (linear): its score points are reported as 0, 25, 50, 75, 100."
    assert words in (run / "model/README.md").read_text()
    scored = command("score", run / "model", made / "essays.csv", "-o", run / "scores.csv")
    assert scored.code == 0, scored.err
    rows = read_rows(run / "scores.csv")
    told = [(float(row["score"]), float(row["reported"])) for row in rows if row["score"]]
    assert told == [(score, 25 * score) for score, _ in told]
    assert told
    found = EssayScorer.from_pretrained(run).score([row["text"] for row in read_rows(made / "essays.csv")], "river")
    assert [f"{value:.1f}" for value in found.reported] == [row["reported"] for row in rows]
    assert command("calibrate", run, "--postprocessing", "none").code == 0
    assert tables_of(run) == LINE
    check_told(run, LINE)
    assert "reported as 0, 25" in (run / "model/README.md").read_text()
    assert command("calibrate", run / "model", "--scale", "none").code == 0
    assert tables_of(run) == {}
    check_told(run, {})
    assert command("verify", run).code == 0
    assert "Reported" not in (run / "model/README.md").read_text()


def check_told(run: Path, tables: dict[str, tuple[float, ...]]) -> None:
    """A run's own predictions, and the worst disagreements of its report, have reported scores, or none."""
    ranges = {"phones": ScoreRange(1, 6), "river": ScoreRange(0, 4)}
    told = []
    for path in run.glob("predictions_*.csv"):
        told += [row for row in read_rows(path) if "score" in row]
    told += json.loads((run / "report.json").read_text())["worst"]
    assert told
    assert {"reported" in row for row in told} == {bool(tables)}
    for row in told if tables else ():
        place = ranges[row["prompt_id"]].to_index([float(row["score"])])[0]
        assert float(row["reported"]) == tables[row["prompt_id"]][place]


def test_a_table(run, tmp_path):
    rows = [{"prompt_id": "river", "score": n, "reported": mark} for n, mark in enumerate([6, 4.5, 3, 2, 1])]
    write_rows(tmp_path / "marks.csv", rows[::-1])
    assert command("calibrate", run, "--scale", tmp_path / "marks.csv").code == 0
    assert tables_of(run) == {"river": (6, 4.5, 3, 2, 1)}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["scaled"]["reported"] == {"river": "table"}
    for wrong, message in (
        (rows[1:], facts("river", "0 to 4", "4 rows")),
        ([*rows, {**rows[0], "prompt_id": "lake"}], facts("'lake'", "phones, river")),
        ([{**row, "reported": ""} for row in rows], "a number is missing"),
        ([{"mark": 1}], facts("'score'", "'reported'", "--scale")),
    ):
        write_rows(tmp_path / "wrong.csv", wrong)
        outcome = command("calibrate", run, "--scale", tmp_path / "wrong.csv")
        assert (outcome.code, tables_of(run)) == (2, {"river": (6, 4.5, 3, 2, 1)})
        assert re.search(message, outcome.err), outcome.err


def test_equated_to_a_reference_form(run, tmp_path):
    form = [10, 20, 20, 30, 30, 30, 40, 40, 50]
    write_rows(tmp_path / "form.csv", [{"prompt_id": "river", "score": score} for score in form])
    outcome = command("calibrate", run, "--reference-form", tmp_path / "form.csv")
    assert outcome.code == 0, outcome.err
    assert "9 of the reference form" in outcome.err
    (table,) = read_fitted(run / "model").postprocessing.reported.values()
    part = "oof" if (run / "predictions_oof.csv").exists() else "dev"
    own = [float(row["score"]) for row in read_rows(run / f"predictions_{part}.csv") if row["prompt_id"] == "river"]
    by_hand = equipercentile_table(own, ScoreRange(0, 4), form, ScoreRange(10, 50))
    assert table == by_hand
    form *= 2
    write_rows(tmp_path / "form.csv", [{"prompt_id": "river", "score": score} for score in form])
    assert command("calibrate", run, "--reference-form", tmp_path / "form.csv", "--smoothing", "2").code == 0
    (table,) = read_fitted(run / "model").postprocessing.reported.values()
    assert table == equipercentile_table(own, ScoreRange(0, 4), form, ScoreRange(10, 50), moments=2) != by_hand
    assert json.loads((run / "manifest.json").read_text())["scaled"]["smoothed_moments"] == 2
    refused = command("calibrate", run, "--reference-form", tmp_path / "form.csv", "--smoothing", "9")
    assert (refused.code, "needs 10 different scores" in refused.err) == (2, True)
    assert command("calibrate", run, "--scale", "0:100", "--smoothing", "2").code == 2
    assert command("calibrate", run, "--reference-form", tmp_path / "form.csv").code == 0
    outcome = command("calibrate", run, "--postprocessing", "none")
    assert "equipercentile tables of river were of the earlier scores" in outcome.err
    assert tables_of(run) == {}
    refused = command("calibrate", run / "model", "--reference-form", tmp_path / "form.csv")
    assert refused.code == 2
    assert "needs the predictions of a run" in refused.err


def test_options_that_do_not_go_together(run):
    for words in (["--postprocessing", "none"], ["--reference-form", run / "report.json"]):
        outcome = command("calibrate", run, "--scale", "0:100", *words)
        assert outcome.code == 2
        assert "each go alone" in outcome.err


def test_an_ensemble(made, tmp_path):
    EssayEnsemble.from_members([made / "run", made / "run"]).save_pretrained(tmp_path / "both")
    calibrate_scale(tmp_path / "both", ["river=0:8"])
    opened = EssayEnsemble.from_pretrained(tmp_path / "both")
    assert opened.postprocessing.reported == {"river": ConversionTable("linear", (0, 2, 4, 6, 8))}
    opened.save_pretrained(tmp_path / "again")
    for name in ("both", "again"):
        assert "- river (linear)" in (tmp_path / name / "README.md").read_text()


def test_a_card_that_was_edited_keeps_what_stands_behind():
    tables = {"river": ConversionTable("table", tuple(map(float, range(30))))}
    card = with_reported_scale("# Mine\n\nWords.\n", tables) + "\n## More\n\nMine.\n"
    assert "0, 1, 2, ..., 27, 28, 29." in card
    again = with_reported_scale(card, {"river": ConversionTable("table", (1.0, 2.0))})
    assert again.count("## Reported scale") == 1
    assert again.endswith("\n## More\n\nMine.\n")
    assert with_reported_scale(again, {}) == "# Mine\n\nWords.\n\n## More\n\nMine.\n"


def test_explanations_tell_it(made, run):
    calibrate_scale(run, ["0:100"])
    why = run / "why"
    outcome = command("explain", run / "model", made / "essays.csv", "-o", why)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in next(why.glob("*.jsonl")).read_text().splitlines()]
    told = [score for line in lines for score in line["scores"]]
    assert told
    assert [score["reported"] for score in told] == [25 * score["score"] for score in told]
    assert f"Score {told[0]['score']:g}, reported as {told[0]['reported']:g}" in next(why.rglob("*1.html")).read_text()
    given = [line["scores"][0]["reported"] for line in lines if not line["withheld"]]
    assert (why / "index.html").read_text().count("reported as") == len(given) > 0


def test_the_service_tells_it(made, run):
    pytest.importorskip("fastapi")
    from served_app import Served

    assert command("calibrate", run, "--scale", "0:100").code == 0
    served = Served(open_scorer(run / "model", None))
    essays = [{"text": row["text"], "prompt_id": "river"} for row in read_rows(made / "essays.csv")]
    for row in served.post({"essays": essays}).json["scores"]:
        assert row["reported"] == (None if row["score"] is None else 25 * row["score"])
