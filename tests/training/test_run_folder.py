from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.training.run_folder import REPLACED, run_folder, write_json, write_text

CONFIG = {"data": {"path": "essays.csv", "ids": ["007", "1e5", "no"]}, "training": {"epochs": 3, "rate": 1e-5}}
PRODUCTS = ("model", "report.json")
CONFIG_FILE = "config.yaml"


def enter(accelerator, folder, config=CONFIG, **how):
    with run_folder(accelerator, folder, config, PRODUCTS, **how) as complete:
        return complete


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "first"


def content(folder):
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def fill(folder):
    """What a complete run leaves behind, and what someone else put beside it."""
    (folder / "model").mkdir()
    for name in ("metrics.jsonl", "checkpoint.pt", "model/weights", "report.json", "notes.txt", "models"):
        (folder / name).write_text("old", encoding="utf-8")


def test_a_new_folder_holds_the_configuration_from_the_first_moment(accelerator, folder):
    with run_folder(accelerator, folder, CONFIG, PRODUCTS) as complete:
        assert complete is False
        assert read_mapping(folder / "config.yaml") == CONFIG
        assert yaml.safe_load((folder / "config.yaml").read_text("utf-8")) == CONFIG


def test_an_empty_folder_is_as_good_as_none(accelerator, folder):
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert enter(accelerator, folder) is False
    assert content(folder)["notes.txt"] == "mine"


def test_a_run_that_is_there_is_not_touched(accelerator, folder):
    enter(accelerator, folder)
    fill(folder)
    before = content(folder)
    with pytest.raises(
        ConfigError, match=r"already holds a run \(config.yaml, .*model.*\)\. Go on with it by --resume"
    ):
        enter(accelerator, folder)
    assert content(folder) == before


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "checkpoint.pt", "model", "report.json"])
def test_any_product_makes_a_run(accelerator, folder, name):
    folder.mkdir(parents=True)
    (folder / name).write_text("old", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"already holds a run \({name}\)"):
        enter(accelerator, folder)
    assert content(folder)[name] == "old"


def test_force_removes_what_a_run_leaves_behind_and_nothing_else(accelerator, folder):
    enter(accelerator, folder)
    fill(folder)
    assert enter(accelerator, folder, {"a": 1}, force=True) is False
    kept = content(folder)
    kept.pop(".lock", None)
    assert kept == {"config.yaml": "a: 1\n", "notes.txt": "old", "models": "old"}


def test_force_does_not_follow_links(accelerator, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights").write_text("precious", encoding="utf-8")
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(tmp_path / "elsewhere")
    enter(accelerator, folder, force=True)
    assert not (folder / "model").exists()
    assert (tmp_path / "elsewhere" / "weights").read_text("utf-8") == "precious"


def test_resume_goes_on_with_the_same_configuration(accelerator, folder):
    enter(accelerator, folder)
    (folder / "checkpoint.pt").write_text("old", encoding="utf-8")
    assert enter(accelerator, folder, resume=True) is False
    assert content(folder)["checkpoint.pt"] == "old"
    (folder / "report.json").write_text("{}", encoding="utf-8")
    assert enter(accelerator, folder, resume=True) is True


def test_what_a_killed_process_left_half_written_goes(accelerator, folder):
    enter(accelerator, folder)
    (folder / "plots").mkdir()
    for name in (".checkpoint.pt.123.tmp", "plots/.loss.svg.123.tmp", ".report.json.123.tmp", ".notes"):
        (folder / name).write_text("half", encoding="utf-8")
    enter(accelerator, folder, resume=True)
    assert {path.name for path in folder.rglob("*")} == {"config.yaml", ".lock", ".notes", "plots"}


def test_resume_without_a_run_starts_one(accelerator, folder):
    assert enter(accelerator, folder, resume=True) is False
    assert read_mapping(folder / "config.yaml") == CONFIG


def test_resume_names_what_differs(accelerator, folder):
    enter(accelerator, folder)
    before = content(folder)
    other = {"data": {"path": "other.csv", "ids": ["007", "1e5", "no"]}, "training": {"epochs": 3, "seed": 1}}
    with pytest.raises(ConfigError) as caught:
        enter(accelerator, folder, other, resume=True)
    words = str(caught.value)
    assert "data.path was 'essays.csv', now 'other.csv'" in words
    assert "training.rate was 1e-05, now None" in words
    assert "training.seed was None, now 1" in words
    assert "epochs" not in words
    assert "ids" not in words
    assert "Resume with the same configuration, or start again with --force" in words
    assert content(folder) == before


def test_resume_removes_nothing_where_the_configuration_is_missing(accelerator, folder):
    enter(accelerator, folder)
    fill(folder)
    (folder / "config.yaml").unlink()
    before = content(folder)
    with pytest.raises(ConfigError, match=r"--resume: .* holds metrics.jsonl, .* but no config.yaml, .* Replace it by"):
        enter(accelerator, folder, resume=True)
    assert content(folder) == before


def test_a_folder_that_cannot_be_used(accelerator, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(ConfigError, match=r"The output folder .* cannot be used: (File exists|Not a directory)"):
            enter(accelerator, folder)


HOLDING = """
import sys
from pathlib import Path
from accelerate import Accelerator
from aes_dynloss.training.run_folder import run_folder
with run_folder(Accelerator(cpu=True), Path(sys.argv[1]), {"a": 1}, ("report.json",)):
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_locked_out(accelerator, folder):
    arguments = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "holding\n"
            for how in ({}, {"force": True}, {"resume": True}):
                with pytest.raises(
                    ConfigError, match=r"Another process is working in .*\. Wait for it, or choose another"
                ):
                    enter(accelerator, folder, {"a": 1}, **how)
        finally:
            # Killed, not asked: a lock must not outlive its process.
            other.kill()
    assert enter(accelerator, folder, {"a": 1}, resume=True) is False


def test_the_lock_is_given_back_after_an_error(accelerator, folder):
    def interrupted():
        with run_folder(accelerator, folder, CONFIG, PRODUCTS):
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert enter(accelerator, folder, resume=True) is False


def test_texts_are_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json(path, {"a": ["é", 1.5]})
    assert path.read_bytes() == '{\n  "a": [\n    "é",\n    1.5\n  ]\n}\n'.encode()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"Cannot write .*report.json: No space left on device"):
        write_text(path, "half a rep")
    assert path.read_text("utf-8").startswith('{\n  "a"')


def test_texts_for_which_there_is_no_folder(tmp_path):
    (tmp_path / "none").write_text("a file")
    with pytest.raises(DataError, match=r"Cannot write .*report.json: "):
        write_text(Path(tmp_path / "none" / "report.json"), "words")


def test_json_holds_finite_numbers(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "report.json", {"a": float("nan")})


def fail(accelerator, folder, made=None, content="begun", **how):
    """A run that fails, at once or when it has written a file; answers what is in its folder afterwards, if that is."""

    def begin() -> None:
        with run_folder(accelerator, folder, CONFIG, PRODUCTS, **how):
            if made is not None:
                (folder / made).parent.mkdir(exist_ok=True)
                (folder / made).write_text(content)
            raise DataError("There is no such file.")

    with pytest.raises(DataError):
        begin()
    return {path.name for path in folder.iterdir()} - {".lock"} if folder.exists() else None


@pytest.mark.parametrize("made", ["metrics.jsonl", "model", "model/weights"])
def test_what_fails_when_it_has_made_something_is_a_run(accelerator, folder, made):
    assert fail(accelerator, folder, made) == {"config.yaml", made.split("/")[0]}
    with pytest.raises(ConfigError, match="already holds a run"):
        enter(accelerator, folder)


@pytest.mark.parametrize("begun", [None, "metrics.jsonl", "model/weights"])
def test_what_fails_before_it_has_made_anything_leaves_nothing(accelerator, folder, begun):
    assert fail(accelerator, folder, begun, content="") is None
    assert not folder.parent.exists()
    assert enter(accelerator, folder, {"a": 1}) is False


def test_what_was_there_before_a_run_that_failed_stays(accelerator, folder):
    folder.parent.mkdir()
    (folder.parent / "notes.txt").write_text("mine")
    assert fail(accelerator, folder) is None
    folder.mkdir()
    assert fail(accelerator, folder, "metrics.jsonl", content="") == set()
    (folder / "empty.txt").touch()
    (folder / "models").mkdir()
    assert fail(accelerator, folder) == {"empty.txt", "models"}
    assert content(folder.parent) == {"notes.txt": "mine", "first/empty.txt": ""}


def test_a_resumed_run_that_fails_keeps_what_is_there(accelerator, folder):
    enter(accelerator, folder)
    fill(folder)
    before = content(folder)
    fail(accelerator, folder, resume=True)
    assert content(folder) == before


@pytest.fixture
def complete(accelerator, folder):
    """What a complete run left in the folder, by name."""
    enter(accelerator, folder)
    fill(folder)
    return {name: text for name, text in content(folder).items() if name != ".lock"}


def test_a_run_that_is_replaced_is_back_if_the_new_one_makes_nothing(accelerator, folder, complete):
    fail(accelerator, folder, "metrics.jsonl", content="", force=True)
    assert content(folder) == complete


def test_a_run_that_is_replaced_stays_aside_until_the_new_one_is_complete(accelerator, folder, complete):
    fail(accelerator, folder, "checkpoint.pt", force=True)
    assert content(folder)["checkpoint.pt"] == "begun"
    assert content(folder / REPLACED)["report.json"] == "old"
    # A third run fails at once: the first, which was complete, is there again.
    fail(accelerator, folder, force=True)
    assert content(folder) == complete
    enter(accelerator, folder, {"a": 1}, force=True)
    assert not (folder / REPLACED).exists()


def killed(folder, moves):
    """Move files as a process would have that was killed then."""
    for source, target in moves:
        (folder / target).parent.mkdir(exist_ok=True)
        (folder / source).rename(folder / target)


@pytest.mark.parametrize("how", [{"force": True}, {}, {"resume": True}])
@pytest.mark.parametrize(
    "moved",
    [
        [CONFIG_FILE],  # as it set the run aside
        [CONFIG_FILE, "model"],
        [CONFIG_FILE, "model", "metrics.jsonl", "checkpoint.pt", "report.json"],  # all of it
        ["report.json", CONFIG_FILE],  # as it put it back
    ],
)
def test_a_process_that_is_killed_as_it_moves_a_run_loses_nothing(accelerator, folder, complete, moved, how):
    killed(folder, [(name, f"{REPLACED}/{name}") for name in moved])
    if how.get("resume"):
        assert enter(accelerator, folder, resume=True) is True
    elif how:
        fail(accelerator, folder, force=True)
    else:
        with pytest.raises(ConfigError, match="already holds a run"):
            enter(accelerator, folder)
    assert {name: text for name, text in content(folder).items() if name != ".lock"} == complete
    assert not (folder / REPLACED).exists()


def test_a_complete_run_outlives_the_one_that_it_replaced(accelerator, folder, complete):
    (folder / REPLACED).mkdir()
    for name in (CONFIG_FILE, "report.json"):
        (folder / REPLACED / name).write_text("older")
    fail(accelerator, folder, force=True)  # the process was killed before it could remove the older one
    assert content(folder) == complete
    (folder / REPLACED).mkdir()
    (folder / REPLACED / "report.json").write_text("half removed")
    assert enter(accelerator, folder, resume=True) is True
    assert not (folder / REPLACED).exists()


def test_a_run_that_cannot_be_moved_is_refused(accelerator, folder, complete, monkeypatch):
    def refused(*_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(ConfigError, match="cannot be set aside: Permission denied"):
        enter(accelerator, folder, force=True)
    monkeypatch.undo()
    fail(accelerator, folder, force=True)
    assert content(folder) == complete
