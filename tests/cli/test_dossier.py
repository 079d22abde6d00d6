"""The dossier: both forms say the same, each statement names its file, and what is not of the model is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from importlib.resources import files

import pytest
from command_line import command
from dossier_run import EVIL, write_ensemble, write_log, write_measurements, write_whole_run
from read_page import Element, read_lone_page

from aes_dynloss.programme.dossier import DRAFT
from aes_dynloss.tables.provenance import Provenance, read_provenance, seal


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = write_whole_run(tmp_path / "run")
    write_measurements(tmp_path / "run", model)
    write_log(tmp_path / "log.jsonl", model)
    return tmp_path / "run"


def page_words(path):
    """The words of a page's title, facts, sections and foot, but for what only screen readers hear."""
    document = read_lone_page(path.read_text(encoding="utf-8"), EVIL)
    parts = document.all("header")[0], document.all("main")[0], document.all("footer")[0].all("dl")[0]
    return " ".join(map(seen, parts)).split()


def seen(element):
    if element.attributes.get("class") == "unseen":
        return ""
    separate = element.tag not in {"span", "wbr", "a"}
    inner = "".join(seen(child) if isinstance(child, Element) else child for child in element.children)
    return f" {inner} " if separate else inner


def document_words(path):
    docx = pytest.importorskip("docx")
    parts = []
    for block in docx.Document(path).iter_inner_content():
        rows = getattr(block, "rows", None)
        parts += [block.text] if rows is None else [cell.text for row in rows for cell in row.cells]
    return " ".join(parts).split()


def test_both_forms_say_the_same(run):
    pytest.importorskip("docx")
    outcome = command("dossier", "run", "--audit", "log.jsonl", "-o", "out")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (run.parent / "out").iterdir()} == {"dossier.html", "dossier.docx", "provenance.json"}
    words = page_words(run.parent / "out/dossier.html")
    assert words == document_words(run.parent / "out/dossier.docx")
    assert len(words) > 2000
    made = read_provenance(run.parent / "out")
    assert (made.model, len(made.sources)) == (read_provenance(run / "monitor").model, 11)
    assert command("verify", "out").code == 0
    text = " ".join(words)
    assert "Technical documentation of run Draft" in text
    assert text.index(DRAFT) < text.index("1. General description")


def test_every_heading_and_blank_of_the_annex_is_there_and_no_more_is_said(run):
    assert command("dossier", "run", "--audit", "log.jsonl", "-o", "out", "--format", "html").code == 0
    document = read_lone_page((run.parent / "out/dossier.html").read_text(encoding="utf-8"), EVIL)
    law = tomllib.loads((files("aes_dynloss.programme") / "annex_iv.toml").read_text(encoding="utf-8"))
    headings = [one.text for one in document.all("h2")]
    expected = [f"{number}. {point['title']}" for number, point in law["points"].items()]
    assert headings == ["A draft", *expected, "Sources"]
    assert list(law["points"]) == [str(number) for number in range(1, 10)]
    letters = [part.get("letter") for part in law["points"]["2"]["parts"]]
    assert letters == list("abcdefgh")
    blanks = [one.text for one in document.all("p") if one.attributes.get("class") == "blank"]
    wanted = [blank for point in law["points"].values() for part in point["parts"] for blank in part["blanks"]]
    assert blanks == [f"To be filled in by {who}: {what}" for who, what in wanted]
    page = document.text
    assert "Secret task" not in page
    assert "/home/someone" not in page
    assert "essays.csv" in page


def test_statements_name_their_files_and_sources_have_their_hashes(run):
    assert command("dossier", "run", "--audit", "log.jsonl", "-o", "out", "--format", "html").code == 0
    document = read_lone_page((run.parent / "out/dossier.html").read_text(encoding="utf-8"), EVIL)
    (sources,) = [one for one in document.all("table") if one.attributes["id"] == "source-table"]
    named = {row.all("th")[0].text: row.all("td")[1].text for row in sources.all("tr")[1:]}
    assert set(named) == {
        *("manifest.json", "config.yaml", "report.json", "model/config.json", "provenance.json", "data_check.json"),
        *("evaluation/report.json", "robustness/robustness.json", "monitor/monitor.json"),
        *("readers/report.json", "log.jsonl"),
    }
    assert named["report.json"] == read_provenance(run).products["report.json"]
    points = [one for one in document.all("main")[0].children if isinstance(one, Element)][1:-1]
    for block in (one for point in points for one in point.all("p", "li", "caption")):
        cited = re.search(r"\[([^\]]+)\]$", block.text)
        if block.attributes.get("class") == "blank":
            continue
        if cited is None:
            rows = next(table for table in document.all("table") if block in table.children).all("tr")[1:]
            assert all(row.all("td")[-1].text in named for row in rows), block.text
        else:
            assert set(cited[1].split(", ")) <= set(named), block.text
    assert "alarms in" in document.text


@pytest.mark.parametrize("solver", ["sgd", "kernel_ridge"])
def test_settings_of_training_are_those_of_what_was_trained(tmp_path, monkeypatch, solver):
    monkeypatch.chdir(tmp_path)
    write_whole_run(tmp_path / "run", solver)
    assert command("dossier", "run", "-o", "out", "--format", "html").code == 0
    text = read_lone_page((tmp_path / "out/dossier.html").read_text(encoding="utf-8"), EVIL).text
    assert ("adamw" in text) == (solver == "sgd")
    assert ("Nothing was trained step by step (model.kind encoder, solver kernel_ridge)" in text) == (solver != "sgd")


def test_what_was_not_measured_is_a_blank(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole_run(tmp_path / "run")
    assert command("dossier", "run", "-o", "out", "--format", "html").code == 0
    page = (tmp_path / "out/dossier.html").read_text(encoding="utf-8")
    options = ("evaluation DIR", "readers DIR", "robustness DIR", "monitor DIR", "data-check FILE", "audit LOG")
    for option in (f"--{one}" for one in options):
        assert option in page


@pytest.mark.parametrize("role", ["evaluation", "robustness", "monitor"])
def test_files_of_another_model_are_refused(run, role):
    seal(run / role, Provenance.now(model="f" * 64))
    refused(f"{role}.* is not of the model of run.*ffffffffffff")
    seal(run / role, Provenance.now())
    refused(f"{role}.* is not of the model of run.*tells of no model")
    predictions = Provenance.now([run / "predictions_test.csv"])
    seal(run / role, predictions)
    assert command("dossier", "run", "-o", "out", "--format", "html").code == 0


def test_an_evaluation_says_of_which_model_its_scores_are(run):
    model = read_provenance(run / "monitor").model
    scores = run.parent / "scores.csv"
    shutil.copy(run / "predictions_test.csv", scores)
    seal(scores, Provenance.now(model=model))
    assert command("evaluate", scores, "-o", "later").code == 0
    assert read_provenance(run.parent / "later").model == model
    assert command("dossier", "run", "--evaluation", "later", "-o", "out", "--format", "html").code == 0
    scores.write_text(scores.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert command("evaluate", scores, "-o", "later", "--force").code == 0
    assert read_provenance(run.parent / "later").model is None
    refused("later/report.json is not of the model", "--evaluation", "later", "--force")


def test_an_intact_log_and_the_readers_are_told(run):
    assert command("dossier", "run", "--audit", "log.jsonl", "-o", "out", "--format", "html").code == 0
    text = read_lone_page((run.parent / "out/dossier.html").read_text(encoding="utf-8"), EVIL).text
    head = json.loads((run.parent / "log.jsonl.head").read_text(encoding="utf-8"))
    assert "The audit log has 4 lines" in text
    assert "2 are scores by this model" in text
    assert head["hash"] in text
    assert re.search(r"\bBo\b", text)
    log = run.parent / "log.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace("decision", "derision"), encoding="utf-8")
    refused("log.jsonl is not as it was written: line 4 was changed", "--audit", "log.jsonl", "--force")
    refused("says nothing of raters", "--readers", "run/evaluation", "--force")
    refused("--audit is given 2 times", "--audit", "log.jsonl", "--audit", "log.jsonl", "--force")


@pytest.mark.parametrize("cross_fitted", [True, False])
def test_an_ensemble_has_a_dossier_too(tmp_path, monkeypatch, cross_fitted):
    monkeypatch.chdir(tmp_path)
    write_measurements(tmp_path / "both", write_ensemble(tmp_path / "both", cross_fitted=cross_fitted))
    outcome = command("dossier", "both", "-o", "out", "--format", "html")
    assert outcome.code == 0, outcome.err
    document = read_lone_page((tmp_path / "out/dossier.html").read_text(encoding="utf-8"), EVIL)
    (sources,) = [one for one in document.all("table") if one.attributes["id"] == "source-table"]
    named = [row.all("th")[0].text for row in sources.all("tr")[1:]]
    assert {"config.json", "members/0/config.json", "members/1/config.json", "evaluation/report.json"} <= set(named)
    assert ("report.json" in named) == ("manifest.json" in named) == cross_fitted
    assert len(named) == len(set(named))
    assert "An ensemble of 2 models" in document.text
    assert "members.1.model.seed" in document.text
    assert "no earlier scorer" not in document.text, "that is known of the members' runs"
    assert "step by step" not in document.text
    (tmp_path / "both/members/0/config.json").write_text("{}", encoding="utf-8")
    assert "config.json was changed" in command("dossier", "both", "-o", "out", "--force").error


def test_an_ensemble_without_figures_needs_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_ensemble(tmp_path / "both", cross_fitted=False)
    outcome = command("dossier", "both", "-o", "out")
    assert outcome.code == 2
    assert "both has no report.json, as of its members' runs not all are cross-fitted. Evaluate" in outcome.error


def refused(pattern, *words):
    outcome = command("dossier", "run", "-o", "out", "--format", "html", *words)
    assert outcome.code == 2
    assert re.search(pattern, outcome.error), outcome.error
    assert "Traceback" not in outcome.err


def test_bad_input_is_told_in_one_message(run):
    (run / "monitor/monitor.json").write_text("{}", encoding="utf-8")
    refused("monitor.json was changed after it was made")
    seal(run / "monitor", Provenance.now(model=read_provenance(run / "robustness").model))
    refused("monitor.json is no monitor")
    shutil.rmtree(run / "monitor")
    check = json.loads((run / "data_check.json").read_text(encoding="utf-8"))
    for values, pattern in (({**check, "used": 79}, "other essays: expected 80"), ({"used": 80}, "no data check")):
        (run.parent / "check.json").write_text(json.dumps(values), encoding="utf-8")
        refused(pattern, "--data-check", "check.json")
    outcome = command("dossier", "run", "-o", "run/robustness", "--format", "html")
    assert outcome.code == 2
    assert "holds what the dossier is written from" in outcome.error
    refused("There is no file nowhere", "--robustness", "nowhere")
    (run / "report.json").write_text("{}", encoding="utf-8")
    refused("report.json was changed after it was made")
    (run / "report.json").unlink()
    refused("run is no whole run: .* found no report.json")
    assert not (run.parent / "out").exists()


def test_a_dossier_is_replaced_by_force_alone_and_what_people_wrote_never(run):
    docx = pytest.importorskip("docx")
    assert command("dossier", "run", "-o", "out").code == 0
    refused("is there already")
    assert command("dossier", "run", "-o", "out", "--force").code == 0
    path = run.parent / "out/dossier.docx"
    document = docx.Document(path)
    document.add_paragraph("Signed.")
    document.save(path)
    refused("was written in since it was made", "--force")
    path.unlink()
    assert command("dossier", "run", "-o", "out", "--force", "--format", "html").code == 0
    assert {one.name for one in (run.parent / "out").iterdir()} == {"dossier.html", "provenance.json"}


def test_a_dossier_that_cannot_be_written_leaves_nothing(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    pytest.importorskip("docx")
    monkeypatch.setattr("aes_dynloss.reports.blocks.write_page", full)
    outcome = command("dossier", "run", "-o", "out")
    assert outcome.code == 2
    assert "No space left on device" in outcome.error
    assert not list((run.parent / "out").iterdir())


def test_without_python_docx_one_message_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "docx", None)
    outcome = command("dossier", "run", "-o", "out")
    assert outcome.code == 2
    assert "pip install 'aes-dynloss[dossier]'" in outcome.error
    assert not (run.parent / "out").exists()
    assert command("dossier", "run", "-o", "out", "--format", "html").code == 0
