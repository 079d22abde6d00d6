from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from sample_report import bare_report

from aes_dynloss.errors import DataError
from aes_dynloss.reports.report_files import PAGE, REPORT, TABLE, replacing_together, write_report_files

NAMES = (TABLE, PAGE, REPORT)
OLD, NEW = dict.fromkeys(NAMES, b"old"), dict.fromkeys(NAMES, b"new")


def held(folder):
    """The files of a folder, without what a killed process could not remove."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_half(folder):
    with replacing_together(folder, NAMES) as new:
        write(new, {TABLE: b"new", PAGE: b"new"})
        raise KeyboardInterrupt


def write_new(folder):
    with replacing_together(folder, NAMES) as new:
        write(new, NEW)


def test_files_are_replaced_together_and_others_stay(tmp_path):
    write(tmp_path, {**OLD, "mine.txt": b"mine"})
    write_new(tmp_path)
    assert held(tmp_path) == {**NEW, "mine.txt": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NAMES, "mine.txt"])


def test_a_fault_leaves_the_old_report_alone(tmp_path):
    write(tmp_path, OLD)
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path)
    assert held(tmp_path) == OLD
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@pytest.mark.parametrize("replaced", range(4))
def test_a_process_that_is_killed_leaves_no_mixture(tmp_path, replaced):
    """Killed once it has put that many files in their places, of which the last makes the report complete."""
    write(tmp_path, OLD)
    child = os.fork()
    if child == 0:
        try:
            real, places = Path.replace, []

            def replace(path, place):
                if len(places) == replaced:
                    os.kill(os.getpid(), signal.SIGKILL)
                places.append(place)
                return real(path, place)

            Path.replace = replace
            write_new(tmp_path)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert held(tmp_path) == {name: NEW[name] for name in NAMES[:replaced]}


def test_a_folder_in_a_files_place_is_refused_before_anything_is_replaced(tmp_path):
    (tmp_path / PAGE).mkdir()
    (tmp_path / REPORT).write_text("old")
    with pytest.raises(DataError, match=rf"{PAGE} is a folder, where a file is to be\. Move it"):
        write_report_files(bare_report(), tmp_path, title="T")
    assert held(tmp_path) == {REPORT: b"old"}


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(DataError, match=r"Cannot write .*file.*: .*\. Choose a folder to write to"):
            write_report_files(bare_report(), place, title="T")
    assert (tmp_path / "file").read_text() == "mine"


def test_without_a_page_there_are_two_files(tmp_path):
    write_report_files(bare_report(), tmp_path / "new", title="T", page=False)
    assert sorted(held(tmp_path / "new")) == [TABLE, REPORT]
