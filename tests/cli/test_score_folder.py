"""`aes-dynloss score` of a folder of tables: what one process says of them all, part by part, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_line import command
from essay_files import write_rows
from explained_scorers import classical
from forked import finish, start
from killed_scoring import KILLS, kill_at
from parts import entries, made_up, products, write_parts

from aes_dynloss.essays.scoring import part_folder
from aes_dynloss.essays.scoring import score as module
from aes_dynloss.tables.audit_log import Verification, verify_log
from aes_dynloss.tables.formats import iterate_rows
from aes_dynloss.tables.provenance import read_provenance, verify

NAMES = ["a.jsonl", "b.jsonl", "c.jsonl"]
KEYWORDS = module.score_essays.__kwdefaults__


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    classical().save_pretrained(folder / "model")
    classical(kernel=False).save_pretrained(folder / "other")
    write_parts(folder / "in", NAMES)
    return folder


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(module.score_essays, "__kwdefaults__", KEYWORDS | {"window": 7})


def run(place: Path, source: Path | str, output: Path, *words: object):
    return command("score", place / "model", place / source, "-o", output, *words)


def stop_after(monkeypatch, windows: int) -> list[str]:
    """Let scoring fail after so many windows; returns the digests of those that were saved."""
    saved: list[str] = []
    plain = part_folder.saved_window

    def counted(*words):
        if len(saved) == windows:
            raise KeyboardInterrupt
        made = plain(*words)
        saved.append(made["digest"])
        return made

    monkeypatch.setattr(part_folder, "saved_window", counted)
    return saved


@pytest.mark.parametrize(
    "words", [(), ("--policy", "duplicate=withhold", "--keep-columns"), ("--policy", "duplicate=off")]
)
def test_the_parts_together_are_what_one_process_says_of_them(place, tmp_path, words):
    for name, inputs in (("out", [place / "in"]), ("all.jsonl", [place / "in" / name for name in NAMES])):
        files = ("--review", tmp_path / f"review_{name}.csv", "--audit", tmp_path / f"audit_{name}")
        outcome = command("score", place / "model", *inputs, "-o", tmp_path / name, *files, *words)
        assert outcome.code == 0, outcome.err
    assert b"".join(products(tmp_path / "out").values()) == (tmp_path / "all.jsonl").read_bytes()
    assert (tmp_path / "review_out.csv").read_bytes() == (tmp_path / "review_all.jsonl.csv").read_bytes()
    assert entries(tmp_path / "audit_out") == entries(tmp_path / "audit_all.jsonl")
    assert verify_log(tmp_path / "audit_out") == Verification(60)
    reasons = [json.loads(line)["reasons"] for line in (tmp_path / "out" / "c.jsonl").read_text().splitlines()]
    if not words:
        assert "the same text as essay 3 of prompt a, earlier in this input" in reasons[9][0]
        assert "essay 42 of prompt a" in reasons[3][0]
    assert not (tmp_path / "out.parts").exists()


def test_the_summary_counts_all_parts(place, tmp_path):
    words = ("--policy", "duplicate=withhold", "--review", tmp_path / "review.csv")
    told = run(place, "in", tmp_path / "out", *words).err
    assert "Scored 51 essays.\n9 more have no score" in told
    assert f"9 essays are for review: {tmp_path / 'review.csv'}." in told


def test_each_part_is_written_in_its_own_format_or_in_one_for_all(place, tmp_path):
    parts = write_parts(tmp_path / "in", ["a.parquet", "b.csv", "c.jsonl"])
    (tmp_path / "in" / "d.ndjson").write_bytes(parts[2].read_bytes())
    (tmp_path / "in" / "e.TSV").write_text("essay_id\tprompt_id\ttext\n7\ta\tthe otter\n")
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / "notes.md").touch()
    (tmp_path / "in" / "~$a.xlsx").touch()  # of a table that is open in Excel
    outcome = run(place, tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "1 entries of the folder in are no tables" in outcome.err
    assert list(products(tmp_path / "out")) == ["a.parquet", "b.csv", "c.jsonl", "d.jsonl", "e.csv"]
    assert sum(1 for _ in iterate_rows(tmp_path / "out" / "a.parquet")) == 20
    assert verify(tmp_path / "out", [tmp_path / "in"]).found == []
    assert run(place, tmp_path / "in", tmp_path / "csv", "--format", "csv").code == 0
    assert list(products(tmp_path / "csv")) == [f"{stem}.csv" for stem in "abcde"]


def test_a_folder_of_scores_is_measured_as_its_tables_in_one(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(place, "in", Path("out"), "--keep-columns").code == 0
    Path("all.jsonl").write_bytes(b"".join(products(Path("out")).values()))
    rows = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    write_rows(Path("human.csv"), [{**keys(row), "reference": n % 6 + 1} for n, row in enumerate(rows)])
    plan = ("--half-width", "qwk=0.2", "--assume-qwk", "0.7")
    for name in ("out", "all.jsonl"):
        for words in (
            ("evaluate", name, "--references", "human.csv", "-o", f"report_{name}"),
            ("monitor", place / "model", name, "--baseline", name, "-o", f"monitor_{name}"),
            ("plan", name, "-o", f"plan_{name}", *plan),
        ):
            outcome = command(*words)
            assert outcome.code == 0, outcome.err
    assert Path("report_out/report.csv").read_bytes() == Path("report_all.jsonl/report.csv").read_bytes()
    figures = Path("monitor_all.jsonl/monitor.csv").read_text().replace("all.jsonl", "out")
    assert Path("monitor_out/monitor.csv").read_text() == figures
    assert Path("plan_out/essays.csv").read_bytes() == Path("plan_all.jsonl/essays.csv").read_bytes()
    assert read_provenance(Path("report_out")).model == read_provenance(Path("out")).model
    Path("out/provenance.json").unlink()  # as it is where a run was killed
    refused = command("evaluate", "out", "--references", "human.csv")
    assert (refused.code, "that `aes-dynloss score` has filled to its end" in refused.error) == (2, True)


def keys(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("essay_id", "prompt_id")}


def empty(path: Path) -> Path:
    """A table of the columns of `made_up` essays without rows."""
    none = pd.DataFrame(made_up(1, 1))[:0]
    if path.suffix == ".parquet":
        none.to_parquet(path, index=False)
    else:
        path.write_text("" if path.suffix == ".jsonl" else none.to_csv(index=False))
    return path


@pytest.mark.parametrize("words", [(), ("--keep-columns",)])
def test_parts_without_rows_have_scores_without_rows(place, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write_parts(Path("in"), ["b.csv", "c.csv"])
    assert run(place, Path("in").resolve(), Path("whole"), *words).code == 0
    for name in ("a.csv", "d.jsonl", "e.parquet", "f.csv"):
        empty(Path("in", name))
    files = ("--review", "review.csv", "--audit", "audit.jsonl")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)  # the window of a.csv, those of b.csv
        assert run(place, Path("in").resolve(), Path("out"), *files, *words).code == 130
    outcome = run(place, Path("in").resolve(), Path("out"), *files, *words, "--resume")
    assert (outcome.code, "4 of 6 parts have no rows." in outcome.err) == (0, True), outcome.err
    with_rows = {name: content for name, content in products(Path("out")).items() if name in {"b.csv", "c.csv"}}
    assert with_rows == products(Path("whole"))
    header = Path("out/b.csv").read_text().splitlines()[0]
    assert Path("out/a.csv").read_text() == Path("out/f.csv").read_text() == f"{header}\n"
    assert Path("out/d.jsonl").read_bytes() == b""
    scores = pq.read_table("out/e.parquet")
    assert (scores.num_rows, scores.column_names) == (0, header.split(","))
    assert command("verify", "out", "in").code == 0
    assert [line["essay_id"] for line in entries(Path("audit.jsonl"))] == [str(n) for n in range(1, 41)]
    write_rows(Path("human.csv"), [{**keys(row), "reference": n % 6 + 1} for n, row in enumerate(made_up(1, 40))])
    for name in ("out", "whole"):
        assert command("evaluate", name, "--references", "human.csv", "-o", f"report_{name}").code == 0
    assert Path("report_out/report.csv").read_bytes() == Path("report_whole/report.csv").read_bytes()


def test_a_folder_without_any_rows_is_refused(place, tmp_path):
    (tmp_path / "in").mkdir()
    empty(tmp_path / "in" / "a.csv"), empty(tmp_path / "in" / "b.jsonl")
    refused = run(place, tmp_path / "in", tmp_path / "out")
    assert (refused.code, "No table of the folder" in refused.error) == (2, True)


def test_a_folder_of_txt_is_one_input_as_ever(place, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "7.txt").write_text("the otter")
    write_rows(tmp_path / "in" / "a.csv", made_up(1, 3))
    assert run(place, tmp_path / "in", tmp_path / "scores.csv").code == 0
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 2
    refused = run(place, tmp_path / "in", tmp_path / "out", "--engine", "ray")
    assert (refused.code, "scores the tables of a folder, and" in refused.error) == (2, True)


@pytest.mark.parametrize("windows", [1, 4, 8])
def test_a_stopped_run_goes_on(place, tmp_path, monkeypatch, windows):
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ("--review", tmp_path / "review.csv", "--audit", tmp_path / "audit.jsonl")
    assert run(place, "in", whole).code == 0
    with monkeypatch.context() as patch:
        first = stop_after(patch, windows)
        stopped = run(place, "in", out, *words)
    assert stopped.code == 130
    assert (f"{windows // 3} finished parts are kept" in stopped.err) is (windows > 3)
    again = run(place, "in", out, *words)
    assert (again.code, "holds scores of a run that was stopped" in again.error) == (2, True)
    with monkeypatch.context() as patch:
        rest = stop_after(patch, 99)
        assert run(place, "in", out, *words, "--resume").code == 0
    assert len(first) == windows
    assert len({*first, *rest}) == len(first) + len(rest) == 9  # windows of 7, 7 and 6 essays of each part
    assert products(out) == products(whole)
    assert [line["essay_id"] for line in entries(tmp_path / "audit.jsonl")] == [str(n) for n in range(1, 61)]
    assert len({json.loads(line)["run"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()}) == 1
    done = run(place, "in", out, *words, "--resume")
    assert (done.code, "is complete; INPUT was not looked at." in done.err) == (0, True)


def test_other_parts_options_and_models_are_refused(place, tmp_path, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    write_parts(source, NAMES)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(place, source, out).code == 130
    assert "other settings (coverage)" in run(place, source, out, "--resume", "--coverage", "0.8").error
    assert "other settings (format)" in run(place, source, out, "--resume", "--format", "csv").error
    assert "other settings (reading)" in run(place, source, out, "--resume", "--text-column", "class").error
    refused = command("score", place / "other", source, "-o", out, "--resume")
    assert (refused.code, "other settings (model)" in refused.error) == (2, True)
    before = (source / "a.jsonl").read_bytes()
    write_rows(source / "a.jsonl", made_up(5, 3))
    write_rows(source / "d.jsonl", made_up(90, 3))
    refused = run(place, source, out, "--resume")
    assert (refused.code, "not those of the saved scores (a.jsonl, d.jsonl)" in refused.error) == (2, True)
    (source / "a.jsonl").write_bytes(before)
    (source / "d.jsonl").unlink()
    assert run(place, source, out, "--resume").code == 0
    write_rows(source / "a.jsonl", made_up(5, 3))
    assert "is there already" in run(place, source, out).error
    assert run(place, source, out, "--force").code == 0
    assert len((out / "a.jsonl").read_text().splitlines()) == 3


def test_a_forced_run_takes_nothing_from_the_run_before(place, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        run(place, "in", out, "--coverage", "0.8")
    with monkeypatch.context() as patch:
        saved = stop_after(patch, 99)
        assert run(place, "in", out, "--force").code == 0
    assert len(saved) == 9


def test_a_part_appears_once_its_lines_are_in_the_log(place, tmp_path, monkeypatch):
    logged = []
    plain = part_folder.publish

    def publish(path, target):
        logged.append((target.name, len(entries(tmp_path / "audit.jsonl"))))
        plain(path, target)

    monkeypatch.setattr(part_folder, "publish", publish)
    assert run(place, "in", tmp_path / "out", "--audit", tmp_path / "audit.jsonl").code == 0
    assert logged == [("a.jsonl", 20), ("b.jsonl", 40), ("c.jsonl", 60)]


def test_a_process_opens_the_model_once(place, tmp_path, monkeypatch):
    opened = []
    plain = part_folder.open_to_score
    monkeypatch.setattr(part_folder, "open_to_score", lambda *words, **more: opened.append(1) or plain(*words, **more))
    part_folder.open_once.cache_clear()
    assert run(place, "in", tmp_path / "out").code == 0
    assert opened == [1]


def test_what_a_killed_process_left_of_a_complete_run_goes(place, tmp_path):
    assert run(place, "in", tmp_path / "out").code == 0
    left = tmp_path / "out.parts" / "files" / "x" / "a.jsonl.parts" / "0000000.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    assert run(place, "in", tmp_path / "out", "--resume").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_folder_that_nothing_tells_is_complete_is_not(place, tmp_path):
    assert run(place, "in", tmp_path / "out").code == 0
    (tmp_path / "out" / "provenance.json").unlink()
    refused = run(place, "in", tmp_path / "out", "--resume")
    assert (refused.code, "is there already" in refused.error) == (2, True)


def test_a_part_that_changes_meanwhile_is_refused(place, tmp_path, monkeypatch):
    write_parts(tmp_path / "in", NAMES)
    plain = part_folder._begun

    def changed(*words):
        write_rows(tmp_path / "in" / "b.jsonl", made_up(5, 3))
        return plain(*words)

    monkeypatch.setattr(part_folder, "_begun", changed)
    refused = run(place, tmp_path / "in", tmp_path / "out")
    assert (refused.code, "b.jsonl was changed while its folder was scored" in refused.error) == (2, True)


def test_parts_that_cannot_be_read_are_all_named_and_nothing_is_scored(place, tmp_path):
    parts = write_parts(tmp_path / "in", ["a.jsonl", "b.parquet", "c.csv", "d.jsonl", "e.csv"])
    parts[1].write_bytes(parts[1].read_bytes()[:-40])
    parts[2].write_text("essay_id,prompt_id,words\n1,a,otter\n")
    parts[3].write_text('{"essay_id": "1", "prompt_id": "z", "text": "otter"}\n')
    parts[4].write_text("prompt_id,text\na,otter\n")
    refused = run(place, tmp_path / "in", tmp_path / "out")
    assert refused.code == 2
    first, *faults = refused.error.splitlines()
    assert first == "4 of 5 parts cannot be read, and none was scored. Mend them, or move them away."
    assert [fault.split(": ")[0] for fault in faults] == ["b.parquet", "c.csv", "d.jsonl", "e.csv"]
    assert "lacks the column 'essay_id', unlike the first part" in faults[3]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_parts_beyond_the_first_faults_are_named_too(place, tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_SHOWN", 1)
    parts = write_parts(tmp_path / "in", ["a.csv", "b.csv", "c.csv", "d.csv"])
    for part in parts[1:]:
        part.write_text("essay_id,prompt_id,words\n1,a,otter\n")
    refused = run(place, tmp_path / "in", tmp_path / "out")
    assert refused.error.splitlines()[2] == "and c.csv, d.csv"


def test_names_that_are_no_unicode(place, tmp_path):
    write_parts(tmp_path / "in", ["a.jsonl"])
    (tmp_path / "in" / "a.jsonl").rename(tmp_path / "in" / os.fsdecode(b"\xff.jsonl"))
    outcome = run(place, tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert command("verify", tmp_path / "out", tmp_path / "in").code == 0


def test_columns_are_found_in_the_first_part_and_told_once(place, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text("prompt_id,essay\na,The otter is by the river.\n")
    outcome = run(place, tmp_path / "in", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("column 'essay', by its name") == 1
    assert outcome.err.count("essays are numbered by their rows") == 1


def test_a_sheet_that_cannot_be_written_is_refused_before_anything_is_read(place, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    refused = run(place, "in", tmp_path / "out", "--review", tmp_path / "new" / "review.csv")
    assert (refused.code, f"{tmp_path} cannot be written to. Choose another --review" in refused.error) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_text_that_no_cell_of_a_workbook_holds_is_a_fault_of_its_part(place, tmp_path):
    parts = write_parts(tmp_path / "in", ["a.csv", "b.jsonl"])
    write_rows(parts[1], [{**made_up(1, 1)[0], "text": "long " * 7000}])
    refused = run(place, tmp_path / "in", tmp_path / "out", "--review", tmp_path / "review.xlsx")
    assert refused.code == 2
    assert refused.error.splitlines()[1].startswith("b.jsonl: --review, essay 1: a text of 35000 characters")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def nothing(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def two_stems(place: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "in", ["a.csv", "a.jsonl"])


def plain(place: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "in", NAMES)


def full(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")


def link(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "in" / "z.csv").symlink_to("nowhere.csv")


def folder(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "in" / "z.parquet").mkdir()


def linked_output(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "out").symlink_to("nowhere")


def circle(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "out").symlink_to("out")


def texts(place: Path, tmp_path: Path) -> None:
    plain(place, tmp_path)
    (tmp_path / "in" / "README.txt").write_text("About these essays.")


@pytest.mark.parametrize(
    ("prepare", "words", "message"),
    [
        (nothing, ["in", "-o", "out"], "holds neither tables"),
        (two_stems, ["in", "-o", "out"], "holds a.csv and a.jsonl"),
        (plain, ["in"], "go to a folder, not to -"),
        (link, ["in", "-o", "out"], "in/z.csv has the name of a table and is a link to nothing"),
        (folder, ["in", "-o", "out"], "in/z.parquet has the name of a table and is a folder"),
        (texts, ["in", "-o", "out"], "no folder of tables here; in in the essays are the .txt files"),
        (texts, ["in", "-o", "out", "--engine", "ray"], "none of tables; in in the essays are the .txt files"),
        (plain, ["inn/", "-o", "out"], "There is no file or folder inn"),
        (plain, ["inn", "-o", "out"], "INPUT inn is no folder of tables here"),
        (plain, ["in", "-o", "."], "go to a folder, not to ."),
        (plain, ["in", "-o", "in/.."], "go to a folder, not to in/.."),
        (linked_output, ["in", "-o", "out"], "Cannot write out: File exists"),
        (circle, ["in", "-o", "out"], "Cannot write out: File exists"),
        (plain, ["in", "-o", "out", "--precision", "bf16"], "no encoder to compute in bf16"),
        (plain, ["in", "-o", "scores.csv"], "go to a folder, not to scores.csv"),
        (plain, ["in", "-o", "in"], "--output in is INPUT, or lies in it"),
        (plain, ["in", "-o", "in/../in/out"], "is INPUT, or lies in it"),
        (plain, ["in", "-o", "out", "--review", "in/r.csv"], "--review in/r.csv is INPUT, or lies in it"),
        (plain, ["in", "-o", "out", "--audit", "out/log"], "--audit out/log is --output, or lies in it"),
        (plain, ["in", "-o", "out", "--audit", "r.csv", "--review", "r.csv"], "name one file"),
        (plain, ["in", "in/a.jsonl", "-o", "out"], "is scored alone"),
        (plain, ["in", "-o", "out", "--explain", "why.jsonl"], "--explain is for one table"),
        (plain, ["in", "-o", "out", "--range", "1:6"], "--range is for one table"),
        (plain, ["in", "-o", "out", "--format", "moodle"], "--format moodle is for one table"),
        (plain, ["in", "-o", "out", "--resume", "--force"], "give one of them"),
        (plain, ["in", "-o", "out", "--address", "127.0.0.1:1"], "Give --engine ray with it"),
        (plain, ["in/a.jsonl", "-o", "out.csv", "--engine", "ray"], "in/a.jsonl is none of tables"),
        (plain, ["in/z.jsonl", "-o", "out.csv", "--engine", "ray"], "There is no file or folder"),
        (full, ["in", "-o", "out"], "out is there already"),
        (full, ["in", "-o", "out", "--resume"], "out is there already"),
        (full, ["in", "-o", "out", "--force"], "out holds thesis.txt, which is not of these parts"),
    ],
)
def test_refusals(place, tmp_path, monkeypatch, prepare, words, message):
    prepare(place, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if not path.name.endswith(".lock"))
    refused = command("score", place / "model", *words)
    assert refused.code == 2
    assert message in refused.error
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.endswith(".lock")) == before


@pytest.mark.slow
def test_kills_lose_and_double_nothing(place, tmp_path):
    words = ("score", place / "model", place / "in", "--policy", "duplicate=withhold", "--keep-columns")

    def begin(name: str, step: int):
        files = ("--review", f"{name}.csv", "--audit", f"{name}.jsonl")
        return start(*words, *files, "-o", name, "--resume", folder=tmp_path, prepare=partial(kill_at, step))

    assert finish(begin("whole", 0)) == 0, (tmp_path / "err").read_text()
    generator, kills, ends = random.Random(0), 0, 0
    while kills < KILLS:
        code = finish(begin(f"out_{ends}", generator.randint(1, 150)))
        assert code in {0, -signal.SIGKILL}, (tmp_path / "err").read_text()
        kills += code != 0
        ends += code == 0
    assert finish(begin(f"out_{ends}", 0)) == 0, (tmp_path / "err").read_text()
    for number in range(ends + 1):
        name = f"out_{number}"
        assert products(tmp_path / name) == products(tmp_path / "whole")
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert replace(verify_log(tmp_path / f"{name}.jsonl"), notes=[]) == Verification(60)
        assert entries(tmp_path / f"{name}.jsonl") == entries(tmp_path / "whole.jsonl")
        assert verify(tmp_path / name).found == []
    left = {path.name for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".parts"))}
    # Several runs may write to one log, so that none cleans up beside it.
    assert not {name for name in left if ".head." not in name}
