"""MPNet with one attention bias for the batch answers and learns as transformers' own does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_scorer import CONFIGS, VOCABULARY
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.mpnet.modeling_mpnet import MPNetModel, MPNetSelfAttention

from aes_dynloss.essays.model import attention as shared_bias_attention
from aes_dynloss.essays.model.attention import SharedBiasModel, SharedBiasSelfAttention, share_bias
from aes_dynloss.essays.model.encoders import build_encoder, encoder_values, load_encoder, trimmed
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable

LENGTHS = (13, 9, 2, 13)


def tiny_mpnet(*, dropout: float = 0.0, heads: int = 2) -> Any:
    """transformers' own, random and large enough that inputs matter, without a pooler."""
    config = CONFIGS["mpnet"]()
    config.num_attention_heads = heads
    config.attention_probs_dropout_prob = dropout
    config.hidden_dropout_prob = 0.0
    torch.manual_seed(0)
    encoder = MPNetModel(config, add_pooling_layer=False).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder


def both(**options: Any) -> tuple[Any, Any]:
    """transformers' own and ours with the same weights."""
    stock = tiny_mpnet(**options)
    ours = copy.deepcopy(stock)
    share_bias(ours)
    assert type(ours) is SharedBiasModel
    return stock, ours


def chunks(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    """Token ids and their mask, padded to the longest."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator)
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def value(encoder: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Some smooth number that all states of tokens take part in."""
    states = encoder(**inputs)[0][inputs["attention_mask"] == 1]
    return (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().square()


def gradients(encoder: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value(encoder, inputs), parameters), strict=True))


def seen_by_kernel(monkeypatch: pytest.MonkeyPatch, encoder: nn.Module, inputs: dict[str, Tensor]) -> list[Any]:
    """What scaled dot-product attention is given in one forward pass."""
    seen: list[Any] = []

    def spy(*tensors: Tensor, attn_mask: Tensor, **named: Any) -> Tensor:
        seen.append((*tensors, attn_mask))
        return kernel(*tensors, attn_mask=attn_mask, **named)

    kernel = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    encoder(**inputs)
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("lengths", [LENGTHS, (13, 13), (16, 5), (1,)], ids=str)
class TestSameAsStock:
    def test_states(self, lengths: tuple[int, ...], heads: int) -> None:
        stock, ours = both(heads=heads)
        inputs = chunks(lengths)
        tokens = inputs["attention_mask"] == 1
        expected = stock(**inputs, output_hidden_states=True).hidden_states
        found = ours(**inputs, output_hidden_states=True)
        assert len(found.hidden_states) == len(expected) == 4
        for one, other in zip(found.hidden_states, expected, strict=True):
            torch.testing.assert_close(one[tokens], other[tokens], rtol=0, atol=1e-10)
        assert torch.equal(found[0], found.hidden_states[-1])
        assert ours(**inputs).hidden_states is None

    def test_gradients(self, lengths: tuple[int, ...], heads: int) -> None:
        stock, ours = both(heads=heads)
        expected, found = (gradients(encoder, chunks(lengths)) for encoder in (stock, ours))
        assert expected.keys() == found.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-10, msg=name)
        if max(lengths) > 1:
            assert found["encoder.relative_attention_bias.weight"].abs().max() > 1e-3

    def test_gradients_of_gradients(self, lengths: tuple[int, ...], heads: int) -> None:
        stock, ours = both(heads=heads)
        found = []
        for encoder in (stock, ours):
            parameters = [*encoder.parameters()]
            with twice_differentiable():
                first = torch.autograd.grad(value(encoder, chunks(lengths)), parameters, create_graph=True)
                norm = sum(gradient.square().sum() for gradient in first)
                found.append(torch.autograd.grad(norm, parameters, materialize_grads=True))
        scale = max(float(gradient.abs().max()) for gradient in found[0])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-13 * scale)


class TestKernel:
    def test_one_bias_for_the_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for precision in (None, torch.bfloat16):
            _, ours = both()
            with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
                seen = seen_by_kernel(monkeypatch, ours.float(), chunks())
            assert len(seen) == 3
            for query, *_, bias in seen:
                assert bias.shape == (4, 2, 13, 13)
                assert bias.stride(0) == 0
                assert bias.dtype == query.dtype == (precision or torch.float32)
                # Else a fused kernel copies it, for every row.
                assert [stride % 8 for stride in bias.stride()] == [0, 0, 0, 1]

    def test_head_sizes_stay_aligned_and_bare_rows_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, ours = both()
        bare = {"input_ids": chunks((13, 13))["input_ids"]}
        for inputs, size in ((chunks(LENGTHS), 16), (bare, 8)):
            for query, key, values, _ in seen_by_kernel(monkeypatch, ours, inputs):
                assert query.shape[-1] == key.shape[-1] == values.shape[-1] == size

    def test_padding_is_never_looked_at(self) -> None:
        _, ours = both()
        inputs = chunks()
        plain = ours(**inputs)[0]
        inputs["input_ids"][2, 2:] = 7
        states = ours(**inputs)[0]
        tokens = inputs["attention_mask"] == 1
        tokens[2] = False  # their positions count padding tokens
        assert torch.equal(plain[tokens], states[tokens])
        alone = ours(input_ids=inputs["input_ids"][2:3, :2], attention_mask=inputs["attention_mask"][2:3, :2])[0]
        torch.testing.assert_close(alone[0], states[2, :2], rtol=0, atol=1e-12)

    def test_nothing_waits_for_the_device(self) -> None:
        # A tensor without values cannot answer a question, so that any look at the device's numbers would raise.
        _, ours = both(dropout=0.1)
        ours = ours.train().to("meta")
        inputs = {name: tensor.to("meta") for name, tensor in chunks().items()}
        ours(**inputs)[0].sum().backward()
        assert ours.encoder.relative_attention_bias.weight.grad.shape == (32, 2)

    def test_bf16(self) -> None:
        stock, ours = both()
        inputs = chunks()
        tokens = inputs["attention_mask"] == 1
        exact = stock(**inputs)[0][tokens]
        with torch.autocast("cpu", torch.bfloat16):
            rough, states = (encoder.float()(**inputs)[0][tokens] for encoder in (stock, ours))
            ours(**inputs)[0].sum().backward()
        # As near as transformers' own comes.
        assert (states - exact).norm() < 1.5 * (rough - exact).norm() < 0.05 * exact.norm()
        assert all(parameter.grad.isfinite().all() for parameter in ours.parameters())


class TestDropout:
    def test_in_training_only(self) -> None:
        stock, ours = both(dropout=0.3)
        inputs = chunks()
        first, second = ours(**inputs)[0], ours(**inputs)[0]
        assert torch.equal(first, second)
        ours.train()
        assert not torch.equal(ours(**inputs)[0], ours(**inputs)[0])
        ours.encoder.layer[1:].eval()
        stock.train().encoder.layer[1:].eval()
        torch.manual_seed(0)
        spreads = []
        for encoder in (stock, ours):  # one layer's dropout has the same spread by either way
            drawn = torch.stack([encoder(**inputs, output_hidden_states=True).hidden_states[1] for _ in range(400)])
            spreads.append(drawn[:, inputs["attention_mask"] == 1].var(0).mean().item())
        assert spreads[1] == pytest.approx(spreads[0], rel=0.1)

    def test_follows_the_generator(self) -> None:
        _, ours = both(dropout=0.3)
        ours.train()
        answers = []
        for _ in range(2):
            torch.manual_seed(3)
            answers.append(ours(**chunks())[0])
        assert torch.equal(*answers)


class TestLeftToTransformers:
    def test_attentions(self) -> None:
        stock, ours = both()
        expected, found = (encoder(**chunks(), output_attentions=True) for encoder in (stock, ours))
        assert len(found.attentions) == 3
        for one, other in zip(found.attentions, expected.attentions, strict=True):
            assert torch.equal(one, other)
        ours.config.output_attentions = True
        assert len(ours(**chunks()).attentions) == 3

    def test_other_questions(self) -> None:
        stock, ours = both()
        inputs = chunks()
        embedded = stock.embeddings.word_embeddings(inputs["input_ids"])
        mask = inputs["attention_mask"]
        for question in (
            {**inputs, "return_dict": False},
            {**inputs, "position_ids": torch.arange(13).expand(4, -1) + 4},
            {"inputs_embeds": embedded, "attention_mask": mask},
        ):
            assert torch.equal(ours(**question)[0], stock(**question)[0])
        torch.testing.assert_close(ours(inputs["input_ids"])[0], stock(inputs["input_ids"])[0])

    def test_whatever_is_no_plain_mpnet(self) -> None:
        stock = tiny_mpnet()
        whole = MPNetModel(stock.config)
        share_bias(whole)
        assert type(whole) is MPNetModel
        bert = transformers.AutoModel.from_config(CONFIGS["bert"]())
        share_bias(bert)
        assert type(bert) is transformers.BertModel

    def test_another_version_whose_layers_take_other_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def other(self: Any, *_: Any, **__: Any) -> None:
            raise TypeError("unexpected keyword")

        monkeypatch.setattr(SharedBiasSelfAttention, "forward", other)
        self_same(tiny_mpnet())

    def test_another_version_that_answers_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = shared_bias_attention._bias
        monkeypatch.setattr(shared_bias_attention, "_bias", lambda *given: -real(*given))
        self_same(tiny_mpnet())

    def test_another_version_without_these_classes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "aes_dynloss.essays.model.attention", None)
        encoder = tiny_mpnet()
        assert type(trimmed(encoder)) is MPNetModel


def self_same(encoder: Any) -> None:
    """The encoder is left as it was, mode included."""
    expected = encoder(**chunks())[0]
    share_bias(encoder.train())
    assert type(encoder) is MPNetModel
    assert {type(layer.attention.attn) for layer in encoder.encoder.layer} == {MPNetSelfAttention}
    assert encoder.training
    assert torch.equal(encoder.eval()(**chunks())[0], expected)


class TestFolder:
    def test_there_and_back(self, tmp_path: Path) -> None:
        stock, ours = both()
        assert ours.state_dict().keys() == stock.state_dict().keys()
        ours.float().save_pretrained(tmp_path)
        loaded = load_encoder(str(tmp_path)).eval()
        assert type(loaded) is SharedBiasModel
        assert torch.equal(loaded(**chunks())[0], ours(**chunks())[0])
        plain = transformers.AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
        torch.testing.assert_close(plain(**chunks())[0][0], loaded(**chunks())[0][0])

    def test_built_from_values(self) -> None:
        _, ours = both()
        built = build_encoder(encoder_values(ours)).eval()
        assert type(built) is SharedBiasModel
        built.load_state_dict(ours.float().state_dict())
        assert torch.equal(built(**chunks())[0], ours(**chunks())[0])

    def test_copies_attend_alike(self) -> None:
        _, ours = both()
        assert type(copy.deepcopy(ours)) is SharedBiasModel
        assert torch.equal(copy.deepcopy(ours)(**chunks())[0], ours(**chunks())[0])
