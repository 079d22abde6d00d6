"""The scorer as a module: elements against plain formulas, essays alone and in company, what learns and what not."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_scorer import TWO_PROMPTS, random_encoder, random_essays, scoring_model
from torch import Tensor, nn

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.loop import RunContext, fit
from aes_dynloss.training.run_state import trained_state

POOLINGS = ("mean", "cls", "attention")
GROUPS = torch.tensor([0, 1, 1, 0, 1])
MEAN = torch.tensor([scale.mean for scale in TWO_PROMPTS])
SD = torch.tensor([scale.sd for scale in TWO_PROMPTS])
COUNTS = [scale.prompt.range.count for scale in TWO_PROMPTS]
# One chunk, several of unequal length, an empty text.
LENGTHS = (5, 40, 0, 14, 29, 3, 15)


def answers_of(model: ScoringModel) -> Tensor:
    torch.manual_seed(5)
    if model.config.head == "regression":
        return torch.randn(len(GROUPS), 1)
    raw = torch.randn(len(GROUPS), max(COUNTS))
    valid = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[GROUPS][:, None]
    return torch.log_softmax(raw.masked_fill(~valid, -1e4), dim=1)


class TestElements:
    def test_identity_link(self) -> None:
        model = scoring_model()
        answers = answers_of(model)
        elements = model.elements(answers, torch.full((5,), 0.25, dtype=torch.float64), GROUPS)
        torch.testing.assert_close(elements.scores, MEAN[GROUPS] + SD[GROUPS] * answers[:, 0])
        torch.testing.assert_close(elements.centre, MEAN[GROUPS])
        torch.testing.assert_close(elements.spread, SD[GROUPS])
        assert elements.targets.tolist() == [0.25] * 5
        assert elements.targets.dtype == answers.dtype
        assert elements.groups is GROUPS
        assert elements.logits is None
        assert elements.log_probs is None

    def test_sigmoid_link_has_the_mean_and_slope_of_the_identity(self) -> None:
        model = scoring_model(link="sigmoid")
        answers = torch.zeros(5, 1, requires_grad=True)
        elements = model.elements(answers, torch.zeros(5), GROUPS)
        torch.testing.assert_close(elements.scores.detach(), MEAN[GROUPS])
        torch.testing.assert_close(torch.sigmoid(elements.logits), elements.scores)
        (slope,) = torch.autograd.grad(elements.scores.sum(), answers)
        torch.testing.assert_close(slope[:, 0], SD[GROUPS])
        great = model.elements(torch.full((5, 1), 30.0), torch.zeros(5), GROUPS)
        assert (great.scores <= 1).all()
        assert (great.scores > 0.99).all()

    @pytest.mark.parametrize("head", ["softmax", "ordinal"])
    def test_distributions(self, head: str) -> None:
        model = scoring_model(head=head)
        log_probs = answers_of(model)
        classes = [3, 0, 4, 5, 2]
        targets = torch.tensor([c / (COUNTS[g] - 1) for c, g in zip(classes, GROUPS, strict=True)])
        elements = model.elements(log_probs, targets, GROUPS)
        assert elements.classes.tolist() == classes
        assert elements.log_probs is log_probs
        for row, group in enumerate(GROUPS):
            points = np.linspace(0, 1, COUNTS[group])
            expected = float(log_probs[row, : COUNTS[group]].exp().double().numpy() @ points)
            assert elements.scores[row].item() == pytest.approx(expected, abs=1e-6)

    def test_every_score_point_is_its_own_class(self) -> None:
        """Also where (k / 47) * 47 is a little less than k."""
        wide = PromptScale(Prompt("wide", ScoreRange(0, 47)), 0.5, 0.2, (1 / 48,) * 48, 3.0, 1.0)
        model = scoring_model(head="softmax", scales=[wide])
        targets = torch.from_numpy(wide.prompt.range.to_unit(wide.prompt.range.points))
        elements = model.elements(torch.zeros(48, 48), targets, torch.zeros(48, dtype=torch.int64))
        assert elements.classes.tolist() == list(range(48))

    @pytest.mark.parametrize("config", [{}, {"link": "sigmoid"}, {"head": "softmax"}, {"head": "ordinal"}])
    def test_an_untrained_scorer_answers_about_each_prompts_mean(self, config: dict[str, str]) -> None:
        model = ScoringModel(random_encoder(), ModelConfig(**config), TWO_PROMPTS).eval()
        batch = random_essays(LENGTHS).batch(range(len(LENGTHS)))
        scores = model.scores(model(**batch.inputs), batch.groups)
        if "head" in config:  # half an essay more at every point
            means = [
                (np.array(scale.shares) + 0.005) @ np.linspace(0, 1, count) / (1 + 0.005 * count)
                for scale, count in zip(TWO_PROMPTS, COUNTS, strict=True)
            ]
        else:
            means = MEAN.tolist()
        np.testing.assert_allclose(scores.detach(), np.array(means)[batch.groups], atol=2e-4)


HEADS = [
    {},
    {"link": "sigmoid", "prompts": "embedding", "log_length": False},
    {"head": "softmax", "hidden": 5},
    {"head": "ordinal", "prompts": "embedding"},
    {"prompts": "shared", "hidden": 5},
]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("config", HEADS)
def test_an_essay_alone_and_in_company(pooling: str, config: dict[str, object]) -> None:
    model = scoring_model(pooling=pooling, **config)
    essays = random_essays(LENGTHS)
    with torch.no_grad():
        together = model.scores(model(**essays.batch(range(len(essays))).inputs), torch.from_numpy(essays.groups))
        for row in range(len(essays)):
            batch = essays.batch([row])
            alone = model.scores(model(**batch.inputs), batch.groups)
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
    assert together.std() > 0.01  # they do differ


@pytest.mark.parametrize("pooling", POOLINGS)
def test_tokens_behind_the_mask_are_not_read(pooling: str) -> None:
    model = scoring_model(pooling=pooling)
    inputs = random_essays(LENGTHS).batch(range(len(LENGTHS))).inputs
    other = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], 7)
    with torch.no_grad():
        torch.testing.assert_close(model(**{**inputs, "input_ids": other}), model(**inputs), atol=1e-5, rtol=0)


def test_length_is_seen_in_standard_deviations_of_the_prompt() -> None:
    model = scoring_model()
    inputs = dict(random_essays((6, 6)).batch([0, 1]).inputs)
    scales = [(scale.length_mean, scale.length_sd) for scale in TWO_PROMPTS]

    def answers(*deviations: float) -> Tensor:
        lengths = [mean + sd * d for (mean, sd), d in zip(scales, deviations, strict=True)]
        return model(**{**inputs, "log_length": torch.tensor(lengths)})

    bias = model.head.answer.bias
    features = (
        model.pooling(model.last_states(inputs), inputs["attention_mask"], inputs["owner"], 2) - model.feature_mean
    ) / (model.feature_sd * 4)
    at_mean = (features @ model.head.answer.weight[:, :-1].T + bias).diagonal()
    torch.testing.assert_close(answers(0.0, 0.0)[:, 0], at_mean)
    slope = model.head.answer.weight[:, -1]  # the length is the last of the head's inputs
    torch.testing.assert_close((answers(2.0, -1.0) - answers(0.0, 0.0))[:, 0], slope * torch.tensor([2.0, -1.0]))
    blind = scoring_model(log_length=False)
    longer = {**inputs, "log_length": inputs["log_length"] + 1}
    torch.testing.assert_close(blind(**longer), blind(**inputs))


def test_features_weigh_as_much_as_one_number() -> None:
    model = scoring_model(log_length=False)
    raw = torch.randn(4, 16)
    prompt = torch.tensor([0, 1, 0, 1])
    expected = model.head((raw - model.feature_mean) / model.feature_sd / 4, prompt)  # 4 = sqrt(16)
    torch.testing.assert_close(model(features=raw, prompt=prompt, log_length=torch.ones(4)), expected)


@pytest.mark.parametrize("config", HEADS)
def test_autocast_leaves_the_head_in_float32(config: dict[str, object]) -> None:
    model = scoring_model(**config)
    torch.manual_seed(0)
    inputs = {"features": torch.randn(6, 16), "prompt": torch.arange(6) % 2, "log_length": torch.rand(6) * 5}
    with torch.autocast("cpu", torch.bfloat16):
        answers = model(**inputs)
    assert answers.dtype == torch.float32
    torch.testing.assert_close(answers, model(**inputs), rtol=0, atol=0)


@pytest.mark.parametrize("config", HEADS)
def test_a_head_over_a_frozen_encoder_trains_in_float32(tmp_path: Path, config: dict[str, object]) -> None:
    """Whatever the run's precision is: on vectors that are there already, bf16 would only round."""
    weights = []
    for precision in ("float32", "bf16"):
        training = TrainingConfig(epochs=2, batch_size=3, head_learning_rate=0.05, device="cpu", precision=precision)
        model = scoring_model(frozen_layers="all", pooling="mean", **config)
        essays = random_essays(LENGTHS)
        vectors = torch.randn(len(LENGTHS), 16, generator=torch.Generator().manual_seed(3))
        loss, policy = LossConfig(terms={"mse": 1.0}).build()
        accelerator = build_accelerator(training, precision=training.precision)
        context = RunContext(accelerator, training, tmp_path, lambda: {"none": 0.0}, "none")
        fit(context, model, replace(essays, features=vectors), loss, policy)
        weights.append(trained_state(model))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.answer.weight"], scoring_model(**config).head.answer.weight)


FROZEN = [("bert", 0), ("bert", 1), ("bert", 2), ("bert", "all"), ("mpnet", 1), ("distilbert", 1), ("modernbert", 1)]


@pytest.mark.parametrize(("kind", "frozen"), FROZEN)
class TestFrozenLayers:
    def test_they_do_not_move(self, kind: str, frozen: int | str) -> None:
        model = scoring_model(kind, frozen_layers=frozen).train()
        before = copy.deepcopy(dict(model.named_parameters()))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batch = random_essays(LENGTHS).batch(range(len(LENGTHS)))
        for _ in range(2):
            optimizer.zero_grad()
            elements = model.elements(model(**batch.inputs), batch.targets, batch.groups)
            (elements.scores - elements.targets).square().mean().backward()
            optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {name for name, p in model.named_parameters() if p.requires_grad and p.grad.any()}
        layers = list(model.encoder_layers)
        below = layers if frozen == "all" else layers[:frozen]
        fixed = {id(p) for layer in below for p in layer.parameters()}
        if frozen:
            fixed |= {id(p) for p in model.encoder.get_input_embeddings().parameters()}
        learning = {id(p) for p in model.encoder.parameters()} - fixed
        for name, parameter in model.named_parameters():
            assert not (name in moved and id(parameter) in fixed)
        assert bool({id(p) for n, p in model.named_parameters() if n in moved} & learning) == (frozen != "all")

    def test_they_have_no_dropout(self, kind: str, frozen: int | str) -> None:
        model = scoring_model(kind, dropout=0.5, frozen_layers=frozen).train()
        learning = [] if frozen == "all" else list(model.encoder_layers)[frozen or 0 :]
        above = {module for layer in learning for module in layer.modules()}
        dropouts = [module for module in model.encoder.modules() if isinstance(module, nn.Dropout)]
        assert dropouts
        for module in dropouts:
            assert module.training == (module in above or frozen == 0)
        seen: list[Tensor] = []
        target = learning[0] if learning else model.pooling
        target.register_forward_pre_hook(
            lambda _, args, named: seen.append((*args, *named.values())[0]), with_kwargs=True
        )
        batch = random_essays(LENGTHS).batch(range(len(LENGTHS)))
        answers = [model(**batch.inputs) for _ in range(2)]
        assert torch.equal(seen[0], seen[1]) == (frozen != 0)
        assert torch.equal(answers[0], answers[1]) == (frozen == "all")
        model.eval()
        assert not any(module.training for module in model.modules())

    def test_every_learning_parameter_stands_once_in_the_stack(self, kind: str, frozen: int | str) -> None:
        model = scoring_model(kind, frozen_layers=frozen, pooling="attention", hidden=3)
        stack = model.parameter_stack()
        listed = [id(parameter) for layer in stack for _, parameter in layer]
        assert len(listed) == len(set(listed))
        assert set(listed) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        assert {name.split(".")[0] for name, _ in stack[-1]} == {"pooling", "head"}
        layers = list(model.encoder_layers)[0 if frozen == 0 else frozen :] if frozen != "all" else []
        ids = [{id(parameter) for _, parameter in layer} for layer in stack]
        expected = [{id(parameter) for parameter in layer.parameters()} for layer in layers]
        assert ids[-1 - len(layers) : -1] == expected  # the encoder's layers from the bottom, right below the head
        assert len(ids) == len(layers) + 1 + (frozen == 0)  # and the embeddings, where they learn


@pytest.mark.parametrize("frozen", [3, 4, 100])
def test_too_many_frozen_layers(frozen: int) -> None:
    with pytest.raises(ConfigError, match=rf"frozen_layers is {frozen}, but the encoder has 3 layers.*set it to all"):
        scoring_model(frozen_layers=frozen)


def test_layers_that_cannot_be_told_apart() -> None:
    with pytest.raises(ConfigError, match="frozen_layers is 1, but the encoder has no layers that can be told apart"):
        scoring_model("albert", frozen_layers=1)
    model = scoring_model("albert", frozen_layers="all")
    assert model.encoder_layers is None
    assert len(model.parameter_stack()) == 1


def test_a_module_like_others() -> None:
    model = scoring_model("bert", frozen_layers=1)
    assert model.as_module() is model
    assert model.train() is model
    names = list(model.state_dict())
    assert len(names) == len(set(names))
    assert {name for name in names if not name.startswith(("encoder.", "pooling.", "head."))} == {
        "feature_mean",
        "feature_sd",
    }
    other = scoring_model("bert", frozen_layers=1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(model.state_dict())
    batch = random_essays(LENGTHS).batch(range(len(LENGTHS)))
    torch.testing.assert_close(other.eval()(**batch.inputs), model.eval()(**batch.inputs), rtol=0, atol=0)
