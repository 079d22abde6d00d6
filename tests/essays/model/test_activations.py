"""What was computed once must be what the whole encoder would have answered, and the encoder must come back whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_scorer import CONFIGS, random_encoder, random_essays, scoring_model
from torch import Tensor

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model import activations
from aes_dynloss.essays.model.activations import frozen_part_computed, pooled_features, scale_features
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.state_cache import STATES

pytestmark = pytest.mark.usefixtures("several_passes", "exact_states")

# One chunk, an empty text, several chunks.
LENGTHS = (5, 40, 0, 14, 29, 3, 15, 60)
EVERY = np.arange(len(LENGTHS))
CUT = ("bert", "roberta", "mpnet", "distilbert", "electra", "modernbert", "deberta-v2")


def gradients(model: ScoringModel, essays: EssayExamples) -> tuple[Tensor, dict[str, Tensor]]:
    """Answers, and the gradient of every learning parameter by its place in the stack, which is the same when cut."""
    model.zero_grad()
    batch = essays.batch(range(len(essays)))
    answers = model(**batch.inputs)
    elements = model.elements(answers, batch.targets, batch.groups)
    (elements.scores - elements.targets).square().sum().backward()
    stack = model.parameter_stack()
    return answers.detach(), {
        f"{place} {name}": parameter.grad.clone()
        for place, layer in enumerate(stack)
        for name, parameter in layer
        if parameter.grad is not None
    }


def assert_same(model: ScoringModel, stored: EssayExamples, essays: EssayExamples, found: tuple) -> None:
    answers, grads = gradients(model, essays)
    torch.testing.assert_close(found[0], answers, atol=1e-5, rtol=0)
    assert found[1].keys() == {name.removeprefix("embeddings") for name in grads}
    for name, gradient in grads.items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4)
    assert answers.std() > 0.01


def test_a_batch_that_two_processes_computed_counts_once(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process's: all processes take the same, even if another's device rounds otherwise."""
    model, essays = scoring_model("bert", frozen_layers="all"), random_essays(LENGTHS)
    expected, gather = pooled_features(accelerator, model, essays), activations.gather_rows

    def gathered_twice(_: Accelerator, index: Tensor, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return gather(accelerator, torch.cat([index, index]), [torch.cat([rows, rows + 1]) for rows in tensors])

    monkeypatch.setattr(activations, "gather_rows", gathered_twice)
    assert torch.equal(pooled_features(accelerator, model, essays), expected)


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
@pytest.mark.parametrize("kind", ["bert", "mpnet", "albert"])
def test_wholly_frozen(accelerator: Accelerator, tmp_path: Path, kind: str, pooling: str) -> None:
    model = scoring_model(kind, frozen_layers="all", pooling=pooling)
    essays = random_essays(LENGTHS)
    with frozen_part_computed(accelerator, model, essays, EVERY, tmp_path) as stored:
        assert (stored.features is None) == (pooling == "attention")
        assert (stored.states is None) == (pooling != "attention")
        found = gradients(model, stored)
        if stored.features is not None:
            assert stored.features.dtype == torch.float32
    assert_same(model, stored, essays, found)
    assert [path.name for path in tmp_path.iterdir()] == ([STATES] if pooling == "attention" else [])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("frozen", [1, 2])
def test_lower_layers_frozen(accelerator: Accelerator, tmp_path: Path, kind: str, pooling: str, frozen: int) -> None:
    model = scoring_model(kind, frozen_layers=frozen, pooling=pooling)
    essays = random_essays(LENGTHS)
    calls: list[int] = []
    for number, layer in enumerate(model.encoder_layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
    with frozen_part_computed(accelerator, model, essays, EVERY, tmp_path) as stored:
        assert len(model.encoder_layers) == 3 - frozen
        calls.clear()
        found = gradients(model, stored)
        assert calls == list(range(frozen, 3))  # lower layers are not run
        some = stored.select([7, 1]).batch([1])
        torch.testing.assert_close(model(**some.inputs)[0], found[0][1], atol=1e-5, rtol=0)
    assert_same(model, stored, essays, found)


def test_what_was_learned_in_the_block_stays(accelerator: Accelerator, tmp_path: Path) -> None:
    model = scoring_model("bert", frozen_layers=1)
    essays = random_essays(LENGTHS)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with frozen_part_computed(accelerator, model, essays, EVERY, tmp_path) as stored:
        model.train()
        gradients(model, stored)
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        model.eval()
        found = gradients(model, stored)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    layers = {name.split("layer.")[1][0] for name in moved if "layer." in name}
    assert layers == {"1", "2"}
    assert_same(model, stored, essays, found)


def test_whole_again_after_an_exception(accelerator: Accelerator, tmp_path: Path) -> None:
    model = scoring_model("bert", frozen_layers=2)
    essays = random_essays(LENGTHS)
    names, modules = list(model.state_dict()), list(model.modules())

    def stopped() -> None:
        with frozen_part_computed(accelerator, model, essays, EVERY, tmp_path):
            assert list(model.state_dict()) != names
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        stopped()
    assert list(model.state_dict()) == names
    assert list(model.modules()) == modules
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not torch.is_inference_mode_enabled()
    model(**essays.batch([0]).inputs)


def test_an_encoder_that_cannot_be_cut_is_refused(accelerator: Accelerator, tmp_path: Path) -> None:
    # Its convolution reads the embeddings beside the first layer's answer.
    encoder = random_encoder("deberta-v2", conv_kernel_size=3, conv_act="gelu")
    model = ScoringModel(encoder, ModelConfig(frozen_layers=2), scoring_model().scales).eval()
    names = list(model.state_dict())
    words = (
        "frozen_layers is 2, but an encoder of the kind deberta-v2 cannot start in its middle. Set it to 0, or to all"
    )
    with (
        pytest.raises(ConfigError, match=words),
        frozen_part_computed(accelerator, model, random_essays(LENGTHS), EVERY, tmp_path),
    ):
        pass
    assert list(model.state_dict()) == names
    assert list(tmp_path.iterdir()) == []


def test_nothing_frozen(accelerator: Accelerator, tmp_path: Path) -> None:
    model = scoring_model("bert")
    essays = random_essays(LENGTHS)
    with frozen_part_computed(accelerator, model, essays, EVERY, tmp_path) as ready:
        assert ready is essays
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [{}, {"frozen_layers": 1}, {"frozen_layers": "all"}])
def test_features_of_training_essays_are_standardised(
    accelerator: Accelerator, tmp_path: Path, config: dict[str, object]
) -> None:
    model = scoring_model("bert", **config)
    essays = random_essays(LENGTHS)
    train = np.array([6, 0, 3, 7])
    with torch.no_grad():
        inputs = essays.batch(train.tolist()).inputs
        vectors = model.pooling(model.last_states(inputs), inputs["attention_mask"], inputs["owner"], len(train))
    with frozen_part_computed(accelerator, model, essays, train, tmp_path):
        torch.testing.assert_close(model.feature_mean, vectors.mean(0), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.feature_sd, vectors.std(0, unbiased=False), atol=1e-5, rtol=1e-5)


def test_constant_features_are_not_blown_up(accelerator: Accelerator) -> None:
    model = scoring_model("bert")
    scale_features(accelerator, model, random_essays((9,)))
    assert (model.feature_sd > 0).all()
    answers = model(**random_essays((4, 9, 30)).batch([0, 1, 2]).inputs)
    assert answers.isfinite().all()


def test_features_from_a_sample(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_FEATURE_SAMPLE", 3)
    model = scoring_model("bert")
    essays = random_essays(LENGTHS)
    scale_features(accelerator, model, essays)
    vectors = pooled_features(accelerator, model, essays.select([0, 4, 7]))
    torch.testing.assert_close(model.feature_mean, vectors.mean(0))


def test_pooled_features_come_in_the_essays_order(accelerator: Accelerator) -> None:
    model = scoring_model("bert").train()
    essays = random_essays(LENGTHS)
    vectors = pooled_features(accelerator, model, essays)
    assert model.training  # as it was
    assert vectors.dtype == torch.float32
    model.eval()
    for row in range(len(essays)):
        inputs = essays.batch([row]).inputs
        with torch.no_grad():
            alone = model.pooling(model.last_states(inputs), inputs["attention_mask"], inputs["owner"], 1)
        torch.testing.assert_close(vectors[row], alone[0], atol=1e-5, rtol=0)


def test_bf16_features_are_float32() -> None:
    accelerator = Accelerator(cpu=True)
    model = scoring_model("bert")
    essays = random_essays(LENGTHS)
    exact = pooled_features(accelerator, model, essays)
    accelerator.state._mixed_precision = "bf16"
    accelerator.native_amp = True
    try:
        rounded = pooled_features(accelerator, model, essays)
    finally:
        accelerator.state._mixed_precision = "no"
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


def test_every_kind_that_can_be_cut_is_tried() -> None:
    assert set(CUT) == set(CONFIGS) - {"albert", "t5"}
