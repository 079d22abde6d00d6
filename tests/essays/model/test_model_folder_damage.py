"""Damaged model folders: one clear error for whatever has happened to the files, never a wrong score."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_scorer import sign, tiny_scorer, values_of

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.model.encoder_folder import read_model_folder


def damage(folder: Path, what: str, encoder: Path) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    if what == "truncated":
        weights.write_bytes(content[:-8])
    elif what == "edited":
        weights.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    elif what == "swapped":
        other = tiny_scorer(encoder, pooling="attention", max_tokens=64, hidden=4)
        with torch.no_grad():
            next(other.model.encoder.parameters()).add_(1)
        other.save_pretrained(folder.parent / "other")
        shutil.copy(folder.parent / "other" / "model.safetensors", weights)
    elif what == "empty":
        weights.write_bytes(b"")
    elif what == "tokenizer":
        text = (folder / "tokenizer.json").read_text()
        assert '"otter"' in text
        (folder / "tokenizer.json").write_text(text.replace('"otter"', '"beaver"'))


class TestFiles:
    @pytest.mark.parametrize("what", ["truncated", "edited", "swapped", "empty", "tokenizer"])
    def test_changed(self, folder: Path, encoder: Path, what: str) -> None:
        damage(folder, what, encoder)
        name = "tokenizer.json" if what == "tokenizer" else "model.safetensors"
        with pytest.raises(CheckpointError, match=rf"{name} is not what was written: its sha256 is .*fetch the folder"):
            read_model_folder(folder)

    @pytest.mark.parametrize(
        "name",
        [
            *("model.safetensors", "head.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"),
            *("modules.json", "1_Pooling/config.json"),
        ],
    )
    def test_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=rf"model has no {name}\. Give (a run|the folder model/ of a run)"):
            read_model_folder(folder)

    def test_all_of_the_tokenizer_missing(self, folder: Path) -> None:
        values = values_of(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
            del values["sha256"][name]
        sign(folder, values)
        with pytest.raises(CheckpointError, match=r"tokenizer in .* is not that of its encoder"):
            read_model_folder(folder)

    def test_tokenizer_of_another_encoder(self, folder: Path) -> None:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        words = tokenizer["model"]["vocab"]
        words |= {f"extra{number}": len(words) + number for number in range(5)}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        sign(folder, values_of(folder))
        with pytest.raises(CheckpointError, match=r"tokenizer in .* is not that of its encoder"):
            read_model_folder(folder)

    def test_tokenizer_that_is_none(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")
        sign(folder, values_of(folder))
        with pytest.raises(CheckpointError, match=r"The tokenizer in .* cannot be read"):
            read_model_folder(folder)

    @pytest.mark.parametrize("change", ["less", "more", "shape", "none"])
    def test_weights_that_do_not_fit(self, folder: Path, change: str) -> None:
        path = folder / "head.safetensors"
        state = load_file(path)
        if change == "less":
            del state["head.answer.bias"]
        elif change == "more":
            state["head.answer.surplus"] = torch.zeros(2)
        elif change == "shape":
            state["head.answer.bias"] = torch.zeros(7)
        save_file(state, path)
        words = r"do not fit config\.json: 1 of them differ, such as head\.answer\."
        if change == "none":
            path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ...")
            words = r"head\.safetensors is damaged"
        sign(folder, values_of(folder))
        with pytest.raises(CheckpointError, match=words):
            read_model_folder(folder)

    @pytest.mark.parametrize(
        "name",
        [
            "special_tokens_map.json",
            "chat_templates/README.md",
            "members/0/config.json",
            "1_Pooling/b",
            "a/b",
            "a/LICENSE",
            "licence/b",
        ],
    )
    def test_unlisted(self, folder: Path, name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"pad_token": "otter"}')
        with pytest.raises(CheckpointError, match=r"is not among the files that .*config\.json lists") as caught:
            read_model_folder(folder)
        assert str(path) in str(caught.value)

    def test_a_link_to_a_folder(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (folder / "chat_templates").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CheckpointError, match="chat_templates is not among the files"):
            read_model_folder(folder)

    def test_what_is_not_read_may_lie_there(self, folder: Path) -> None:
        (folder / ".git" / "objects").mkdir(parents=True)
        (folder / ".git" / "objects" / "pack").touch()
        (folder / ".gitattributes").touch()
        (folder / "README.md").write_text("# Another card")
        for name in ("LICENSE", "licence.txt", "NOTICE", "CHANGES.md", "agreement.PNG"):
            (folder / name).write_text("for people")
        read_model_folder(folder)

    def test_a_link_to_a_folder_by_the_name_of_a_licence(self, folder: Path, tmp_path: Path) -> None:
        (folder / "LICENSE").symlink_to(tmp_path)
        with pytest.raises(CheckpointError, match="LICENSE is not among the files"):
            read_model_folder(folder)

    def test_the_attention_that_it_names_is_not_used(self, folder: Path) -> None:
        values = values_of(folder)
        values["encoder"]["attn_implementation"] = "eager"
        sign(folder, values)
        assert read_model_folder(folder).model.encoder.config._attn_implementation != "eager"

    def test_code_beside_them_is_not_run(self, folder: Path, tmp_path: Path) -> None:
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\nclass C: pass\n")
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": [None, "evil.C"]}}))
        values = values_of(folder)
        values["sha256"]["evil.py"] = ""
        sign(folder, copy.deepcopy(values))
        read_model_folder(folder)  # its tokenizer is of a known kind
        values["encoder"]["auto_map"] = {"AutoConfig": "evil.C"}
        sign(folder, values)
        with pytest.raises(CheckpointError, match="asks for code of its own"):
            read_model_folder(folder)
        assert not (tmp_path / "trace").exists()


class TestFolder:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"There is no model folder .*none\. Give a run of finetune"):
            read_model_folder(tmp_path / "none")

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1'])
    def test_config_that_is_no_json(self, folder: Path, content: bytes) -> None:
        (folder / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"config\.json is damaged: .*Fetch the folder again"):
            read_model_folder(folder)

    def test_config_of_something_else(self, folder: Path, encoder: Path) -> None:
        (folder / "config.json").write_text("[]")
        with pytest.raises(CheckpointError, match="is not that of an essay scorer"):
            read_model_folder(folder)
        with pytest.raises(CheckpointError, match="is not that of an essay scorer"):
            read_model_folder(encoder)

    @pytest.mark.parametrize("version", [0, 3, "1", None])
    def test_other_version(self, folder: Path, version: object) -> None:
        sign(folder, {**values_of(folder), "version": version})
        with pytest.raises(
            CheckpointError, match=rf"has version {version!r} of the format, this program reads 1 and 2\. Upd"
        ):
            read_model_folder(folder)

    def test_layout_of_config_is_free(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(values_of(folder), sort_keys=True))
        read_model_folder(folder)


def places(values: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all keys and list entries in nested values."""
    if isinstance(values, dict | list):
        for key in values if isinstance(values, dict) else range(len(values)):
            yield (*path, key)
            yield from places(values[key], (*path, key))


def changed(values: Any, path: tuple[str | int, ...], replacement: object) -> Any:
    """A copy in which the value at a path is another, or gone."""
    result = copy.deepcopy(values)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    if replacement is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = replacement
    return result


DELETED = object()
WRONG = (DELETED, None, "word", -7, 2.5, [], {}, True, [["a", 1]], {"a": {}})


def test_every_edit_of_config_is_noticed(folder: Path) -> None:
    values = values_of(folder)
    tried = 0
    for path in places(values):
        for wrong in WRONG:
            edited = changed(values, path, wrong)
            if json.dumps(edited, sort_keys=True) == json.dumps(values, sort_keys=True):
                continue
            (folder / "config.json").write_text(json.dumps(edited), encoding="utf-8")
            with pytest.raises(CheckpointError):
                read_model_folder(folder)
            tried += 1
    assert tried > 500


def test_no_edit_of_a_signed_config_is_a_bug(folder: Path) -> None:
    """Values that only this program could have written, but would not: one clear error, or a scorer."""
    values = values_of(folder)
    refused = 0
    for path in places(values):
        if path[0] in {"sha256", "format", "version"}:
            continue
        for wrong in (DELETED, None, "word", -7, []):
            sign(folder, changed(values, path, wrong))
            try:
                read_model_folder(folder)
            except CheckpointError:
                refused += 1
    assert refused > 200
