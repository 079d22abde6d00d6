"""``aes-dynloss parts``: what there is to choose from, and where it is from."""

from __future__ import annotations

import pytest
from command_line import command
from plugins import FEATURE, LOSS, SCHEDULE, TEACHER, install

from aes_dynloss.cli.parts import KEYS, part_rows

pytestmark = pytest.mark.usefixtures("own_parts")


@pytest.mark.parametrize("kind", KEYS)
def test_every_part_says_what_it_is(kind):
    rows = part_rows(kind)
    assert len(rows) >= 3
    assert all(row.name and row.meaning and row.meaning[0].upper() == row.meaning[0] for row in rows)
    assert not any(row.origin for row in rows)


def test_all_kinds():
    outcome = command("parts")
    assert outcome.code == 0
    for words in ("losses (loss.terms.NAME)", "one_minus_qwk", "morris", "glc", "unrolled_graph", "overlap", "ordinal"):
        assert words in outcome.out
    assert "morris" not in command("parts", "losses", "heads").out
    assert command("parts", "colours").code == 2


def test_parts_from_outside(tmp_path, monkeypatch):
    points = {"losses": {"log_cosh": "tiny:log_cosh"}, "features": {"hedges": "tiny:hedges"}}
    monkeypatch.syspath_prepend(install(tmp_path / "site", {"tiny": LOSS + FEATURE}, points))
    (tmp_path / "my_parts.py").write_text(SCHEDULE + TEACHER, encoding="utf-8")
    outcome = command("--plugin", tmp_path / "my_parts.py", "parts", "losses", "schedules", "teachers", "features")
    assert outcome.code == 0, outcome.err
    lines = {line.split()[0]: line for line in outcome.out.splitlines() if line.startswith("  ")}
    assert lines["log_cosh"].endswith("Ln cosh of the error  [tiny-parts 0.1.0]")
    assert lines["hedges"].endswith("Words that take a claim back  [tiny-parts 0.1.0]")
    assert lines["sawtooth"].endswith("[my_parts]")
    assert lines["exponentiated"].endswith("[my_parts]")
    assert "[" not in lines["mse"]
    assert "hedges_may" in command("features", "--list").out


def test_a_broken_package_is_named_in_one_line(tmp_path, monkeypatch):
    points = {"losses": {"log_cosh": "tiny:log_cosh"}}
    monkeypatch.syspath_prepend(install(tmp_path, {"tiny": "1 / 0"}, points))
    outcome = command("parts", "losses")
    assert outcome.code == 2
    assert "tiny-parts 0.1.0" in outcome.error
    assert "ZeroDivisionError" in outcome.error
    assert "Traceback" not in outcome.err
    assert command("parts", "schedules").code == 0


def test_features_of_ones_own_are_counted(tmp_path, monkeypatch):
    (tmp_path / "my_parts.py").write_text(FEATURE, encoding="utf-8")
    (tmp_path / "essays.csv").write_text("essay_id,text\n1,It may be so\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    outcome = command("--plugin", "my_parts.py", "features", "essays.csv", "--groups", "hedges", "-o", "out.csv")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out.csv").read_text().splitlines()[1].endswith("25.0,0.0")
    assert command("features", "essays.csv", "--groups", "all,hedges", "-o", "more.csv").code == 0
    assert (tmp_path / "more.csv").read_text().splitlines()[0].endswith("prompt_copied,hedges_may,hedges_can")
    assert command("features", "essays.csv", "-o", "own.csv").code == 0
    assert "hedges" not in (tmp_path / "own.csv").read_text()


def test_a_plugin_that_is_not_there():
    outcome = command("--plugin", "gone.py", "parts")
    assert outcome.code == 2
    assert "gone.py" in outcome.error
