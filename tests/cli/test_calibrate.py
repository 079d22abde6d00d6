"""`aes-dynloss calibrate`: another post-processing for a run that is done."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import command
from facts import facts
from folder_content import content
from small_run import RANGES, read_rows, report_of, small_essays, tune, write_rows, write_small_run

from aes_dynloss.essays.finetune.held_out import check_held_out
from aes_dynloss.essays.model import prompt_scales
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.model_folder import read_fitted
from aes_dynloss.essays.screening.kinds import KINDS as KINDS_OF_ADVICE
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.measures.intervals import fit_intervals
from aes_dynloss.tables import atomic
from aes_dynloss.tables.score_range import ScoreRange

pytestmark = pytest.mark.slow

STRINGS = ["model.kind=strings", "evaluation.floors=true", "evaluation.page=true"]
CROSSED = [*STRINGS, "data.split.cross_fit=3"]
KINDS = {
    "strings": [*STRINGS, "model.linguistic=true"],
    "without test": [*STRINGS, "data.split={fractions: {train: 0.6, dev: 0.4, test: 0}}"],
    "boosting": ["model.kind=boosting", "model.linguistic=true"],
    "crossed": CROSSED,
    "ridge": ["model.frozen_layers=all", "model.solver=ridge"],
    "ordinal": ["model.head=ordinal", "training.epochs=1"],
}
# Of a run's files, those that say when it was made.
DATED = {"provenance.json", "manifest.json", "report.html", "config.yaml", "metrics.jsonl", ".lock"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a run of a kind that post-processes by a rule, once."""
    folder = tmp_path_factory.mktemp("calibrated")
    run_yaml = write_small_run(folder)
    values = yaml.safe_load(run_yaml.read_text())
    encoder = values.pop("model")["encoder"]
    run_yaml.write_text(yaml.safe_dump(values))
    source = write_rows(folder / "more.jsonl", small_essays(60))

    def run(kind: str, rule: str) -> Path:
        words = [f"data.source={source}", f"model.postprocessing={rule}", *KINDS[kind]]
        words += [] if any("model.kind" in word for word in words) else [f"model.encoder={encoder}"]
        if not (folder / kind / rule).exists():
            outcome = tune(run_yaml, folder / kind / rule, *words)
            assert outcome.code == 0, outcome.err
        return folder / kind / rule

    return run


@pytest.fixture
def copied(made, tmp_path):
    """Makes a copy of a run, to calibrate."""

    def copy(kind: str, rule: str = "none") -> Path:
        return Path(shutil.copytree(made(kind, rule), tmp_path / "run"))

    return copy


def undated(run: Path) -> dict[str, bytes]:
    return {name: file for name, file in content(run).items() if name not in DATED and not name.startswith("plots")}


@pytest.mark.parametrize("kind", ["strings", "boosting", "crossed", "ridge"])
@pytest.mark.parametrize(("before", "after"), [("none", "rescale"), ("rescale", "none")])
def test_it_is_the_run_that_was_made_so_from_the_start(made, copied, kind, before, after):
    """With exact solvers all files are the same, to the byte: the scores of cross-fitted parts, too."""
    run = copied(kind, before)
    weights = {name: file for name, file in content(run / "model").items() if name.endswith("safetensors")}
    outcome = command("calibrate", run, "--postprocessing", after)
    assert outcome.code == 0, outcome.err
    found, expected = undated(run), undated(made(kind, after))
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name] and name != "report.json"] == []
    assert {name: file for name, file in content(run / "model").items() if name in weights} == weights
    reports = [report_of(run), report_of(made(kind, after))]
    assert sorted(reports[0].pop("notes")) == sorted(reports[1].pop("notes"))
    assert reports[0] == reports[1]
    assert read_fitted(run / "model").postprocessing.kind == after
    (record,) = json.loads((run / "manifest.json").read_text())["calibrated"]
    assert (record["postprocessing"], bool(record["on"]), len(record["when"])) == (after, True, 25)
    for part in ("test", "oof"):
        check_held_out(run, part, [row["essay_id"] for row in read_rows(run / f"predictions_{part}.csv")])
    again = command("calibrate", run, "--postprocessing", before)
    assert again.code == 0, again.err
    assert len(json.loads((run / "manifest.json").read_text())["calibrated"]) == 2
    assert undated(run)["predictions_test.csv"] == undated(made(kind, before))["predictions_test.csv"]


@pytest.mark.parametrize("kind", ["ordinal", "crossed"])
def test_auto_leaves_prompts_with_few_essays_as_they_are_again(copied, monkeypatch, kind):
    """Without a rule nothing changes: dev has 12 essays of a prompt; each part's scores are fitted on 40 of others."""
    monkeypatch.setattr(prompt_scales, "LEAST_RESCALED", 50)
    run = copied(kind, "auto")
    before = undated(run)
    for _ in range(2):
        outcome = command("calibrate", run)
        assert outcome.code == 0, outcome.err
        assert undated(run) == before
    assert [one["postprocessing"] for one in json.loads((run / "manifest.json").read_text())["calibrated"]] == [
        "auto",
        "auto",
    ]
    assert command("calibrate", run, "--postprocessing", "rescale").code == 0
    rescaled = undated(run)
    assert rescaled["predictions_test.csv"] != before["predictions_test.csv"]
    assert command("calibrate", run).code == 0
    assert undated(run) == rescaled


def test_what_it_says(copied):
    run = copied("strings")
    before = report_of(run)
    outcome = command("calibrate", run, "--postprocessing", "rescale")
    after = report_of(run)
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["prompt", "n", "QWK", "before", "after", "change"]
    entries = {name: report["prompts"] | {"mean": report["mean"]} for name, report in (("b", before), ("a", after))}
    for line in lines[1:]:
        old, new = (entries[which][line[0]]["qwk"] for which in "ba")
        assert line[-3:-1] == [f"{old:.3f}", f"{new:.3f}"]
        assert float(line[-1]) == pytest.approx(new - old, abs=6e-4)
    assert [line[0] for line in lines[1:]] == ["phones", "river", "mean"]
    words = "rescale fitted on predictions of train essays, each made without it"
    assert outcome.err.endswith(f"{run}: scores are now by {words}.\n")
    assert f"model.postprocessing {words.replace('fitted', 'was fitted', 1)}." in after["notes"]
    assert "rescale (fitted on predictions of train essays, each made without it), trimmed" in (
        (run / "model/README.md").read_text()
    )
    assert set(after["floors"]) == set(before["floors"]) != set()


def test_no_essay_of_a_part_has_a_say_in_how_the_part_is_scored(copied):
    """Its line is that of what its own scorer predicted of the others; the model has that of all essays."""
    run = copied("crossed")
    command("calibrate", run, "--postprocessing", "rescale")
    test = pd.read_csv(run / "predictions_test.csv").astype({"part": str})
    inner = pd.read_csv(run / "predictions_inner.csv").astype({"part": str})
    for part, rows in test.groupby("part"):
        others = inner[inner["part"] == part]
        assert not set(others["essay_id"]) & set(rows["essay_id"])
        assert len(others) + len(rows) == len(test)
        for prompt, mine in rows.groupby("prompt_id"):
            own = others[others["prompt_id"] == prompt]
            line, span = fit_rescaling(own["raw"], own["reference"]), RANGES[prompt]
            assert mine["score"].tolist() == ScoreRange(**span).to_point(line.apply(mine["raw"])).tolist()
    fitted = read_fitted(run / "model")
    river = test[test["prompt_id"] == "river"]
    assert fitted.postprocessing.fitted["river"] == fit_rescaling(river["raw"], river["reference"])
    assert fitted.intervals == fit_intervals(test["prompt_id"].tolist(), test["raw"], test["reference"])


def test_a_head_with_probabilities_is_as_sure_as_it_should_be(copied):
    run = copied("ordinal")
    stored = read_fitted(run / "model")
    assert command("calibrate", run, "--postprocessing", "rescale").code == 0
    assert read_fitted(run / "model").certainty != stored.certainty
    assert command("calibrate", run, "--postprocessing", "none").code == 0
    assert read_fitted(run / "model") == stored


@pytest.fixture(scope="module")
def judged(made, tmp_path_factory) -> Path:
    """Predictions of other essays by the run without an encoder, with human scores."""
    rows = [row | {"essay_id": f"new {row['essay_id']}", "text": f"{row['text']} Yes."} for row in small_essays(25)]
    place = tmp_path_factory.mktemp("judged")
    write_rows(place / "new.jsonl", rows)
    policy = [f"--policy={kind}=off" for kind in KINDS_OF_ADVICE]
    scored = place / "scored.csv"
    outcome = command("score", made("strings", "none") / "model", place / "new.jsonl", "-o", scored, *policy)
    assert outcome.code == 0, outcome.err
    human = {row["essay_id"]: row["score"] for row in rows}
    table = pd.read_csv(scored)
    table = table[table["raw"].notna()]
    assert len(table) > 20
    table = table.assign(reference=table["essay_id"].map(human)).drop(columns="withheld")
    table.to_csv(place / "judged.csv", index=False)
    return place / "judged.csv"


@pytest.mark.parametrize("kind", ["strings", "crossed"])
def test_on_a_table(copied, judged, kind):
    run = copied(kind)
    outcome = command("calibrate", run, "--postprocessing", "cut_points", "--on", judged)
    assert outcome.code == 0, outcome.err
    table = pd.read_csv(judged)
    words = f"fitted on {len(table)} essays of judged.csv"
    assert outcome.err.endswith(f"cut_points {words}.\n")
    assert f"cut_points ({words})" in (run / "model/README.md").read_text()
    assert f"model.postprocessing cut_points was {words}." in report_of(run)["notes"]
    (record,) = json.loads((run / "manifest.json").read_text())["calibrated"]
    assert (record["on"], record["essays"]) == ("judged.csv", len(table))
    assert record["sha256"] == atomic.file_sha256(judged)
    fitted = read_fitted(run / "model")
    assert fitted.intervals == fit_intervals(table["prompt_id"].tolist(), table["raw"], table["reference"])
    test = pd.read_csv(run / "predictions_test.csv")
    points = fitted.postprocessing.points(
        ClassicalScorer.from_pretrained(run / "model").prompts, test["prompt_id"].tolist(), test["raw"].to_numpy()
    )
    assert test["score"].tolist() == points.tolist()
    assert len(command("calibrate", run).out.splitlines()) == 4  # fitted again, on what the run has


REFUSED = {
    "no raw": (lambda table: table.drop(columns="raw"), facts("no column 'raw'", "aes-dynloss score")),
    "no human": (lambda table: table.drop(columns="reference"), facts("no column 'reference'", "human scores")),
    "blank": (lambda table: table.assign(reference=np.nan), facts("holds no human scores")),
    "one prompt": (lambda table: table[table["prompt_id"] == "river"], facts("prompt phones has 0", "Add some")),
    "other": (lambda table: table.replace({"prompt_id": {"river": "lake"}}), facts("'lake'", "knows phones, river")),
    "no score point": (lambda table: table.assign(reference=2.5), facts("reference 2.5 is no score point")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_does_not_serve(copied, judged, tmp_path, case):
    change, message = REFUSED[case]
    run = copied("strings")
    before = content(run)
    change(pd.read_csv(judged)).to_csv(tmp_path / "on.csv", index=False)
    outcome = command("calibrate", run, "--on", tmp_path / "on.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert re.search(message, outcome.error), outcome.error
    assert content(run) == before


@pytest.mark.parametrize("part", ["test", "oof"])
def test_essays_of_the_figures_or_of_training_are_refused(copied, part):
    run = copied("strings")
    outcome = command("calibrate", run, "--postprocessing", "rescale", "--on", run / f"predictions_{part}.csv")
    assert outcome.code == 2
    assert re.search(facts("essays are in it and in the predictions", "fit it on other essays"), outcome.error), (
        outcome.error
    )
    assert command("calibrate", run, "--postprocessing", "rescale", "--on", run / "predictions_dev.csv").code == 0


@pytest.mark.parametrize(("kind", "known"), [("strings", True), ("ordinal", False)])
def test_training_essays_that_the_run_has_not_predicted_cannot_be_told(copied, kind, known):
    run = copied(kind)
    outcome = command("calibrate", run, "--postprocessing", "rescale", "--on", run / "predictions_dev.csv")
    assert outcome.code == 0, outcome.err
    said = "--on predictions_dev.csv: which essays the model was trained on is not kept" in outcome.err
    assert said == (not known)


def test_essays_of_dev_are_refused_where_the_figures_are_of_dev(copied, judged):
    run = copied("without test")
    outcome = command("calibrate", run, "--postprocessing", "rescale", "--on", run / "predictions_dev.csv")
    assert outcome.code == 2
    assert re.search(
        facts("predictions_dev.csv, the essays of the run's figures", "fit it on other essays"), outcome.error
    )
    assert command("calibrate", run, "--postprocessing", "rescale", "--on", judged).code == 0


def test_what_cannot_be_calibrated(copied, tmp_path):
    run = copied("strings")
    for words, message in {
        (run / "model",): facts("holds a model alone", "Name the run's own folder, ", "/run"),
        (run,): facts("plainly rounds", "--postprocessing rescale"),
        (tmp_path / "none",): facts("no folder", "none"),
        (run, "--on", tmp_path / "none.csv"): facts("--on: there is no file"),
        (tmp_path,): facts("holds no complete run: it lacks config.yaml"),
        (run, "--postprocessing", "polish"): facts("'polish' is not one of"),
    }.items():
        outcome = command("calibrate", *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert re.search(message, outcome.err), outcome.err
    test = run / "predictions_test.csv"
    test.write_text(test.read_text().replace(",3.0,", ",4.0,", 1))
    outcome = command("calibrate", run, "--postprocessing", "rescale")
    assert re.search(facts("predictions_test.csv is not what the run wrote", "Bring back"), outcome.error), (
        outcome.error
    )
    test.unlink()
    outcome = command("calibrate", run, "--postprocessing", "rescale")
    assert re.search(facts("lacks predictions_test.csv", "Bring back"), outcome.error)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_leaves_the_old_run_or_the_new_one(made, copied, tmp_path, can_exchange):
    """Killed before a step that changes names on the disk: at some of the first, and at each of the last."""
    run = copied("boosting")
    before, after = undated(run), undated(made("boosting", "rescale"))
    trial = Path(shutil.copytree(run, tmp_path / "trial"))
    (tmp_path / "steps").touch()
    assert _calibrated(trial, None, can_exchange=can_exchange) == 0
    total = len((tmp_path / "steps").read_text())
    shutil.rmtree(trial)
    seen = set()
    for step in [*range(0, total - 18, total // 4), *range(total - 18, total), None]:
        if step is not None:  # else it has the leftovers of the last one that was killed to remove
            for left in tmp_path.glob(".run.*"):
                shutil.rmtree(left)
        status = _calibrated(run, step, can_exchange=can_exchange)
        if not run.exists():  # where the system has no exchange, there is a moment between two renames
            assert not can_exchange
            (left,) = tmp_path.glob(".run.*.old.tmp")
            left.rename(run)
        found = undated(run)
        is_new = found["predictions_test.csv"] != before["predictions_test.csv"]
        expected = after if is_new else before
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name] and name != "report.json"] == []
        seen.add((status, is_new))
    assert seen >= {(9, False), (9, True), (0, True)}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "steps"}


def _calibrated(run: Path, step: int | None, *, can_exchange: bool) -> int:
    """Exit code of a process that calibrates a run, and is killed (9) before a step; it notes each step."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [step]

    def counted(function):
        def call(*given, **named):
            if left[0] == 0:
                os._exit(9)
            if left[0] is None:
                with (run.parent / "steps").open("a") as file:
                    file.write(".")
            else:
                left[0] -= 1
            return function(*given, **named)

        return call

    for name in ("link", "mkdir", "unlink", "rename", "replace", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    atomic._exchange = counted(atomic._exchange) if can_exchange else lambda *_: False
    try:
        os._exit(command("calibrate", run, "--postprocessing", "rescale").code)
    finally:
        os._exit(1)
