"""Ensembles on disk: the same scores after a round trip, and one clear error for whatever has happened to the files."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from damage import damaged_values
from folder_content import content
from tiny_encoder import write_tiny_encoder
from tiny_scorer import RULES, tiny_scorer, values_of

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.ensembles import ensemble as ensemble_folder
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.model.model_folder import config_digest
from aes_dynloss.essays.model.scorer import EncoderScorer

TEXTS = ["the teacher and the otter", "", "a bridge is not a school. " * 20, "phones 42"]
PROMPT_IDS = ["letter", "notice", "notice", "letter"]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = write_tiny_encoder(folder / "encoder")
    tiny_scorer(encoder).save_pretrained(folder / "0", card="# One\n")
    tiny_scorer(encoder, head="ordinal", max_tokens=24).save_pretrained(folder / "1", card="# Two\n")
    return [folder / "0", folder / "1"]


@pytest.fixture
def folder(models: list[Path], tmp_path: Path) -> Path:
    """An ensemble's folder to damage."""
    ensemble = EssayEnsemble.from_members(models)
    ensemble.postprocessing = RULES["rescale"]
    ensemble.save_pretrained(tmp_path / "both")
    return tmp_path / "both"


@pytest.mark.parametrize("rule", RULES)
def test_the_same_scores_after_a_round_trip(models: list[Path], tmp_path: Path, rule: str) -> None:
    made = EssayEnsemble.from_members(models)
    made.postprocessing = RULES[rule]
    made.save_pretrained(tmp_path / "a" / "both")
    before = made.score(TEXTS, PROMPT_IDS)
    for opened in (EssayEnsemble.from_pretrained(str(tmp_path / "a" / "both")), open_scorer(tmp_path / "a" / "both")):
        after = opened.score(TEXTS, PROMPT_IDS)
        for name in ("raw", "score", "tokens", "dropped_tokens"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert isinstance(opened, EssayEnsemble)
        assert (opened.prompts, opened.postprocessing, opened.capped) == (made.prompts, RULES[rule], True)
    opened.save_pretrained(tmp_path / "b")
    assert content(tmp_path / "b") == content(tmp_path / "a" / "both")


def test_what_is_written(models: list[Path], folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "members"}
    assert [path.name for path in folder.parent.iterdir()] == ["both"]
    for number, model in enumerate(models):
        assert content(folder / "members" / str(number)) == content(model)
        EncoderScorer.from_pretrained(folder / "members" / str(number))
    assert len({stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}) == 1
    card = (folder / "README.md").read_text()
    assert "by the mean of 2 models' raw scores." in card
    assert "| letter | 1 to 6 |\n| notice | 0 to 2 in steps of 0.5 |" in card
    assert str(models[0].parent) not in (folder / "config.json").read_text() + card


def test_only_the_models_own_files_are_copied(models: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(models[0], tmp_path / "copy"))
    (copy / ".evil.py").write_text("code")
    EssayEnsemble.from_members([copy, models[1]]).save_pretrained(tmp_path / "both", card="# Mine\n")
    assert content(tmp_path / "both" / "members" / "0") == content(models[0])
    assert (tmp_path / "both" / "README.md").read_text() == "# Mine\n"


@pytest.mark.parametrize(
    "name", ["special_tokens_map.json", "members/special_tokens_map.json", "members/0/special_tokens_map.json"]
)
def test_unlisted_files_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text('{"pad_token": "otter"}')
    with pytest.raises(CheckpointError, match=r"special_tokens_map.json is not among the files"):
        open_scorer(folder)


def test_a_licence_may_lie_in_it_and_in_a_member(folder: Path) -> None:
    for inner in (".", "members/0"):
        (folder / inner / "LICENSE").write_text("for people")
    open_scorer(folder)


def test_an_unlisted_member_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "members" / "0", folder / "members" / "2")
    with pytest.raises(CheckpointError, match=r"members/2/.* is not among the files"):
        open_scorer(folder)


@pytest.mark.parametrize("links", [True, False])
def test_equal_files_take_their_room_once(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    EssayEnsemble.from_members([models[0], models[1], models[0]]).save_pretrained(tmp_path / "three")
    members = tmp_path / "three" / "members"

    def files(name: str, *numbers: int) -> int:
        return len({(members / str(number) / name).stat().st_ino for number in numbers})

    assert files("tokenizer.json", 0, 1, 2) == (1 if links else 3)
    assert files(WEIGHTS, 0, 2) == (1 if links else 2)
    assert files(WEIGHTS, 0, 1) == 2
    assert (models[0] / WEIGHTS).stat().st_ino != (members / "0" / WEIGHTS).stat().st_ino  # a copy, not the original
    for number, model in enumerate([models[0], models[1], models[0]]):
        assert content(members / str(number)) == content(model)


def test_either_kind_is_opened_as_what_it_is(models: list[Path], folder: Path, tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    single, several = open_scorer(models[0], accelerator), open_scorer(str(folder), accelerator)
    assert isinstance(single, EncoderScorer)
    assert single.accelerator is accelerator
    assert {member.scorer.accelerator for member in several.members} == {accelerator}
    with pytest.raises(CheckpointError, match=r"both holds an ensemble, where a single scorer is expected\. Give one"):
        EncoderScorer.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"both holds an ensemble, where a single scorer is expected"):
        EssayEnsemble.from_members([models[0], folder])
    with pytest.raises(CheckpointError, match=r"config\.json is not that of an ensemble of essay scorers"):
        EssayEnsemble.from_pretrained(models[0])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"is not that of an essay scorer or an ensemble of essay scorers\. Give"):
        open_scorer(tmp_path)
    with pytest.raises(CheckpointError, match=r"There is no model folder .*none"):
        open_scorer(tmp_path / "none")


def test_a_run_stands_for_the_model_in_it(models: list[Path], folder: Path, tmp_path: Path) -> None:
    for made, opens in ((models[0], EncoderScorer.from_pretrained), (folder, EssayEnsemble.from_pretrained)):
        run = tmp_path / f"run of {made.name}"
        run.mkdir()
        with pytest.raises(CheckpointError, match=r"has no config\.json\. Give a run of finetune, or its"):
            open_scorer(run)
        shutil.copytree(made, run / "model")
        for opened in (open_scorer(run), opens(run), open_scorer(run / "model")):
            assert list(opened.prompts) == list(open_scorer(made).prompts)
    runs = [tmp_path / "run of 0", models[1]]
    assert [member.folder.name for member in EssayEnsemble.from_members(runs).members] == ["model", "1"]


class TestDamage:
    @pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
    def test_of_a_members_file(self, folder: Path, name: str) -> None:
        path = folder / "members" / "1" / name
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(CheckpointError, match=rf"members/[01]/{name} is not what was written: its sha256 is "):
            EssayEnsemble.from_pretrained(folder)

    def test_a_member_by_another_sound_one(self, models: list[Path], folder: Path, tmp_path: Path) -> None:
        shutil.rmtree(folder / "members" / "1")
        shutil.copytree(models[0], folder / "members" / "1")
        with pytest.raises(CheckpointError, match=r"members/1 is not the member that was stored there: .*was swapped"):
            EssayEnsemble.from_pretrained(folder)

    def test_members_in_each_others_places(self, folder: Path) -> None:
        members = folder / "members"
        (members / "0").rename(members / "2")
        (members / "1").rename(members / "0")
        (members / "2").rename(members / "1")
        with pytest.raises(CheckpointError, match=r"members/0 is not the member that was stored there"):
            EssayEnsemble.from_pretrained(folder)

    @pytest.mark.parametrize("what", ["members", "members/1", "members/1/config.json"])
    def test_a_member_that_is_gone(self, folder: Path, what: str) -> None:
        path = folder / what
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        with pytest.raises(CheckpointError, match=r"The ensemble lacks its member .*members/[01]\. Fetch its folder"):
            EssayEnsemble.from_pretrained(folder)

    def test_every_edit_of_config_is_noticed(self, folder: Path) -> None:
        values = values_of(folder)
        for number in range(150):
            edited = damaged_values(values, random.Random(number))
            (folder / "config.json").write_text(json.dumps(edited), encoding="utf-8")
            if json.dumps(edited, sort_keys=True) == json.dumps(values, sort_keys=True):
                continue
            with pytest.raises(CheckpointError):
                open_scorer(folder)

    def test_no_edit_of_a_signed_config_is_a_bug(self, folder: Path) -> None:
        values = values_of(folder)
        refused = 0
        for number in range(150):
            edited = damaged_values(
                {name: value for name, value in values.items() if name != "sha256"}, random.Random(number)
            )
            edited["sha256"] = {}
            edited["sha256"]["config.json"] = config_digest(edited)
            (folder / "config.json").write_text(json.dumps(edited), encoding="utf-8")
            try:
                open_scorer(folder)
            except CheckpointError:
                refused += 1
        assert 50 < refused < 150

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few_members(self, folder: Path, count: int) -> None:
        values = values_of(folder)
        for number in range(count, len(values["members"])):
            shutil.rmtree(folder / "members" / str(number))
        values["members"] = values["members"][:count]
        values["sha256"]["config.json"] = config_digest(values)
        (folder / "config.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match=rf"both is damaged: An ensemble needs two .*, found {count}"):
            EssayEnsemble.from_pretrained(folder)


class TestWriting:
    @pytest.mark.parametrize(
        "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")]
    )
    @pytest.mark.parametrize("older", [False, True])
    def test_an_end_half_way_leaves_nothing(
        self,
        models: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
        older: bool,
    ) -> None:
        ensemble = EssayEnsemble.from_members(models)
        if older:
            ensemble.save_pretrained(tmp_path / "new" / "both", card="# Older\n")
        before = content(tmp_path)
        seen: list[set[str]] = []

        def fail(source: Path, target: Path, *rest: object) -> None:
            if "members/1/model.safetensors" in str(target):
                seen.append({path.name for path in tmp_path.rglob("*")})
                raise error
            copy(source, target, *rest)

        copy = ensemble_folder._copy
        monkeypatch.setattr(ensemble_folder, "_copy", fail)
        with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)) as caught:
            ensemble.save_pretrained(tmp_path / "new" / "both")
        assert not isinstance(error, OSError) or "both cannot be written: No space left" in str(caught.value)
        assert WEIGHTS in seen[0]  # it was half-way
        assert content(tmp_path) == before
        assert [path.name for path in (tmp_path / "new").iterdir()] == (["both"] if older else [])

    @pytest.mark.parametrize("what", ["changed", "gone"])
    @pytest.mark.parametrize("name", ["config.json", WEIGHTS])
    def test_a_member_that_is_no_longer_what_was_opened(
        self, models: list[Path], tmp_path: Path, what: str, name: str
    ) -> None:
        copy = Path(shutil.copytree(models[0], tmp_path / "copy"))
        ensemble = EssayEnsemble.from_members([copy, models[1]])
        if what == "gone":
            (copy / name).unlink()
        else:
            shutil.copy(models[1] / name, copy / name)
        with pytest.raises(CheckpointError, match=rf"copy/{name} is not what was opened: it has changed since"):
            ensemble.save_pretrained(tmp_path / "both")
        assert [path.name for path in tmp_path.iterdir()] == ["copy"]

    def test_older_models_are_replaced_and_nothing_else(self, models: list[Path], folder: Path, tmp_path: Path) -> None:
        ensemble = EssayEnsemble.from_members([models[1], models[0]])
        (folder / "left_over.txt").touch()
        shutil.copytree(models[0], tmp_path / "single")
        for place in (folder, tmp_path / "single"):
            ensemble.save_pretrained(place)
            assert {path.name for path in place.iterdir()} == {"README.md", "config.json", "members"}
            assert content(place / "members" / "0") == content(models[1])
        ensemble.members[0].scorer.save_pretrained(folder)  # and a model may take an ensemble's place
        assert isinstance(open_scorer(folder), EncoderScorer)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
        with pytest.raises(CheckpointError, match=r"thesis is there already and holds no model, so it is not replaced"):
            ensemble.save_pretrained(tmp_path / "thesis")
        assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
        assert {path.name for path in tmp_path.iterdir()} == {"both", "single", "thesis"}
