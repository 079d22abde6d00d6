from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.tables.atomic import atomic_file, atomic_folder, leftovers, leftovers_of, write_text


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.csv", tmp_path / "real" / "t.csv"
    link.symlink_to(target)
    write_text(link, "first")
    write_text(link, "second")
    assert link.is_symlink()
    assert target.read_text() == "second"


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder", "link to a pipe"])
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = tmp_path / "t.csv"
    if kind == "device":
        path = tmp_path / "null"
        path.symlink_to("/dev/null")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        os.mkfifo(tmp_path / "pipe")
        path = tmp_path / "pipe" if kind == "pipe" else path
        if kind != "pipe":
            path.symlink_to(tmp_path / "pipe")
    before = path.stat().st_mode
    with pytest.raises(DataError, match=r"Cannot write .*: it is .*Choose another path"):
        write_text(path, "words")
    assert path.stat().st_mode == before
    assert not leftovers(tmp_path)


def test_what_fails_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "t.csv", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "t.csv") as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert (tmp_path / "t.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for words in ("old", "new"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / words).write_text(words)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "model") as folder:
        (folder / "half").write_text(f"half {1 / 0}")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_cannot_replace_a_link_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"), atomic_folder(tmp_path / "loop") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]
    assert (tmp_path / "loop").is_symlink()


def test_what_killed_processes_left(tmp_path):
    for name in (".t.csv.123.tmp", ".t.csv2.123.tmp", "t.csv"):
        (tmp_path / name).write_text("half")
    assert [path.name for path in leftovers_of(tmp_path / "t.csv")] == [".t.csv.123.tmp"]
    assert sorted(path.name for path in leftovers(tmp_path)) == [".t.csv.123.tmp", ".t.csv2.123.tmp"]


def test_the_next_writer_removes_what_dead_processes_left_and_nothing_else(tmp_path):
    with subprocess.Popen(["true"]) as dead:
        pass
    with atomic_file(tmp_path / "t.csv") as temporary:
        temporary.write_text("first")
    of_dead, of_live = (temporary.name.replace(f".{os.getpid()}.", f".{one}.") for one in (dead.pid, os.getppid()))
    of_another_file, of_another_machine = of_dead.replace("t.csv", "t.csv.2"), f".t.csv.{dead.pid}.0badf00d.tmp"
    kept = {of_live, of_another_file, of_another_machine}
    for name in (of_dead, *kept):
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "t.csv", "second")
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", *kept}


def test_processes_of_another_container_are_not_taken_for_dead(tmp_path, monkeypatch):
    """Two containers in the host's network have its name, and process ids of their own."""
    with subprocess.Popen(["true"]) as elsewhere:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: elsewhere.pid)
        patch.setattr(Path, "readlink", lambda _: Path("pid:[1]"))
        writing = atomic_file(tmp_path / "t.csv")
        temporary = writing.__enter__()
        temporary.write_text("first")
    write_text(tmp_path / "t.csv", "second")
    assert temporary.exists()
    writing.__exit__(None, None, None)
    assert (tmp_path / "t.csv").read_text() == "first"
