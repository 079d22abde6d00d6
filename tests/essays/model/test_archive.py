"""Zips of model folders: opened as the folder is, and refused where they do what a model's would not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import pytest
from accelerate import Accelerator

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.model import archive
from aes_dynloss.essays.model.archive import unpacked
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.sharing import locate_model

TEXTS, PROMPT_IDS = ["the teacher and the otter", "a bridge"], ["letter", "notice"]


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where zips are unpacked."""
    place = tmp_path / "room"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    shutil.rmtree(place)


def zipped(folder: Path, path: Path, inside: str = "", method: int = ZIP_DEFLATED) -> Path:
    with ZipFile(path, "w", method) as file:
        for one in sorted(folder.rglob("*")):
            file.write(one, Path(inside) / one.relative_to(folder))
    return path


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> ZipInfo:
    info = ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
@pytest.mark.parametrize("inside", ["", "model", "run/model"])
def test_it_scores_as_the_folder_does(
    folder: Path, tmp_path: Path, accelerator: Accelerator, inside: str, method: int
) -> None:
    path = zipped(folder, tmp_path / "scorer.zip", inside, method)
    expected = open_scorer(folder, accelerator).score(TEXTS, PROMPT_IDS).raw
    for opened in (open_scorer(str(path), accelerator), EncoderScorer.from_pretrained(path, accelerator=accelerator)):
        np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, expected)


def test_what_macos_adds_is_left_out(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "scorer.zip", "model")
    with ZipFile(path, "a") as file:
        file.writestr("__MACOSX/model/._config.json", "junk")
        file.writestr("model/.DS_Store", "junk")
    assert {one.name for one in locate_model(path).iterdir()} == {one.name for one in folder.iterdir()}


def test_an_ensemble_of_zips_and_a_zip_of_it(folder: Path, tmp_path: Path, accelerator: Accelerator) -> None:
    paths = [zipped(folder, tmp_path / f"{name}.zip", "run/model") for name in "ab"]
    both = EssayEnsemble.from_members(paths, accelerator=accelerator)
    both.save_pretrained(tmp_path / "both")
    opened = open_scorer(zipped(tmp_path / "both", tmp_path / "both.zip"), accelerator)
    np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, both.score(TEXTS, PROMPT_IDS).raw)


def test_one_zip_is_unpacked_once_and_anew_when_it_changes(folder: Path, tmp_path: Path, room: Path) -> None:
    path = zipped(folder, tmp_path / "scorer.zip")
    assert unpacked(path) == unpacked(path)
    assert len(list(room.iterdir())) == 1
    zipped(folder, path, "model")
    assert unpacked(path).name == "model"


def test_nothing_is_left_when_the_process_ends(folder: Path, tmp_path: Path, room: Path) -> None:
    path = zipped(folder, tmp_path / "scorer.zip")
    code = (
        "import sys; from pathlib import Path; from aes_dynloss.essays.model.archive import unpacked; "
        "print(sorted(unpacked(Path(sys.argv[1])).iterdir()))"
    )
    environment = {**os.environ, "TMPDIR": str(room)}
    ended = subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, check=True)
    assert b"config.json" in ended.stdout
    assert list(room.iterdir()) == []


class TestRefused:
    def refuse(self, path: Path, room: Path, words: str) -> None:
        with pytest.raises(CheckpointError, match=words) as caught:
            locate_model(path)
        assert str(path) in str(caught.value)
        assert list(room.iterdir()) == []

    @pytest.mark.parametrize(
        "name", ["../evil", "model/../../evil", "/evil", "C:/evil", "a\\..\\..\\evil", "..", "model/.."]
    )
    def test_what_would_lie_outside(self, tmp_path: Path, room: Path, name: str) -> None:
        with ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr(entry(name), "evil")
        self.refuse(tmp_path / "x.zip", room, "would lie outside")
        assert not (tmp_path / "evil").exists()

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
    def test_links_and_devices(self, tmp_path: Path, room: Path, kind: int) -> None:
        with ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr(entry("model/config.json", kind | 0o777), "/etc/passwd")
        self.refuse(tmp_path / "x.zip", room, "is a link or a device")

    def test_a_bomb(self, tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "_SMALL", 2**20)
        with ZipFile(tmp_path / "x.zip", "w", ZIP_DEFLATED) as file:
            file.writestr("model.safetensors", bytes(4 * 2**20))
        self.refuse(tmp_path / "x.zip", room, "more than a model has .*100 times the zip")

    def test_a_small_one_of_zeros_is_none(self, tmp_path: Path) -> None:
        with ZipFile(tmp_path / "x.zip", "w", ZIP_DEFLATED) as file:
            file.writestr("screening.safetensors", bytes(4 * 2**20))
        assert (unpacked(tmp_path / "x.zip") / "screening.safetensors").stat().st_size == 4 * 2**20

    @pytest.mark.parametrize(("limit", "most"), [("MOST_FILES", 2), ("MOST_BYTES", 10)])
    def test_too_many_and_too_much(
        self, tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
    ) -> None:
        monkeypatch.setattr(archive, limit, most)
        with ZipFile(tmp_path / "x.zip", "w") as file:
            for number in range(3):
                file.writestr(f"{number}", "words")
        self.refuse(tmp_path / "x.zip", room, "more than a model has")

    def test_a_size_that_is_a_lie(self, tmp_path: Path, room: Path) -> None:
        with ZipFile(tmp_path / "x.zip", "w", ZIP_DEFLATED) as file:
            file.writestr("model.safetensors", bytes(range(256)) * 40)
        content = (tmp_path / "x.zip").read_bytes()
        size = (256 * 40).to_bytes(4, "little")
        assert content.count(size) == 2
        (tmp_path / "x.zip").write_bytes(content.replace(size, (10).to_bytes(4, "little")))
        self.refuse(tmp_path / "x.zip", room, "cannot be unpacked: Bad CRC-32")

    def test_one_name_twice(self, tmp_path: Path, room: Path) -> None:
        with ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr("config.json", "{}")
            file.writestr("./config.json", "[]")
        self.refuse(tmp_path / "x.zip", room, "is there twice")

    def test_a_file_that_is_a_folder_too(self, tmp_path: Path, room: Path) -> None:
        with ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr("model", "{}")
            file.writestr("model/config.json", "{}")
        self.refuse(tmp_path / "x.zip", room, "cannot be unpacked: ")

    def test_an_encrypted_one(self, tmp_path: Path, room: Path) -> None:
        with ZipFile(tmp_path / "x.zip", "w") as file:
            file.writestr("config.json", "{}")
        content = bytearray((tmp_path / "x.zip").read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "x.zip").write_bytes(content)
        self.refuse(tmp_path / "x.zip", room, "is encrypted")

    @pytest.mark.parametrize("damage", ["cut", "flipped", "no zip", "empty"])
    def test_a_damaged_one(self, folder: Path, tmp_path: Path, room: Path, damage: str) -> None:
        content = bytearray(zipped(folder, tmp_path / "x.zip").read_bytes())
        content[5000] ^= 1
        changed = {"cut": content[:-100], "flipped": content, "no zip": b"words", "empty": b""}[damage]
        (tmp_path / "x.zip").write_bytes(changed)
        self.refuse(tmp_path / "x.zip", room, "cannot be unpacked: .* Fetch it again")

    def test_a_full_disk(self, folder: Path, tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        path = zipped(folder, tmp_path / "x.zip")
        monkeypatch.setattr(shutil, "copyfileobj", full)
        self.refuse(path, room, "cannot be unpacked: No space left on device")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("essays.csv", "essay_id,text\n")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_scorer(tmp_path / "x.zip")
