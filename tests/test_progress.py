"""Progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import re
import sys

import pytest

from aes_dynloss import progress
from aes_dynloss.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves by four seconds a look."""
    now = iter(range(0, 10_000, 4))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(now)))
    monkeypatch.setattr(Progress, "_time", lambda self: float(next(now)), raising=False)
    monkeypatch.setattr(Progress, "monitor_interval", 0)


def test_lines_where_there_is_no_terminal(clock, caplog, capsys):
    caplog.set_level("INFO", logger="aes_dynloss")
    for _ in Progress(range(60), desc="encode essays", unit="batch"):
        pass
    told = [
        re.fullmatch(r"encode essays: batch (\d+) of 60, about (\d+) (s|min) left", line) for line in caplog.messages
    ]
    done = [int(one[1]) for one in told]
    assert 1 < len(done) < 20
    assert done == sorted(set(done))
    assert done[-1] < 60
    assert capsys.readouterr() == ("", "")


def test_short_work_is_not_told(caplog, capsys):
    caplog.set_level("INFO", logger="aes_dynloss")
    with Progress(total=3, desc="grid", unit="run") as bar:
        for _ in range(3):
            bar.update()
    assert caplog.messages == []
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    list(Progress(range(3), desc="encode essays", unit="batch", mininterval=0))
    assert "encode essays: 100%" in terminal.getvalue()
    before = terminal.getvalue()
    list(Progress(range(3), desc="hidden", disable=True))
    assert terminal.getvalue() == before


@pytest.mark.parametrize(("seconds", "words"), [(4.4, "about 4 s"), (99.0, "about 99 s"), (101.0, "about 2 min")])
def test_minutes(seconds, words):
    assert progress._minutes(seconds) == words
