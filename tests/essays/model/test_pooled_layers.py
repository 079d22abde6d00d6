"""An essay's vector from several layers: each pooled as one alone would be, side by side, and learned through."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from facts import facts
from feature_caches import TEXTS, essays_of, features_of, kept_in, model_of
from tiny_scorer import random_essays, scoring_model, tiny_scorer
from torch import Tensor

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.activations import frozen_part_computed, pooled_features, scale_features
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel

# One chunk, several of unequal length, an empty text.
LENGTHS = (5, 40, 0, 14, 29, 3, 15)
WIDTH = 16
KINDS = ("bert", "roberta", "mpnet", "electra", "modernbert", "deberta-v2", "distilbert")


def one_by_one(model: ScoringModel, essays: EssayExamples, row: int) -> list[Tensor]:
    """An essay's vector in each layer, from the embeddings up, of chunks that are encoded alone and without padding."""
    states = []
    for chunk in essays.essays[row].chunks:
        ids = torch.from_numpy(chunk.astype(np.int64))[None]
        answer = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        states.append([state[0] for state in (*answer.hidden_states[:-1], answer[0])])
    layers = zip(*states, strict=True)
    if model.config.pooling == "cls":
        return [torch.stack([state[0] for state in chunks]).mean(0) for chunks in layers]
    return [torch.cat(chunks).mean(0) for chunks in layers]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(("pooled", "count"), [(1, 1), (2, 2), (4, 4), ("all", 4)])
def test_vectors_of_the_uppermost_layers_the_lowest_first(pooling: str, pooled: int | str, count: int) -> None:
    model = scoring_model(pooled_layers=pooled, pooling=pooling)
    essays = random_essays(LENGTHS)
    with torch.no_grad():
        found = model.pooled(essays.batch(range(len(LENGTHS))).inputs)
        assert found.shape == (len(LENGTHS), count * WIDTH)
        for row in range(len(LENGTHS)):
            layers = one_by_one(model, essays, row)
            assert len(layers) == 4
            torch.testing.assert_close(found[row], torch.cat(layers[-count:]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_of_every_kind(kind: str) -> None:
    every, one = scoring_model(kind, pooled_layers="all"), scoring_model(kind)
    inputs = random_essays(LENGTHS).batch(range(len(LENGTHS))).inputs
    with torch.no_grad():
        found = every.pooled(inputs)
        torch.testing.assert_close(found[:, -WIDTH:], one.pooled(inputs))
    layers = found.split(WIDTH, dim=1)
    assert len(layers) == 4
    assert not any(torch.allclose(low, high) for low, high in pairwise(layers))
    assert every(**inputs).shape == (len(LENGTHS), 1)


def test_the_uppermost_states_are_those_that_the_encoder_ends_with() -> None:
    """Some encoders list their last layer's states as they are before a final normalisation."""
    model, one = scoring_model(pooled_layers="all"), scoring_model()
    inputs = random_essays(LENGTHS).batch(range(len(LENGTHS))).inputs

    def other(_: object, __: object, answer: Any) -> Any:
        answer["hidden_states"] = (*answer.hidden_states[:-1], answer.hidden_states[-1] * 9)
        return answer

    model.encoder.register_forward_hook(other)
    with torch.no_grad():
        torch.testing.assert_close(model.pooled(inputs)[:, -WIDTH:], one.pooled(inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_encoder_learns_through_all_of_them(kind: str) -> None:
    model = scoring_model(kind, pooled_layers="all").train()
    batch = random_essays(LENGTHS).batch(range(len(LENGTHS)))
    elements = model.elements(model(**batch.inputs), batch.targets, batch.groups)
    (elements.scores - elements.targets).square().mean().backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


def test_each_layers_vector_has_a_gradient_of_its_own() -> None:
    """The lowest vector, of the embeddings, reaches no layer; the one above it the first alone; and so on."""
    model = scoring_model(pooled_layers="all")
    layers = model.pooled(random_essays(LENGTHS).batch(range(len(LENGTHS))).inputs).split(WIDTH, dim=1)
    for height, vectors in enumerate(layers):
        model.zero_grad()
        vectors.square().sum().backward(retain_graph=True)
        reached = [
            any(p.grad is not None and p.grad.any() for p in layer.parameters()) for layer in model.encoder_layers
        ]
        assert reached == [place < height for place in range(3)]
        assert model.encoder.get_input_embeddings().weight.grad.any()


def test_second_derivatives() -> None:
    """As a teacher takes them, through the kernels that have any."""
    model = scoring_model(pooled_layers="all").double()
    batch = random_essays((4, 9)).batch([0, 1])
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in batch.inputs.items()}
    weight = model.encoder_layers[0].output.dense.weight
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        (first,) = torch.autograd.grad(model(**inputs).square().sum(), weight, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
    assert second.any()


class TestFrozenLowerLayers:
    """Those that the head sees are pooled once; the others go on from token states."""

    @pytest.mark.parametrize(
        ("frozen", "pooled", "lower"), [(1, "all", 2), (2, "all", 3), (2, 2, 1), (1, 2, 0), (1, 3, 1)]
    )
    @pytest.mark.parametrize("kind", ["bert", "mpnet", "deberta-v2", "modernbert"])
    def test_the_head_sees_what_the_whole_encoder_answers(
        self, accelerator: Accelerator, tmp_path: Path, kind: str, frozen: int, pooled: int | str, lower: int
    ) -> None:
        model = scoring_model(kind, pooled_layers=pooled, frozen_layers=frozen)
        essays, every = random_essays(LENGTHS), range(len(LENGTHS))
        whole = model.pooled(essays.batch(every).inputs).detach()
        calls: list[int] = []
        for number, layer in enumerate(model.encoder_layers):
            layer.register_forward_hook(lambda *_, number=number: calls.append(number))
        with frozen_part_computed(accelerator, model, essays, np.arange(4), tmp_path) as ready:
            assert (0 if ready.lower is None else ready.lower.shape[1]) == lower * WIDTH
            calls.clear()
            inputs = ready.batch(every).inputs
            vectors = model.pooled(inputs)
            assert calls == list(range(frozen, 3))
            torch.testing.assert_close(vectors, whole, atol=2e-3, rtol=2e-3)  # states are float16
            if lower:
                torch.testing.assert_close(vectors[:, : lower * WIDTH], whole[:, : lower * WIDTH], atol=1e-5, rtol=1e-4)
            some = ready.select([3, 0]).batch([1, 0]).inputs
            torch.testing.assert_close(model.pooled(some), vectors[[0, 3]], atol=1e-5, rtol=1e-4)
            vectors[:, -WIDTH:].sum().backward()
        learning = [any(weight.grad is not None for weight in layer.parameters()) for layer in model.encoder_layers]
        assert learning == [number >= frozen for number in range(3)]

    def test_a_cache_of_the_frozen_encoders_vectors_is_read(
        self, accelerator: Accelerator, encoder: Path, tmp_path: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        first, _ = features_of(accelerator, model_of(encoder, tmp_path, pooled_layers="all"), essays)
        model = model_of(encoder, tmp_path, pooled_layers="all", frozen_layers=1)
        files = set(tmp_path.glob("*.safetensors"))
        with frozen_part_computed(accelerator, model, essays, np.arange(len(TEXTS)), tmp_path) as ready:
            assert torch.equal(ready.lower, first[:, : 2 * WIDTH])
        assert set(tmp_path.glob("*.safetensors")) == files


class TestFrozenEncoder:
    def test_it_is_encoded_once_and_answers_the_same(self, accelerator: Accelerator, tmp_path: Path) -> None:
        model = scoring_model(pooled_layers="all", frozen_layers="all")
        essays, every = random_essays(LENGTHS), list(range(len(LENGTHS)))
        with frozen_part_computed(accelerator, model, essays, np.arange(4), tmp_path) as ready, torch.no_grad():
            assert ready.features.shape == (len(LENGTHS), 4 * WIDTH)
            from_vectors = model(**ready.batch(every).inputs)
            torch.testing.assert_close(from_vectors, model(**essays.batch(every).inputs), atol=1e-4, rtol=1e-4)
        assert list(tmp_path.iterdir()) == []

    def test_vectors_are_standardised_by_train_alone(self, accelerator: Accelerator, tmp_path: Path) -> None:
        model = scoring_model(pooled_layers=2, frozen_layers="all")
        essays, train = random_essays(LENGTHS), np.array([0, 3, 4, 6])
        with frozen_part_computed(accelerator, model, essays, train, tmp_path) as ready:
            mine = ready.features[torch.from_numpy(train)]
        torch.testing.assert_close(model.feature_mean, mine.mean(0))
        torch.testing.assert_close(model.feature_sd, mine.std(0, unbiased=False))
        assert not torch.allclose(model.feature_mean, ready.features.mean(0))

    def test_what_does_not_differ_between_essays_is_not_magnified(self, accelerator: Accelerator) -> None:
        """Such as the embedding of the first token: divided by next to nothing, one step of a learning encoder moved
        the head's answers by tens of standard deviations."""
        model = scoring_model(pooled_layers="all", pooling="cls")
        essays = random_essays(LENGTHS)
        scale_features(accelerator, model, essays)
        vectors = pooled_features(accelerator, model, essays)
        assert vectors[:, :WIDTH].std(0).max() < 1e-6
        assert model.feature_sd[:WIDTH].tolist() == [1.0] * WIDTH
        torch.testing.assert_close(model.feature_sd[WIDTH:], vectors[:, WIDTH:].std(0, unbiased=False))

    def test_a_learning_encoders_sample_too(self, accelerator: Accelerator) -> None:
        model = scoring_model(pooled_layers=2)
        essays = random_essays(LENGTHS)
        scale_features(accelerator, model, essays)
        vectors = pooled_features(accelerator, model, essays)
        torch.testing.assert_close(model.feature_mean, vectors.mean(0))
        assert model.feature_mean.shape == (2 * WIDTH,)


class TestFeatureCache:
    def test_each_number_of_layers_has_its_own_file(
        self, accelerator: Accelerator, encoder: Path, tmp_path: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        for pooled in (1, 2, 3):
            model = model_of(encoder, tmp_path, pooled_layers=pooled)
            first, calls = features_of(accelerator, model, essays)
            assert calls > 0
            assert first.shape == (len(TEXTS), pooled * WIDTH)
            again, calls = features_of(accelerator, model_of(encoder, tmp_path, pooled_layers=pooled), essays)
            assert calls == 0
            assert torch.equal(again, first)
        assert [kept_in(path) for path in tmp_path.glob("*.safetensors")] == [len(TEXTS)] * 3

    def test_all_is_the_number_of_all(self, accelerator: Accelerator, encoder: Path, tmp_path: Path) -> None:
        essays = essays_of(encoder, TEXTS)
        first, _ = features_of(accelerator, model_of(encoder, tmp_path, pooled_layers="all"), essays)
        again, calls = features_of(accelerator, model_of(encoder, tmp_path, pooled_layers=3), essays)
        assert calls == 0
        assert torch.equal(again, first)
        names = {
            FeatureCache.of(model_of(encoder, tmp_path, pooled_layers=pooled), "no", str(tmp_path)).path
            for pooled in (1, 2, 3, "all")
        }
        assert len(names) == 3


@pytest.mark.parametrize("config", [{"pooled_layers": "all"}, {"pooled_layers": 2, "pooling": "cls", "hidden": 3}])
def test_a_model_folder_scores_the_same(encoder: Path, tmp_path: Path, config: dict[str, object]) -> None:
    made = tiny_scorer(encoder, window=16, max_tokens=40, **config)
    with torch.no_grad():
        made.model.feature_mean.normal_()
        made.model.feature_sd.uniform_(0.5, 2.0)
    made.save_pretrained(tmp_path / "model")
    opened = EncoderScorer.from_pretrained(tmp_path / "model")
    assert opened.model.config.pooled_layers == config["pooled_layers"]
    prompts = ["letter", "notice"] * 2 + ["letter"]
    expected, found = made.score(TEXTS, prompts), opened.score(TEXTS, prompts)
    np.testing.assert_allclose(found.raw, expected.raw, rtol=0, atol=1e-6)
    assert expected.dropped_tokens.any()
    assert np.ptp(expected.raw) > 0.1


class TestRefusals:
    @pytest.mark.parametrize(("pooled", "words"), [(9, "3 and the embeddings"), (5, "3 and the embeddings")])
    def test_more_than_there_are(self, pooled: int, words: str) -> None:
        with pytest.raises(ConfigError, match=facts("pooled_layers", pooled, words, 4)):
            scoring_model(pooled_layers=pooled)

    @pytest.mark.parametrize("pooled", [2, "all"])
    def test_layers_that_cannot_be_told_apart(self, pooled: int | str) -> None:
        with pytest.raises(
            ConfigError, match=rf"is {pooled}, but .* no layers that can be told apart\. Set it to 1 at"
        ):
            scoring_model("albert", pooled_layers=pooled)
        assert scoring_model("albert").pooled_count == 1

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"pooled_layers": 0}, r"has 1 fault:\n  .*pooled_layers must be 1 or more, or all"),
            ({"pooled_layers": -1}, "pooled_layers must be 1 or more, or all"),
            ({"pooled_layers": "some"}, "  pooled_layers: input should be .*'all', found 'some'"),
            ({"pooled_layers": 1.5}, "  pooled_layers: input should be a valid integer, .* found 1.5"),
            ({"pooled_layers": "all", "pooling": "attention"}, "pooled_layers other than 1 needs pooling mean or cls"),
        ],
    )
    def test_what_cannot_be_run(self, values: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            validate(ModelConfig, values, "here")
