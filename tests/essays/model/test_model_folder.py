"""Model folders: the same scores after a round trip, and one clear error for whatever has happened to the files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from tiny_scorer import RULES, sign, tiny_scorer, values_of

from aes_dynloss import register_feature
from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.model import model_folder
from aes_dynloss.essays.model.encoder_folder import read_model_folder
from aes_dynloss.essays.model.scorer import EncoderScorer

TEXTS = ["the teacher and the otter", "", "a bridge is not a school. " * 20, "phones 42"]
PROMPT_IDS = ["letter", "notice", "notice", "letter"]
CONFIGS = [
    {},
    {"pooling": "attention", "head": "ordinal", "window": 12},
    {"pooling": "cls", "head": "softmax", "prompts": "embedding", "hidden": 3, "log_length": False},
    {"link": "sigmoid", "frozen_layers": 1, "max_tokens": 10},
    {"frozen_layers": "all", "dropout": 0.3},
]


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files by their path in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rule", RULES)
def test_the_same_scores_after_a_round_trip(
    encoder: Path, tmp_path: Path, config: dict[str, object], rule: str
) -> None:
    made = tiny_scorer(encoder, **config)
    made.postprocessing = RULES[rule]
    made.save_pretrained(tmp_path / "a" / "model")
    opened = EncoderScorer.from_pretrained(str(tmp_path / "a" / "model"))
    before, after = made.score(TEXTS, PROMPT_IDS), opened.score(TEXTS, PROMPT_IDS)
    for name in ("raw", "score", "tokens", "dropped_tokens"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert opened.prompts == made.prompts
    assert opened.postprocessing == made.postprocessing
    assert opened.model.config == made.model.config.model_copy(update={"encoder": encoder.name})
    assert opened.model.scales == made.model.scales
    assert not opened.model.training
    opened.save_pretrained(tmp_path / "b")
    assert files_of(tmp_path / "b") == files_of(tmp_path / "a" / "model")  # and nothing changes on the way


def test_what_is_written(written: Path, encoder: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        "1_Pooling",
        "README.md",
        "config.json",
        "head.safetensors",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [path.name for path in written.parent.iterdir()] == ["model"]
    assert len({stat.S_IMODE(path.stat().st_mode) for path in written.rglob("*") if path.is_file()}) == 1
    values = values_of(written)
    assert (values["format"], values["version"]) == ("aes_dynloss.essay_scorer", 2)
    assert values["model"]["encoder"] == encoder.name
    assert not [name for name, content in files_of(written).items() if str(encoder).encode() in content]
    assert not {"transformers_version", "_name_or_path"} & (values["encoder"].keys() | values.keys())
    card = (written / "README.md").read_text()
    assert all(f"| {prompt} |" in card for prompt in ("letter", "notice"))


def test_card(rescaling_scorer: EncoderScorer, tmp_path: Path) -> None:
    rescaling_scorer.save_pretrained(tmp_path / "m", card="# A card\n")
    assert (tmp_path / "m" / "README.md").read_text() == "# A card\n"


class TestReplacing:
    def test_an_older_model_is_replaced_as_a_whole(self, rescaling_scorer: EncoderScorer, folder: Path) -> None:
        (folder / "left_over.txt").touch()
        rescaling_scorer.save_pretrained(folder, card="new")
        assert (folder / "README.md").read_text() == "new"
        assert not (folder / "left_over.txt").exists()
        assert [path.name for path in folder.parent.iterdir()] == ["model"]

    @pytest.mark.parametrize("when", ["writing", "moving"])
    def test_it_stays_if_the_new_one_cannot_be_written(
        self, rescaling_scorer: EncoderScorer, folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        before = files_of(folder)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        if when == "writing":
            monkeypatch.setattr(model_folder, "file_sha256", full)
        else:
            real = Path.replace
            monkeypatch.setattr("aes_dynloss.tables.atomic._exchange", lambda *_: False)  # as on other systems
            monkeypatch.setattr(
                Path, "replace", lambda p, to: real(p, to) if ".old" in f"{p.name} {to.name}" else full()
            )
        with pytest.raises(CheckpointError, match=r"model cannot be written: No space left on device"):
            rescaling_scorer.save_pretrained(folder)
        assert files_of(folder) == before
        assert [path.name for path in folder.parent.iterdir()] == ["model"]

    def test_other_things_are_not_replaced(self, rescaling_scorer: EncoderScorer, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
        (tmp_path / "file").write_text("words")
        for name in ("thesis", "file"):
            with pytest.raises(CheckpointError, match=rf"{name} is there already and holds no model, so it is not"):
                rescaling_scorer.save_pretrained(tmp_path / name)
        assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
        assert (tmp_path / "file").read_text() == "words"
        assert {path.name for path in tmp_path.iterdir()} == {"thesis", "file"}

    def test_an_empty_folder_and_the_current_one(
        self, rescaling_scorer: EncoderScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        rescaling_scorer.save_pretrained(".")
        read_model_folder(tmp_path / "empty")

    def test_a_file_in_the_way(self, rescaling_scorer: EncoderScorer, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(CheckpointError, match=r"The model folder .*file/model cannot be written: "):
            rescaling_scorer.save_pretrained(tmp_path / "file" / "model")


def test_permissions_follow_the_mask(rescaling_scorer: EncoderScorer, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        rescaling_scorer.save_pretrained(tmp_path / "m")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "m").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o750


def own_feature(*keys: str) -> None:
    def own(text: str) -> dict[str, int]:
        return dict.fromkeys(keys, len(text))

    register_feature("own")(own)


@pytest.fixture
def with_own_feature(own_parts: None, encoder: Path, tmp_path: Path) -> Path:
    own_feature("words", "vowels")
    tiny_scorer(encoder, linguistic=["counts", "own"]).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("keys", [["vowels", "words"], ["words"], ["words", "vowels", "letters"]])
def test_an_own_feature_with_other_columns_than_in_training(with_own_feature: Path, keys: list[str]) -> None:
    read_model_folder(with_own_feature)
    own_feature(*keys)
    now = str([f"own_{key}" for key in keys])
    with pytest.raises(CheckpointError) as caught:
        read_model_folder(with_own_feature)
    for words in (str(with_own_feature), "'own'", now, "['own_words', 'own_vowels']", "version of the feature"):
        assert words in str(caught.value)


def test_folders_made_before_name_no_columns(with_own_feature: Path) -> None:
    values = values_of(with_own_feature)
    assert values["parts"].pop("columns") == {"own": ["own_words", "own_vowels"]}
    sign(with_own_feature, values)
    read_model_folder(with_own_feature)
