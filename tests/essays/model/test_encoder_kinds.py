"""Encoders of many kinds: the longest window that each can read, its layers, its dropout."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_scorer import CONFIGS, VOCABULARY, random_encoder

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.encoders import check_window, layer_list, longest_window, set_dropout


class _AnyLength:
    model_max_length = int(1e30)


KINDS = sorted(CONFIGS.keys() - {"t5"})


class TestWindow:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_longest_window_can_be_read_and_no_longer_one(self, kind: str) -> None:
        encoder = random_encoder(kind).eval()
        window = longest_window(encoder.config, _AnyLength())
        assert window == (38 if kind in {"roberta", "mpnet"} else 40)
        ids = torch.arange(window)[None, :] % (VOCABULARY - 5) + 5

        def read(ids: torch.Tensor) -> None:
            with torch.no_grad():
                assert encoder(input_ids=ids, attention_mask=torch.ones_like(ids))[0].isfinite().all()

        read(ids)
        check_window(encoder, window)
        if kind in {"modernbert", "deberta-v2"}:  # positions without a table
            check_window(encoder, 10 * window)
            read(ids.repeat(1, 2))
            return
        with pytest.raises(
            ConfigError, match=rf"window is {window + 1}, but the encoder has positions for {window} tok"
        ):
            check_window(encoder, window + 1)
        with pytest.raises((IndexError, RuntimeError)):
            read(torch.cat([ids, ids[:, :1]], dim=1))

    def test_roberta_like(self) -> None:
        config = CONFIGS["roberta"]()
        config.max_position_embeddings = 514
        assert longest_window(config, _AnyLength()) == 512

    def test_limits_of_the_tokenizer_and_of_memory(self) -> None:
        config = CONFIGS["bert"]()
        short = _AnyLength()
        short.model_max_length = 24
        assert longest_window(config, short) == 24
        config.max_position_embeddings = 100_000
        assert longest_window(config, _AnyLength()) == 4096
        assert longest_window(SimpleNamespace(model_type="endless"), _AnyLength()) == 512


# Dropout of heads that are never built here.
_BEHIND = ("classifier", "pooler", "qa", "seq_classif", "summary")


class TestLayersAndDropout:
    @pytest.mark.parametrize("kind", KINDS)
    def test_layers_from_the_bottom(self, kind: str) -> None:
        encoder = random_encoder(kind).eval()
        layers = layer_list(encoder)
        if kind == "albert":  # shares one among all
            assert layers is None
            return
        order: list[int] = []
        for number, layer in enumerate(layers):
            layer.register_forward_hook(lambda *_, number=number: order.append(number))
        encoder(input_ids=torch.full((1, 4), 7), attention_mask=torch.ones(1, 4, dtype=torch.int64))
        assert order == [0, 1, 2]

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_dropout_is_set(self, kind: str) -> None:
        from transformers import AutoModel

        ids = torch.full((2, 6), 7)
        for wanted, same in ((0.0, True), (0.5, False)):
            config = CONFIGS[kind]()
            set_dropout(config, wanted)
            named = {name: value for name, value in config.to_dict().items() if "drop" in name}
            assert {value for name, value in named.items() if not name.startswith(_BEHIND)} == {wanted}
            torch.manual_seed(0)
            encoder = AutoModel.from_config(config).train()
            first, second = (encoder(input_ids=ids, attention_mask=torch.ones_like(ids))[0] for _ in range(2))
            assert torch.equal(first, second) == same

    def test_none_leaves_it(self) -> None:
        config = CONFIGS["bert"]()
        set_dropout(config, None)
        assert config.hidden_dropout_prob == 0.1

    def test_unknown(self) -> None:
        from transformers import MambaConfig

        with pytest.raises(
            ConfigError, match=r"encoder_dropout: mamba has no dropout that is known here; leave it out"
        ):
            set_dropout(MambaConfig(), 0.1)
