"""Chunks in blocks: hardly any padding, and the same answers as without them."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_scorer import CONFIGS, random_encoder, random_essays, scoring_model
from torch import Tensor, nn

from aes_dynloss.essays.model import attention as block_attention
from aes_dynloss.essays.model.attention import BLOCKWISE, allow_blocks
from aes_dynloss.essays.model.chunks import (
    FIRST_POSITION,
    MOST_PADDING,
    EncoderStates,
    TokenizedEssay,
    block_inputs,
    cut_into_blocks,
    read_chunks,
)
from aes_dynloss.essays.model.encoders import build_encoder, encoder_values, load_encoder
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.training.batching import epoch_steps, micro_batches
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.problem import AUTO_TOKENS, AUTO_TOKENS_CPU

BLOCKWISE_KINDS = ["bert", "roberta", "mpnet", "electra", "distilbert"]
OTHER_KINDS = ["modernbert", "deberta-v2", "albert"]
LENGTHS = (3, 30, 12, 0, 14, 5, 7, 9, 1)


def area(blocks: list[NDArray[np.int64]], lengths: NDArray[np.int64]) -> int:
    """Tokens of all blocks, padding included."""
    return sum(len(rows) * int(lengths[rows].max()) for rows in blocks)


class TestCut:
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.sampled_from([0.0, 0.05, 0.3]))
    def test_the_fewest_blocks_with_little_padding_and_of_those_the_best(self, given: list[int], most: float) -> None:
        lengths = np.array(given)
        blocks = cut_into_blocks(given, most)
        assert sorted(np.concatenate(blocks)) == list(range(len(given)))
        ordered = np.sort(lengths)[::-1]

        def least(count: int) -> int:
            cuts = itertools.combinations(range(1, len(given)), count - 1)
            parts = (itertools.pairwise((0, *cut, len(given))) for cut in cuts)
            return min(sum(int(ordered[start]) * (end - start) for start, end in part) for part in parts)

        found = area(blocks, lengths)
        assert found == least(len(blocks))
        assert lengths.sum() >= (1 - most) * found * (1 - 1e-9)
        assert len(blocks) == 1 or lengths.sum() < (1 - most) * least(len(blocks) - 1)

    @given(st.lists(st.integers(1, 600), min_size=1, max_size=60))
    def test_longest_first(self, given: list[int]) -> None:
        longest = [given[row] for rows in cut_into_blocks(given) for row in rows]
        assert longest == sorted(given, reverse=True)

    def test_equal_lengths_are_one_block(self) -> None:
        (rows,) = cut_into_blocks([7] * 5)
        assert rows.tolist() == [0, 1, 2, 3, 4]

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    def test_every_token_has_one_place(self, given: list[int]) -> None:
        places = torch.cat([block.flatten() for block in block_inputs(given).values()]).tolist()
        assert len(places) == len(set(places))
        width = max(given)
        assert set(places) >= {row * width + column for row, length in enumerate(given) for column in range(length)}
        assert max(places) < len(given) * width


def long_tailed(number: int, window: int = 512) -> EssayExamples:
    """Essays whose lengths spread as ASAP's do: many short answers, and a long tail; a few of several chunks."""
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(5.3, 0.85, number)).astype(np.int64).clip(20, 1300)
    essays = []
    for length in lengths:
        parts = np.array_split(np.zeros(length, dtype=np.int32), -(-length // window))
        essays.append(TokenizedEssay(parts, int(length), 0))
    return EssayExamples(essays, np.zeros(number, dtype=np.int64), np.zeros(number), 0)


def padding(batch_size: int, at_once: int) -> tuple[float, float, float]:
    """By the settings that a new configuration has: padding without blocks and with them, and blocks a micro-batch."""
    config = TrainingConfig(batch_size=batch_size)
    examples = long_tailed(1000)
    sent = tokens = table = blocks = batches = 0
    for rows in epoch_steps(examples, batch_size, config.seed, 0, config.length_window):
        for batch in micro_batches(rows, examples, at_once, config.micro_batch_size):
            parts = [tensor for name, tensor in batch.inputs.items() if name.startswith("block_")]
            sent += sum(part.numel() for part in parts)
            table += batch.inputs["attention_mask"].numel()
            tokens += int(batch.inputs["attention_mask"].sum())
            blocks += len(parts)
            batches += 1
    return 1 - tokens / table, 1 - tokens / sent, blocks / batches


@pytest.mark.parametrize("batch_size", [8, 16, 32, 64, 200])
def test_padding_stays_under_a_twentieth(batch_size: int) -> None:
    """Without cutting every essay off from the others."""
    without, left, blocks = padding(batch_size, AUTO_TOKENS)
    assert without > 0.15
    assert left < MOST_PADDING == 0.05
    assert blocks < 2 * batch_size**0.5


@pytest.mark.parametrize("batch_size", [8, 16, 32, 64, 200])
def test_padding_on_a_cpu(batch_size: int) -> None:
    """Where fewer tokens go forwards at once, and so fewer lengths stand side by side."""
    without, left, blocks = padding(batch_size, AUTO_TOKENS_CPU)
    assert without > 0.05
    assert left < MOST_PADDING
    assert blocks < 2 * batch_size**0.5


def essays_for(kind: str) -> dict[str, Tensor]:
    """A batch of essays, some of several chunks, padded as the kind wants it."""
    examples = random_essays(LENGTHS)
    pad = CONFIGS[kind]().pad_token_id
    made = EssayExamples(examples.essays, examples.groups, examples.targets, pad)
    return dict(made.batch(range(len(LENGTHS))).inputs)


def plain(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without blocks."""
    return {name: tensor for name, tensor in inputs.items() if not name.startswith("block_")}


def seen_by_encoder(encoder: nn.Module, inputs: dict[str, Tensor]) -> list[tuple[int, ...]]:
    """Shapes of the token ids that an encoder is given."""
    seen: list[tuple[int, ...]] = []
    hook = encoder.register_forward_pre_hook(
        lambda _, __, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    read_chunks(encoder, inputs)
    hook.remove()
    return seen


def value(encoder: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Some smooth number that all states of tokens take part in."""
    states = read_chunks(encoder, inputs)[0][inputs["attention_mask"] == 1]
    return (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().square()


@pytest.mark.parametrize("kind", BLOCKWISE_KINDS)
class TestSameAsWithout:
    def test_states(self, kind: str) -> None:
        encoder = random_encoder(kind).eval().double()
        inputs = essays_for(kind)
        tokens = inputs["attention_mask"] == 1
        expected = read_chunks(encoder, plain(inputs), all_layers=True)
        found = read_chunks(encoder, inputs, all_layers=True)
        assert type(found) is EncoderStates is not type(expected)
        assert len(found.hidden_states) == len(expected.hidden_states) == 4
        for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one[tokens], other[tokens], rtol=0, atol=1e-12)
        assert torch.equal(found[0], found.hidden_states[-1])
        assert read_chunks(encoder, inputs).hidden_states is None

    def test_little_is_sent(self, kind: str) -> None:
        encoder = random_encoder(kind).eval()
        inputs = essays_for(kind)
        tokens = int(inputs["attention_mask"].sum())
        ((rows, length),) = seen_by_encoder(encoder, inputs)
        assert rows == 1
        assert tokens <= length <= tokens / (1 - MOST_PADDING) < 0.9 * inputs["attention_mask"].numel()
        assert seen_by_encoder(encoder, plain(inputs)) == [tuple(inputs["input_ids"].shape)]

    def test_gradients_and_gradients_of_gradients(self, kind: str) -> None:
        encoder = random_encoder(kind).eval().double()
        inputs = essays_for(kind)
        parameters = [*encoder.parameters()]
        found = []
        for way in (plain(inputs), inputs):
            with twice_differentiable():
                first = torch.autograd.grad(value(encoder, way), parameters, create_graph=True, materialize_grads=True)
                norm = sum(gradient.square().sum() for gradient in first)
                found.append([*first, *torch.autograd.grad(norm, parameters, materialize_grads=True)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-11 * float(one.detach().abs().max()) + 1e-10)
        assert max(float(gradient.detach().abs().max()) for gradient in found[0]) > 1e-3

    def test_no_token_sees_another_essay(self, kind: str) -> None:
        encoder = random_encoder(kind).eval()
        inputs = essays_for(kind)
        before = read_chunks(encoder, inputs)[0]
        inputs["input_ids"][1, :5] += 1
        after = read_chunks(encoder, inputs)[0]
        tokens = inputs["attention_mask"] == 1
        assert not torch.equal(before[1], after[1])
        tokens[1] = False
        assert torch.equal(before[tokens], after[tokens])

    def test_nothing_waits_for_the_device(self, kind: str) -> None:
        # A tensor without values cannot answer a question, so that any look at the device's numbers would raise.
        encoder = random_encoder(kind, dropout=0.1).train().to("meta")
        states = read_chunks(encoder, {name: tensor.to("meta") for name, tensor in essays_for(kind).items()})[0]
        states.sum().backward()
        assert states.shape == (11, 16, 16)

    def test_dropout_in_training_only(self, kind: str) -> None:
        encoder = random_encoder(kind, dropout=0.3).eval()
        inputs = essays_for(kind)
        assert torch.equal(read_chunks(encoder, inputs)[0], read_chunks(encoder, inputs)[0])
        encoder.train()
        answers = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            answers.append(read_chunks(encoder, inputs)[0])
        assert torch.equal(answers[0], answers[1])
        assert not torch.equal(answers[0], answers[2])

    def test_recomputed_activations(self, kind: str) -> None:
        if kind == "mpnet":
            return  # transformers cannot, and says so
        encoder = random_encoder(kind).train()
        inputs = essays_for(kind)
        value(encoder, inputs).backward()
        expected = {name: parameter.grad for name, parameter in encoder.named_parameters()}
        encoder.zero_grad()
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # of later and earlier versions
        enable = next(getattr(encoder, name) for name in names if hasattr(encoder, name))
        enable({"use_reentrant": False})
        value(encoder, inputs).backward()
        for name, parameter in encoder.named_parameters():
            if expected[name] is not None:
                torch.testing.assert_close(parameter.grad, expected[name], msg=name)

    def test_built_from_a_configuration_that_does_not_name_it(self, kind: str) -> None:
        encoder = random_encoder(kind)
        values = encoder_values(encoder)
        assert BLOCKWISE not in str(values)
        built = build_encoder(values)
        assert getattr(built, FIRST_POSITION) == getattr(encoder, FIRST_POSITION) is not None
        assert getattr(copy.deepcopy(encoder), FIRST_POSITION) is not None


def test_attention_over_dropout_has_the_same_spread() -> None:
    """Dropout of attention weights is there by either way, as strong."""
    encoder = random_encoder("bert").eval()
    for layer in encoder.encoder.layer:
        layer.attention.self.dropout.p = 0.3
    encoder.encoder.layer[0].attention.self.train()
    inputs = essays_for("bert")
    tokens = inputs["attention_mask"] == 1
    torch.manual_seed(0)
    spreads = []
    for way in (plain(inputs), inputs):
        drawn = torch.stack([read_chunks(encoder, way, all_layers=True).hidden_states[1] for _ in range(300)])
        spreads.append(drawn[:, tokens].var(0).mean().item())
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)
    assert spreads[0] > 1e-4


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_scores(pooling: str, precision: torch.dtype) -> None:
    """A scorer answers the same whether or not its batch names blocks."""
    model = scoring_model("bert", pooling=pooling)
    inputs = essays_for("bert")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        found, expected = model(**inputs), model(**plain(inputs))
    tolerance = 1e-5 if precision == torch.float32 else 0.15
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_all_layers_of_a_scorer() -> None:
    model = scoring_model("bert", pooled_layers="all")
    inputs = essays_for("bert")
    torch.testing.assert_close(model.pooled(inputs), model.pooled(plain(inputs)))


def test_stored_states_come_without_blocks() -> None:
    examples = random_essays(LENGTHS)
    assert any(name.startswith("block_") for name in examples.batch([0, 1]).inputs)
    states = [np.zeros((sum(map(len, essay.chunks)), 3), dtype=np.float32) for essay in examples.essays]
    stored = EssayExamples(examples.essays, examples.groups, examples.targets, 0, states=states)
    assert not any(name.startswith("block_") for name in stored.batch([0, 1]).inputs)


class TestLeftToTransformers:
    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_kinds_that_look_beyond_a_table_of_positions(self, kind: str) -> None:
        encoder = random_encoder(kind).eval()
        inputs = essays_for(kind)
        assert getattr(encoder, FIRST_POSITION, None) is None
        assert encoder.config._attn_implementation != BLOCKWISE
        assert torch.equal(read_chunks(encoder, inputs)[0], read_chunks(encoder, plain(inputs))[0])

    def test_an_encoder_that_was_told_how_to_attend(self) -> None:
        encoder = stock()
        encoder.config._attn_implementation = "eager"
        allow_blocks(encoder, 0)
        assert encoder.config._attn_implementation == "eager"
        assert getattr(encoder, FIRST_POSITION, None) is None

    def test_attention_without_blocks_is_transformers_own(self) -> None:
        encoder, inputs = stock(), plain(essays_for("bert"))
        expected = read_chunks(encoder, inputs)[0]
        allow_blocks(encoder, 0)
        assert encoder.config._attn_implementation == BLOCKWISE
        assert torch.equal(read_chunks(encoder, inputs)[0], expected)

    def test_another_version_that_takes_no_such_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def other(*_: Any, **__: Any) -> None:
            raise TypeError("unexpected keyword")

        monkeypatch.setattr(block_attention.TokenBlocks, "split", other)
        self_same(stock())

    def test_another_version_that_answers_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = block_attention.TokenBlocks.split
        monkeypatch.setattr(block_attention.TokenBlocks, "split", lambda *given: [-part for part in real(*given)])
        self_same(stock())

    def test_wrong_positions_are_seen(self) -> None:
        encoder = stock("roberta")
        allow_blocks(encoder, 0)
        assert getattr(encoder, FIRST_POSITION) is None
        assert encoder.config._attn_implementation == "sdpa"


def stock(kind: str = "bert") -> Any:
    """An encoder as transformers makes it, without pooler."""
    from transformers import AutoModel

    torch.manual_seed(0)
    encoder = AutoModel.from_config(CONFIGS[kind](), add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


def self_same(encoder: Any) -> None:
    """The encoder is left as it was, mode included."""
    inputs = essays_for("bert")
    expected = read_chunks(encoder, inputs)[0]
    allow_blocks(encoder.train(), 0)
    assert encoder.training
    assert encoder.config._attn_implementation == "sdpa"
    assert torch.equal(read_chunks(encoder.eval(), inputs)[0], expected)


def test_there_and_back(tmp_path: Path) -> None:
    """A saved encoder names no attention that others lack."""
    encoder = random_encoder("bert")
    encoder.save_pretrained(tmp_path)
    assert BLOCKWISE not in (tmp_path / "config.json").read_text(encoding="utf-8")
    loaded = load_encoder(str(tmp_path)).eval()
    inputs = essays_for("bert")
    assert torch.equal(read_chunks(loaded, inputs)[0], read_chunks(encoder.eval(), inputs)[0])
