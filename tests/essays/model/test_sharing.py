"""Models that go to a hub and come from it, which is a stub on this machine."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from accelerate import Accelerator
from stub_hub import TOKEN, Repository, StubHub, stub_hub
from tiny_scorer import tiny_scorer

import aes_dynloss
from aes_dynloss import EssayScorer
from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.model.hub import hub_name
from aes_dynloss.essays.model.sharing import download, locate_model, push_to_hub

TEXTS = ["the teacher and the otter", "a bridge is not a school."]
PROMPT_IDS = ["letter", "notice"]
NAME = "ana/argument-scorer"
constants = huggingface_hub.constants


def point_to(address: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.utils.disable_progress_bars()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StubHub]:
    with stub_hub() as stub:
        point_to(stub.address, monkeypatch, tmp_path / "cache")
        monkeypatch.chdir(tmp_path)
        yield stub


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def ensemble(folder: Path, encoder: Path, tmp_path: Path, accelerator: Accelerator) -> Path:
    tiny_scorer(encoder, pooling="cls").save_pretrained(tmp_path / "other")
    both = EssayEnsemble.from_members([folder, tmp_path / "other"], accelerator=accelerator)
    both.save_pretrained(tmp_path / "both")
    (tmp_path / "both" / "predictions_test.csv").write_text("essay_id,reference\n17,3\n")
    return tmp_path / "both"


class TestThereAndBack:
    def test_a_model(self, hub: StubHub, folder: Path, accelerator: Accelerator) -> None:
        address = push_to_hub(folder, NAME, commit_message="First")
        assert address == f"{hub.address}/{NAME}/commit/{hub.repositories[NAME].heads['main']}"
        assert hub.files(NAME) == {".gitattributes": b"", **files_of(folder)}
        assert not hub.repositories[NAME].private
        fetched = download(NAME)
        assert files_of(fetched) == files_of(folder)
        one, two, three = (
            open_scorer(source, accelerator).score(TEXTS, PROMPT_IDS).raw for source in (folder, fetched, NAME)
        )
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)

    def test_an_ensemble_without_the_essays_of_its_report(
        self, hub: StubHub, ensemble: Path, accelerator: Accelerator
    ) -> None:
        push_to_hub(ensemble, NAME, private=True)
        assert hub.repositories[NAME].private
        assert "predictions_test.csv" not in hub.files(NAME)
        assert "members/1/head.safetensors" in hub.files(NAME)
        one, two = (open_scorer(source, accelerator).score(TEXTS, PROMPT_IDS).raw for source in (ensemble, NAME))
        np.testing.assert_array_equal(one, two)

    def test_a_run_goes_without_its_predictions(self, hub: StubHub, folder: Path) -> None:
        (folder.parent / "predictions_test.csv").write_text("essay_id,reference\n17,3\n")
        push_to_hub(folder.parent, NAME)
        assert hub.files(NAME).keys() - {".gitattributes"} == files_of(folder).keys()

    def test_another_model_takes_its_place_whole(self, hub: StubHub, folder: Path, ensemble: Path) -> None:
        push_to_hub(ensemble, NAME)
        beside = {"LICENSE": b"mine", "onnx/config.json": b"{}", "adapter.safetensors": b"", "citation.json": b"{}"}
        hub.repositories[NAME].commit({**hub.files(NAME), **beside})
        push_to_hub(folder, NAME)
        assert hub.files(NAME) == {".gitattributes": b"", **beside, **files_of(folder)}
        push_to_hub(ensemble, NAME)
        own = files_of(ensemble).keys() - {"predictions_test.csv"}
        assert hub.files(NAME).keys() == {".gitattributes", *beside, *own}
        assert download(NAME)  # what lies beside it is not fetched

    def test_revisions(self, hub: StubHub, folder: Path, encoder: Path) -> None:
        push_to_hub(folder, NAME)
        first = hub.repositories[NAME].heads["main"]
        tiny_scorer(encoder).save_pretrained(folder, card="second")
        push_to_hub(folder, NAME, revision="trial")
        push_to_hub(folder, NAME, revision="trial")
        assert (download(NAME) / "README.md").read_text() != "second"
        assert (download(NAME, "trial") / "README.md").read_text() == "second"
        assert locate_model(f"{NAME}@trial") == download(NAME, revision="trial")
        assert locate_model(f"{NAME}@{first}") == download(NAME)


class TestWhatIsHereGoesFirst:
    def test_a_folder(self, hub: StubHub, folder: Path, tmp_path: Path) -> None:
        folder.rename(tmp_path / "scorer")
        (tmp_path / "ana").mkdir()
        (tmp_path / "scorer").rename(tmp_path / "ana" / "argument-scorer")
        assert locate_model(NAME) == Path(NAME)
        assert hub.asked == []

    def test_a_mistyped_path_is_not_told_to_the_hub(self, hub: StubHub, tmp_path: Path) -> None:
        (tmp_path / "runs").mkdir()
        with pytest.raises(CheckpointError, match=r"There is no model folder runs/frist\. Give a run"):
            open_scorer("runs/frist")
        assert hub.asked == []

    @pytest.mark.parametrize(
        "source",
        [
            *("model", "/ana/scorer", "./scorer", "../scorer", "~/scorer", "ana/b/c", "ana/b@", "ana/b c", "", "é/b"),
            *("model/a.zip", "model/A.ZIP", "essays/dev.csv", "essays/dev.parquet", "ana/b.zip@v1"),
        ],
    )
    def test_these_are_paths(self, source: str) -> None:
        assert hub_name(source) is None


class TestFaults:
    def facts(self, source: str, *words: str, revision: str | None = None) -> None:
        with pytest.raises(CheckpointError) as caught:
            download(source, revision)
        message = str(caught.value)
        assert [word for word in words if word not in message] == []
        assert "\n" not in message

    def test_no_such_model(self, hub: StubHub) -> None:
        self.facts("ana/none", "There is no model folder ana/none here", hub.address, "no such model", "hf auth login")
        assert len(hub.asked) < 5

    def test_a_private_one_is_for_those_who_may_see_it(
        self, hub: StubHub, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        push_to_hub(folder, NAME, private=True)
        monkeypatch.delenv("HF_TOKEN")
        self.facts(NAME, "no such model, or not for everybody")
        assert download(NAME, token=TOKEN)
        assert EssayScorer.from_pretrained(NAME, token=TOKEN, cpu=True).prompts
        assert EssayScorer.from_pretrained(NAME, revision="main", token=TOKEN, cpu=True).prompts

    def test_no_such_revision(self, hub: StubHub, folder: Path) -> None:
        push_to_hub(folder, NAME)
        self.facts(NAME, "no such revision", revision="v9")

    def test_two_revisions(self, hub: StubHub) -> None:
        with pytest.raises(CheckpointError, match=r"@v1\.0 names a revision, and 'main' is given"):
            EssayScorer.from_pretrained(f"{NAME}@v1.0", revision="main")
        assert hub.asked == []

    @pytest.mark.parametrize("files", [{"config.json": b'{"model_type": "bert"}'}, {"README.md": b"words"}, {}])
    def test_something_else(self, hub: StubHub, folder: Path, files: dict[str, bytes]) -> None:
        push_to_hub(folder, NAME)
        hub.repositories[NAME].commit({"model.safetensors": b"much", **files})
        self.facts(NAME, "config.json", "Give a run of finetune")
        assert not [one for one in hub.asked if one.startswith("GET") and one.endswith("model.safetensors")]

    def test_a_file_that_was_changed_there(self, hub: StubHub, folder: Path) -> None:
        push_to_hub(folder, NAME)
        hub.repositories[NAME].commit({**hub.files(NAME), "head.safetensors": b"other"})
        with pytest.raises(CheckpointError, match=r"head\.safetensors is not what was written"):
            open_scorer(NAME)

    @pytest.mark.parametrize("offline", [True, False])
    def test_out_of_reach(
        self, hub: StubHub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: bool
    ) -> None:
        push_to_hub(folder, NAME)
        fetched = download(NAME)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            point_to(f"http://127.0.0.1:{free.getsockname()[1]}", monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        why = "HF_HUB_OFFLINE is set" if offline else "cannot be reached"
        start = time.monotonic()
        self.facts("ana/none", "ana/none here", why, "no copy of an earlier download", "Give a run of finetune")
        with pytest.raises(CheckpointError, match=f"is not pushed: the hub, .*{why}"):
            push_to_hub(folder, NAME)
        assert download(NAME) == fetched  # as it was fetched before
        assert time.monotonic() - start < 5

    def test_a_push_without_a_right_to(self, hub: StubHub, folder: Path) -> None:
        with pytest.raises(CheckpointError, match=r"is not pushed to the hub, .*401.*Log in by `hf auth login`"):
            push_to_hub(folder, NAME, token="hf_another")
        assert NAME not in hub.repositories

    @pytest.mark.parametrize(
        "files",
        [
            {"model.safetensors": b"much", "config.json": b'{"model_type": "bert"}'},
            {"config.json": b'{"format": "aes_dynloss.essay_scorer", "version": 2}'},
            {"members/essays.csv": b"words"},
            {"essays.csv": b"words", "README.md": b"words"},
        ],
    )
    def test_something_else_is_not_replaced(self, hub: StubHub, folder: Path, files: dict[str, bytes]) -> None:
        hub.repositories[NAME] = Repository()
        hub.repositories[NAME].commit(files)
        with pytest.raises(CheckpointError, match=rf"{NAME} on the hub holds files, but no model of this program"):
            push_to_hub(folder, NAME)
        assert hub.files(NAME) == files

    def test_a_repository_with_words_alone_is_filled(self, hub: StubHub, folder: Path) -> None:
        hub.repositories[NAME] = Repository()
        hub.repositories[NAME].commit({".gitattributes": b"", "LICENSE.txt": b"mine", "README.md": b"soon"})
        push_to_hub(folder, NAME)
        assert hub.files(NAME) == {".gitattributes": b"", "LICENSE.txt": b"mine", **files_of(folder)}

    def test_only_a_whole_model_is_pushed(self, hub: StubHub, folder: Path, ensemble: Path, tmp_path: Path) -> None:
        (tmp_path / "essays").mkdir()
        (ensemble / "members" / "1" / "head.safetensors").write_bytes(b"")
        (folder / "head.safetensors").write_bytes(b"")
        for wrong in (tmp_path / "none", tmp_path / "essays", folder, ensemble):
            with pytest.raises(CheckpointError):
                push_to_hub(wrong, NAME)
        assert hub.asked == []


def test_the_readme_says_how(hub: StubHub, folder: Path, tmp_path: Path) -> None:
    """Its Python runs, with a hub, on a run of that name."""
    text = (Path(aes_dynloss.__file__).parent / "essays" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Sharing a model") : text.index("### Model cards")]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "runs" / "first").mkdir(parents=True)
    folder.rename(tmp_path / "runs" / "first" / "model")
    for block in blocks:
        pytest.importorskip("sentence_transformers")
        exec(compile(block, "README.md", "exec"), {})
    assert hub.repositories["ana/argument-scorer"].private
    assert open_scorer("argument-scorer-copy").prompts
