from __future__ import annotations

import os
from pathlib import Path

import pytest
from exported_essays import dev_of_one, one, two_prompts

from aes_dynloss.errors import DataError
from aes_dynloss.reports.exports import export_rsmeval


def test_a_folder_that_is_there(tmp_path):
    folder = tmp_path / "rsm"
    folder.mkdir()
    paths = export_rsmeval(two_prompts(), dev_of_one(), folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"is there already\. Choose another folder, or give --force"):
        export_rsmeval(one(), None, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (path,) = export_rsmeval(one(), None, folder, force=True)
    assert path == paths[0]
    assert [entry.name for entry in folder.iterdir()] == ["prompt_1"]
    assert len(list(path.parent.iterdir())) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["rsm"]


@pytest.mark.parametrize(
    "other", ["notes.txt", "config.json", "prompt_1/out/eval.csv", "prompt_1/mine.csv", "other/config.json"]
)
def test_force_replaces_nothing_but_an_export(tmp_path, other):
    export_rsmeval(one(), None, tmp_path / "rsm")
    place = tmp_path / "rsm" / other
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"is no part of an export, and --force replaces nothing else\. Move it"):
        export_rsmeval(one(), None, tmp_path / "rsm", force=True)
    assert place.read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "rsm" / "prompt_1" / "config.json").exists()


def itself(path: Path) -> tuple[int, int, int]:
    """What tells a file from one that took its place; not when it was read."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_mtime_ns


@pytest.mark.parametrize("other", ["pipe", "prompt_1/config.json", "prompt_1/scaling_0123abcd.csv", "prompt_9"])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_force_replaces_no_pipe_and_no_device(tmp_path, other, kind):
    export_rsmeval(one(), None, tmp_path / "rsm")
    path = tmp_path / "rsm" / other
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null") if kind == "link to a device" else os.mkfifo(path)
    before = itself(path)
    with pytest.raises(DataError, match=r"is no part of an export, and --force replaces nothing else\. Move it"):
        export_rsmeval(one(), None, tmp_path / "rsm", force=True)
    assert itself(path) == before
    assert len([entry.name for entry in tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_a_pipe_or_a_device_in_the_folder_s_place(tmp_path, kind):
    path = tmp_path / "rsm"
    path.symlink_to("/dev/null") if kind == "link to a device" else os.mkfifo(path)
    before = itself(path)
    with pytest.raises(DataError, match=r"rsm is a file; expected a folder to export to"):
        export_rsmeval(one(), None, path, force=True)
    assert itself(path) == before


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "rsm").symlink_to(tmp_path / "real")
    for force in (False, True):
        export_rsmeval(one(), None, tmp_path / "rsm", force=force)
    assert (tmp_path / "rsm").is_symlink()
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["prompt_1"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "rsm").write_text("mine", encoding="utf-8")
    for folder in (tmp_path / "rsm", tmp_path / "rsm" / "deeper"):
        with pytest.raises(DataError, match=r"is a file; expected a folder|Cannot write .*deeper: "):
            export_rsmeval(one(), None, folder, force=True)
    assert (tmp_path / "rsm").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, there):
    folder = tmp_path / "rsm"
    if there:
        export_rsmeval(one(), None, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written = []

    def write_bytes(path, content):
        written.append(path)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        with path.open("wb") as file:
            file.write(content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match=r"Cannot write .*rsm: No space left on device\."):
        export_rsmeval(two_prompts(), dev_of_one(), folder, force=True)
    assert len(written) == 4
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == (["rsm"] if there else [])
