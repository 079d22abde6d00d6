"""Low-rank adapters: what they add, what learns, what a model folder holds, and hypergradients through them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import facts
from safetensors.numpy import load_file
from tiny_scorer import TWO_PROMPTS, random_encoder, random_essays, scoring_model, tiny_scorer, values_of
from torch import Tensor, nn

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model import lora as module
from aes_dynloss.essays.model.encoders import encoder_values
from aes_dynloss.essays.model.lora import merged_state
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.teaching.hypergradient.exact import Exact, UnrolledGraph
from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import Batch, random_state
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.memory import Memory
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import AdamW, Rates, Sgd, UpdateRule
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import rate_groups
from aes_dynloss.training.run_state import load_trained_state, trained_state

LENGTHS = (5, 40, 0, 14, 29, 3, 15)
EVERY = range(len(LENGTHS))
# The layers that get adapters where nothing is said, by the kind of encoder.
DEFAULTS = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "electra": ["query", "value"],
    "deberta-v2": ["query_proj", "value_proj"],
    "mpnet": ["q", "v"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
    "albert": ["query", "value"],
}


def adapted_model(kind: str = "bert", *, dropout: float = 0.0, **config: object) -> ScoringModel:
    """A scorer whose adapters have been trained, so to say: B is not 0."""
    model = scoring_model(kind, dropout=dropout, **{"lora": {"rank": 3, "alpha": 6}, **config})
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


def adapters_of(model: ScoringModel) -> dict[str, nn.Module]:
    """Adapted layers by the names that they had."""
    return {name: layer for name, layer in model.encoder.named_modules() if hasattr(layer, "base_layer")}


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", DEFAULTS)
class TestEveryKind:
    def test_queries_and_values_are_adapted(self, kind: str) -> None:
        names = [name.rpartition(".")[2] for name in adapters_of(adapted_model(kind))]
        assert sorted(set(names)) == DEFAULTS[kind]
        assert len(names) == len(DEFAULTS[kind]) * (1 if kind == "albert" else 3)

    def test_it_first_answers_as_it_did_without(self, kind: str) -> None:
        inputs = random_essays(LENGTHS).batch(EVERY).inputs
        with torch.no_grad():
            found, expected = scoring_model(kind, lora={})(**inputs), scoring_model(kind)(**inputs)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)

    def test_merged_it_is_a_plain_scorer_with_the_same_answers(self, kind: str) -> None:
        model, plain = adapted_model(kind), scoring_model(kind)
        inputs = random_essays(LENGTHS).batch(EVERY).inputs
        with torch.no_grad():
            before = plain(**inputs)
            plain.load_state_dict(merged_state(model))  # strictly: every name, and no other
            torch.testing.assert_close(plain(**inputs), model(**inputs), atol=1e-4, rtol=1e-4)
            assert (plain(**inputs) - before).abs().max() > 0.01
        assert encoder_values(model.encoder) == encoder_values(plain.encoder)
        for name, layer in adapters_of(model).items():  # as the paper writes it
            low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            expected = layer.base_layer.weight + 6 / 3 * high @ low
            torch.testing.assert_close(plain.encoder.get_submodule(name).weight, expected)


class TestWhatLearns:
    def test_adapters_and_the_head_alone(self) -> None:
        model = adapted_model(pooling="attention").train()
        before = copy.deepcopy(dict(model.named_parameters()))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batch = random_essays(LENGTHS).batch(EVERY)
        for _ in range(2):
            optimizer.zero_grad()
            elements = model.elements(model(**batch.inputs), batch.targets, batch.groups)
            (elements.scores - elements.targets).square().mean().backward()
            optimizer.step()
        moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        of_encoder = {name for name in moved if name.startswith("encoder.")}
        assert of_encoder == {name for name in before if "lora_" in name}
        assert len(of_encoder) == 2 * 2 * 3
        assert {name.split(".")[0] for name in moved - of_encoder} == {"pooling", "head"}

    def test_frozen_layers_have_none(self) -> None:
        model = adapted_model(frozen_layers=1, dropout=0.5).train()
        assert {name.split(".")[2] for name in adapters_of(model)} == {"1", "2"}
        modes = [[each.training for each in layer.modules()] for layer in model.encoder_layers]
        assert not any(modes[0])
        assert all(modes[1])
        assert all(modes[2])

    def test_dropout_as_in_an_encoder_that_learns(self) -> None:
        model = adapted_model(dropout=0.5, lora={"dropout": 0.25}).train()
        rates = {each.p for each in model.encoder.modules() if isinstance(each, nn.Dropout) and each.training}
        assert rates == {0.5, 0.25}
        assert not any(each.training for each in model.eval().modules())

    def test_rates_fall_from_layer_to_layer(self) -> None:
        model = adapted_model()
        config = TrainingConfig(learning_rate=1e-3, head_learning_rate=0.1, layer_decay=0.5)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        rates: dict[str, set[float]] = {}
        for group in rate_groups(model, config):
            for parameter in group["params"]:
                name = names[id(parameter)]
                rates.setdefault(name.split(".")[3] if "lora_" in name else "head", set()).add(group["lr"])
        assert rates == {"2": {1e-3}, "1": {5e-4}, "0": {2.5e-4}, "head": {0.1}}

    def test_a_checkpoint_has_no_weight_of_the_encoder(self) -> None:
        model, other = adapted_model(), scoring_model(lora={"rank": 3, "alpha": 6})
        state = trained_state(model)
        assert {name for name in state if name.startswith("encoder.")} == {n for n in learning(model) if "lora_" in n}
        load_trained_state(other, state)
        inputs = random_essays(LENGTHS).batch(EVERY).inputs
        torch.testing.assert_close(other(**inputs), model(**inputs), rtol=0, atol=0)

    def test_a_copy_learns_by_itself(self) -> None:
        model = adapted_model()
        other = copy.deepcopy(model)
        inputs = random_essays(LENGTHS).batch(EVERY).inputs
        expected = model(**inputs).detach()
        with torch.no_grad():
            for layer in other.parameter_stack():
                for _, parameter in layer:
                    parameter.add_(1.0)
        torch.testing.assert_close(model(**inputs), expected, rtol=0, atol=0)
        assert not torch.allclose(other(**inputs), expected)

    def test_recomputed_activations_have_the_same_gradient(self) -> None:
        gradients = []
        for recomputed in (False, True):
            model = adapted_model().train()
            if recomputed:
                new_name, old_name = "activation_checkpointing_enable", "gradient_checkpointing_enable"
                getattr(model.encoder, new_name if hasattr(model.encoder, new_name) else old_name)(
                    {"use_reentrant": False}
                )
            model(**random_essays(LENGTHS).batch(EVERY).inputs).square().sum().backward()
            gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient)


class TestFolder:
    PROMPTS = ("letter", "notice", "letter")
    TEXTS = ("the teacher and the otter", "a bridge is not a school. " * 9, "phones 42")

    def test_it_is_that_of_a_plain_scorer(self, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = tiny_scorer(encoder, lora={"rank": 2})  # all matrices are drawn anew, B too
        made.save_pretrained(tmp_path / "adapted")
        assert learning(made.model) >= {name for name in dict(made.model.named_parameters()) if "lora_" in name}
        expected = made.score(self.TEXTS, self.PROMPTS).raw
        tiny_scorer(encoder).save_pretrained(tmp_path / "plain")
        for blocked in [name for name in sys.modules if name.split(".")[0] == "peft"]:
            monkeypatch.setitem(sys.modules, blocked, None)
        opened = EncoderScorer.from_pretrained(tmp_path / "adapted")
        np.testing.assert_allclose(opened.score(self.TEXTS, self.PROMPTS).raw, expected, rtol=0, atol=1e-5)
        assert opened.model.config.lora is None
        assert "lora" not in (tmp_path / "adapted" / "config.json").read_text(encoding="utf-8")
        values = [values_of(tmp_path / name) for name in ("adapted", "plain")]
        assert values[0].keys() == values[1].keys()
        assert values[0]["encoder"] == values[1]["encoder"]
        shapes = [
            {name: value.shape for name, value in load_file(tmp_path / folder / "model.safetensors").items()}
            for folder in ("adapted", "plain")
        ]
        assert shapes[0] == shapes[1]


class TestTargets:
    def test_ends_of_paths(self) -> None:
        model = adapted_model(lora={"targets": ["attention.output.dense", "key"]})
        ends = {name.partition("attention.")[2] for name in adapters_of(model)}
        assert ends == {"output.dense", "self.key"}

    def test_an_unknown_one_is_refused_with_those_that_are_there(self) -> None:
        message = facts("model.lora.targets", "q_proj", "dense, key, query, value")
        with pytest.raises(ConfigError, match=message):
            scoring_model(lora={"targets": ["query", "q_proj"]})
        with pytest.raises(ConfigError, match=facts("uery", "dense, key, query, value")):
            scoring_model(lora={"targets": ["uery"]})  # an end of a name is no name

    def test_a_kind_without_a_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_QUERY_AND_VALUE", ())
        with pytest.raises(ConfigError, match=facts("mpnet", "model.lora.targets", "dense, k, o, q, v")):
            scoring_model("mpnet", lora={})
        assert len(adapters_of(scoring_model("mpnet", lora={"targets": ["o"]}))) == 3


class TestRefusals:
    def test_peft_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(ConfigError, match=facts("model.lora", "peft", 'pip install "aes-dynloss[lora]"')):
            ScoringModel(random_encoder(), ModelConfig(lora={}), TWO_PROMPTS)
        ScoringModel(random_encoder(), ModelConfig(), TWO_PROMPTS)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"lora": {}, "frozen_layers": "all"}, ["lora", "frozen_layers: all"]),
            ({"lora": {"rank": 0}}, ["lora.rank", 1, 0]),
            ({"lora": {"alpha": 0}}, ["lora.alpha", 0]),
            ({"lora": {"dropout": 1.0}}, ["lora.dropout", 1]),
            ({"lora": {"targets": []}}, ["lora.targets", 1]),
            ({"lora": {"r": 8}}, ["lora", "r"]),
            ({"lora": {}, "kind": "boosting"}, ["kind boosting", "lora"]),
        ],
    )
    def test_what_cannot_be_run(self, values: dict[str, object], words: list[object]) -> None:
        with pytest.raises(ConfigError, match=facts(*words)):
            validate(ModelConfig, values, "here")


class PlainError:
    """A measure without coefficients."""

    over_batch = False

    def __call__(self, coefficients: Tensor, elements: object) -> Tensor:
        return (elements.scores - elements.targets).square()

    def terms(self, elements: object) -> dict[str, Tensor]:
        return {"error": self(torch.zeros(0), elements)}

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        return {}


def rates_of(live: LiveStudent, rate: float) -> Rates:
    ones = [torch.ones_like(parameter) for parameter in live.parameters]
    return Rates(live.flat([rate * one for one in ones]), live.flat([0.1 * one for one in ones]), None)


RULES: dict[str, Callable[[LiveStudent], UpdateRule]] = {
    "momentum": lambda live: Sgd(rates_of(live, 0.05), momentum=0.8),
    "adamw": lambda live: AdamW(rates_of(live, 0.01), betas=(0.8, 0.9), eps=1e-3),
}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_hypergradients_are_exact(kind: str, rule: str, dropout: float) -> None:
    """Beside one graph over the whole run, and beside finite differences of whole runs, in float64."""
    model = adapted_model(kind, dropout=dropout, lora={"rank": 2, "dropout": dropout}, frozen_layers=1).double()
    live, essays = LiveStudent(model), random_essays(LENGTHS)
    assert set(live.names) == learning(model)
    assert any("lora_A" in name for name in live.names)

    def plan(rows: list[int], size: int, seed: int) -> StepPlan:
        torch.manual_seed(seed)
        parts = [essays.batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        return StepPlan(tuple(map(in_float64, parts)), len(rows), 1.0, random_state(live.device))

    objective = Objective(live, Mixture(("mse", "stde")))
    measure = Measure(Objective(live, PlainError(), measuring=True), plan([0, 4, 6], 3, 9))
    plans = [replace(plan([0, 1, 3, 5], 2, 1), factor=0.9), plan([6, 4, 3, 1], 4, 2), plan([5, 0, 4, 6], 2, 3)]
    built = RULES[rule](live)
    start = built.start(live.weights())
    coefficients = torch.tensor([[0.7, 0.2], [0.5, 0.9], [1.1, 0.4]], dtype=torch.float64)

    def walk(phi: Tensor) -> Trajectory:
        answers = iter(phi)
        return unroll(objective, built, start, plans, lambda: next(answers), memory=Memory())

    def measured(phi: Tensor) -> Tensor:
        with live.undisturbed():
            return measure.gradient(walk(phi).end.weights)[0]

    found, graph = (torch.zeros_like(coefficients) for _ in range(2))
    for estimator, place in ((Exact(), found), (UnrolledGraph(), graph)):
        with live.undisturbed():
            place.copy_(estimator(objective, built, walk(coefficients), measure).coefficients)
    torch.testing.assert_close(found, graph, rtol=1e-8, atol=1e-12)
    assert (found != 0).all()
    numeric = torch.zeros_like(coefficients)
    for place in range(coefficients.numel()):
        shift = torch.zeros_like(coefficients)
        shift.view(-1)[place] = 1e-5
        numeric.view(-1)[place] = (measured(coefficients + shift) - measured(coefficients - shift)) / 2e-5
    assert (found - numeric).norm() / numeric.norm() < 2e-6


def in_float64(batch: Batch) -> Batch:
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in batch.inputs.items()}
    return replace(batch, inputs=inputs, targets=batch.targets.double())
