"""A features cache's file: refused when it is damaged, whole whatever happens while it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_caches import (
    TEXTS,
    add_one_by_one,
    chunks_in,
    counted,
    digest_of,
    essays_of,
    features_of,
    flipped,
    kept_in,
    made_cache,
    model_of,
    only_file,
)
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.essays.model import essay_cache
from aes_dynloss.essays.model.feature_cache import FeatureCache
from aes_dynloss.essays.model.scoring_model import ScoringModel

pytestmark = pytest.mark.usefixtures("several_passes")


def rewritten(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], **metadata: str) -> Callable:
    """A damage that has a fitting checksum, so that what follows it is what is judged."""

    def damage(path: Path) -> None:
        tables = change(load_file(path))
        checksum = essay_cache._checksum(tables["digests"].tobytes(), tables["vectors"])
        save_file(tables, path, {"identity": '{"pooling": "mean"}', "sha256": checksum} | metadata)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "header"),
    "no safetensors": (lambda path: path.write_text("essay,vector\n" * 40), "header"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be used"),
    "a bit of a vector": (
        lambda path: flipped(path, path.read_bytes().index(np.full(4, 3, np.float32).tobytes()) + 5),
        "does not have its checksum",
    ),
    "a bit of a digest": (lambda path: flipped(path, path.read_bytes().index(digest_of(3)) + 31), "checksum"),
    "a bit of the header": (lambda path: flipped(path, path.read_bytes().index(b"pooling")), "something else"),
    "other tables": (lambda path: path.write_bytes(save({"weight": np.zeros(3)})), "something else than vectors"),
    "another encoder's": (rewritten(dict, identity="{}"), "something else than vectors of this encoder"),
    "a table is missing": (
        lambda path: save_file({"digests": np.zeros(3)}, path, {"identity": '{"pooling": "mean"}'}),
        "do not fit together",
    ),
    "fewer vectors": (rewritten(lambda t: t | {"vectors": t["vectors"][:4]}), "do not fit together"),
    "narrow": (rewritten(lambda t: t | {"vectors": t["vectors"][:, :3].copy()}), "do not fit together"),
    "flat": (rewritten(lambda t: t | {"vectors": t["vectors"].ravel()}), "do not fit together"),
    "shorter digests": (rewritten(lambda t: t | {"digests": t["digests"][:, 1:].copy()}), "do not fit together"),
    "half": (rewritten(lambda t: t | {"vectors": t["vectors"].astype(np.float16)}), "do not fit together"),
    "signed": (rewritten(lambda t: t | {"digests": t["digests"].view(np.int8)}), "do not fit together"),
}


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGES)
    def test_is_refused_and_left_alone(self, cache_folder: Path, name: str) -> None:
        cache, (damage, words) = made_cache(cache_folder), DAMAGES[name]
        assert cache.find([digest_of(3)])[digest_of(3)].tolist() == [3, 3, 3, 3]
        damage(cache.path)
        content = cache.path.read_bytes()
        for action in (lambda: cache.find([digest_of(3)]), lambda: add_one_by_one(cache, [77])):
            with pytest.raises(CheckpointError, match=words) as caught:
                action()
            assert str(cache.path) in str(caught.value)
            assert "Remove the file, and its vectors are computed anew" in str(caught.value)
        assert cache.path.read_bytes() == content

    def test_in_a_run(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
        essays, model = essays_of(encoder, TEXTS), model_of(encoder, cache_folder)
        first, _ = features_of(accelerator, model, essays)
        path = only_file(cache_folder)
        flipped(path, -9)
        with pytest.raises(CheckpointError, match=r"does not have its checksum\. Remove the file"):
            features_of(accelerator, model, essays)
        path.unlink()
        again, calls = features_of(accelerator, model, essays)
        assert calls == chunks_in(essays)
        assert torch.equal(again, first)

    def test_another_encoders_file_under_its_name(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        features_of(accelerator, model_of(encoder, cache_folder), essays)
        other = FeatureCache.of(model_of(encoder, cache_folder, pooling="cls"), "no", str(cache_folder))
        only_file(cache_folder).rename(other.path)
        with pytest.raises(CheckpointError, match="something else than vectors of this encoder"):
            features_of(accelerator, model_of(encoder, cache_folder, pooling="cls"), essays)


class TestPlacesThatCannotBeUsed:
    """Known before anything is encoded."""

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("file", "cannot be read: Not a directory"),
            ("n" * 300, "cannot be read: File name too long"),
            ("null\0byte", "cannot be read: embedded null byte"),
            ("~nobody-of-this-name/cache", "no user for the home folder in ~nobody-of-this-name/cache"),
            ("/proc/cache", "cannot be written: No such file or directory"),
        ],
    )
    def test_folder(
        self,
        accelerator: Accelerator,
        encoder: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        words: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("file").write_text("precious")
        self.check_refused(accelerator, model_of(encoder, Path(name)), encoder, words)
        assert Path("file").read_text() == "precious"

    def test_a_folder_without_the_right_to_write(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = model_of(encoder, cache_folder)
        features_of(accelerator, model, essays_of(encoder, TEXTS[:2]))
        monkeypatch.setattr(essay_cache.os, "access", lambda *_: False)  # root may write anywhere
        assert features_of(accelerator, model, essays_of(encoder, TEXTS[:2]))[1] == 0  # reading is enough
        self.check_refused(accelerator, model, encoder, "cannot be written: Permission denied. Make room and mend")

    def check_refused(self, accelerator: Accelerator, model: ScoringModel, encoder: Path, words: str) -> None:
        with counted(model) as calls, pytest.raises((CheckpointError, ConfigError), match=words):
            features_of(accelerator, model, essays_of(encoder, TEXTS))
        assert calls == []

    def test_a_directory_under_the_files_name(self, cache_folder: Path) -> None:
        cache = made_cache(cache_folder, range(0))
        cache.path.mkdir()
        with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
            cache.find([digest_of(1)])


def test_a_file_that_safetensors_wrote(cache_folder: Path) -> None:
    """As those of earlier versions were; and safetensors reads what is written now."""
    cache = made_cache(cache_folder, range(9))
    cache_folder.joinpath("made.safetensors").rename(cache_folder / "now.safetensors")
    with safe_open(cache_folder / "now.safetensors", framework="numpy") as file:
        metadata, tables = file.metadata(), {name: file.get_tensor(name) for name in ("digests", "vectors")}
    assert tables["vectors"].tolist() == [[number] * 4 for number in range(9)]
    cache.path.write_bytes(save(tables, metadata))
    numbers = [*map(digest_of, range(9))]
    assert [row.tolist() for row in cache.find(numbers).values()] == tables["vectors"].tolist()
    add_one_by_one(cache, [9])
    assert kept_in(cache.path) == 10


class TestWriting:
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_what_was_kept_stays_if_the_disk_is_full(
        self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        cache = made_cache(cache_folder)
        content = cache.path.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(*(essay_cache.os, "fsync") if call == "fsync" else (Path, "replace"), full)
        with pytest.raises(CheckpointError, match=r"cannot be written: No space left on device\. Make room"):
            add_one_by_one(cache, [7])
        assert cache.path.read_bytes() == content
        assert not list(cache_folder.glob(".*.tmp"))

    def test_a_process_that_was_killed_leaves_nothing_that_counts(self, cache_folder: Path) -> None:
        cache = made_cache(cache_folder)
        partial = cache.path.with_name(f".{cache.path.name}.123.tmp")
        partial.write_bytes(b"half")
        assert set(cache.find([*map(digest_of, range(5))])) == {digest_of(number) for number in range(5)}
        add_one_by_one(cache, [7])
        assert not partial.exists()

    def test_never_half_there(self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the moment of the exchange the new file is whole and on the disk, the old one still in its place."""
        cache, steps = made_cache(cache_folder), []
        replace_file, fsync = Path.replace, essay_cache.os.fsync

        def synced(number: int) -> None:
            steps.append("fsync")
            fsync(number)

        def replaced(path: Path, to: Path) -> None:
            steps.append((kept_in(to) if to.exists() else None, kept_in(path)))
            replace_file(path, to)

        monkeypatch.setattr(essay_cache.os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", replaced)
        add_one_by_one(cache, [7])
        # The file, the exchange, the folder: of the part, of the main file.
        assert steps == ["fsync", (None, 1), "fsync", "fsync", (5, 6), "fsync"]

    def test_what_is_kept_is_not_written_again(self, cache_folder: Path) -> None:
        cache = made_cache(cache_folder)
        before = cache.path.stat().st_ino
        cache.add({digest_of(2): np.full(4, 99, dtype=np.float32)})
        assert cache.find([digest_of(2)])[digest_of(2)].tolist() == [2, 2, 2, 2]
        cache.merge()
        assert cache.find([digest_of(2)])[digest_of(2)].tolist() == [2, 2, 2, 2]
        assert cache.path.stat().st_ino == before

    def test_a_lock_that_is_never_let_go(self, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = made_cache(cache_folder)
        monkeypatch.setattr(essay_cache, "_LOCK_SECONDS", 0.1)
        with (
            FileLock(cache_folder / "made.safetensors.lock"),
            pytest.raises(CheckpointError, match=r"held .*made.safetensors.lock for 0.1 seconds. End it, or set model"),
        ):
            add_one_by_one(cache, [7])
