"""Combinations of settings that cannot be run are refused before anything is read."""

from __future__ import annotations

from typing import Any

import pytest
from facts import facts

from aes_dynloss import register_feature
from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.finetune.config import EvaluationConfig, FinetuneConfig
from aes_dynloss.essays.floors import FLOORS
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.teaching.losses.component_table import COMPONENTS


def build(**sections: dict[str, Any]) -> FinetuneConfig:
    return validate(FinetuneConfig, {"data": {"source": "essays.csv"}, **sections}, "run.yaml")


def test_defaults() -> None:
    config = build()
    assert config.model == ModelConfig()
    assert config.loss.terms == {"mse": 1.0}
    assert config.evaluation.resamples == 1000


def test_the_floors_are_named() -> None:
    named = EvaluationConfig.model_fields["floors"].description.rstrip(".").partition(": ")[2]
    assert named.split(", ") == list(FLOORS)


def test_data_is_required() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml has 1 fault:\n  data: this key is required"):
        validate(FinetuneConfig, {}, "run.yaml")


HEADS = {
    "identity": {},
    "sigmoid": {"link": "sigmoid"},
    "softmax": {"head": "softmax"},
    "ordinal": {"head": "ordinal"},
}


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_loss_goes_with_the_heads_that_give_what_it_reads(name: str, head: str) -> None:
    fits = {"log_probs": head in {"softmax", "ordinal"}, "logits": head == "sigmoid", "": True}
    sections = {"model": HEADS[head], "loss": {"terms": {"mse": 1.0, name: 0.5}}}
    if fits[COMPONENTS[name].needs]:
        build(**sections)
    else:
        with pytest.raises(ConfigError, match=facts(f"loss {name}", "model.head") + "(?=.*(distribution|regression))"):
            build(**sections)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"frozen_layers": -1}, "model: frozen_layers must be 0 or more, or all"),
        ({"frozen_layers": "some"}, "model.frozen_layers: "),
        ({"head": "softmax", "link": "sigmoid"}, "model: link belongs to the regression head; leave it out"),
        (
            {"frozen_layers": "all", "gradient_checkpointing": True},
            "model: gradient_checkpointing has nothing to do in",
        ),
        ({"features_cache": "cache"}, "model: features_cache keeps what frozen layers compute; set frozen_layers to a"),
        ({"features_cache": "", "frozen_layers": "all"}, "model.features_cache: .* at least 1 character"),
        ({"window": 64, "max_tokens": 63}, "model: max_tokens must be at least window"),
        ({"window": 7}, "model.window: .* greater than or equal to 8, found 7"),
        ({"max_tokens": 0}, "model.max_tokens: .* greater than or equal to 8, found 0"),
        ({"dropout": 1.0}, "model.dropout: .* less than 1, found 1.0"),
        ({"encoder_dropout": -0.1}, "model.encoder_dropout: .* greater than or equal to 0"),
        ({"hidden": 0}, "model.hidden: .* greater than or equal to 1"),
        ({"pooling": "max"}, "model.pooling: .*'mean', 'cls' or 'attention', found 'max'"),
        ({"frozen_layer": 2}, r"model.frozen_layer: there is no such key; did you mean frozen_layers\?"),
    ],
)
def test_model_settings_that_cannot_be_run(model: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(model=model)


@pytest.mark.parametrize(
    "model",
    [
        {"frozen_layers": "all", "pooling": "attention"},
        {"frozen_layers": "all", "pooling": "cls", "features_cache": "cache"},
        {"frozen_layers": "all", "pooling": "attention", "features_cache": "cache"},
        {"frozen_layers": 3, "features_cache": "cache"},
        {"frozen_layers": 3, "gradient_checkpointing": True},
        {"window": 64, "max_tokens": 64},
        {"max_tokens": 8},
        {"head": "ordinal", "postprocessing": "cut_points"},
    ],
)
def test_model_settings_that_can(model: dict[str, Any]) -> None:
    found = build(model=model).model
    assert {name: getattr(found, name) for name in model} == model


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"resamples": 99}, "evaluation.resamples: .* greater than or equal to 100, found 99"),
        ({"confidence": 0.5}, "evaluation.confidence: .* greater than 0.5"),
        ({"confidence": 1.0}, "evaluation.confidence: .* less than 1"),
        ({"floor": True}, r"evaluation.floor: there is no such key; did you mean floors\?"),
    ],
)
def test_evaluation_settings(evaluation: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(evaluation=evaluation)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"teacher": {"kind": "dlf", "measure": "smooth_error"}},
            r"teacher\.measure smooth_error needs a distribution",
        ),
        (
            {"teacher": {"kind": "dln", "measure": "cross_entropy"}},
            r"teacher\.measure cross_entropy needs a distribution",
        ),
        (
            {"teacher": {"kind": "dlf", "measure": "binary_cross_entropy"}},
            r"teacher\.measure binary_cross_entropy needs model\.head regression with model\.link sigmoid",
        ),
        (
            {"teacher": {"kind": "dln"}, "training": {"averaging": 0.9}},
            r"training\.averaging has no place beside a teacher of kind dln",
        ),
        (
            {"teacher": {"kind": "mwn"}, "training": {"averaging": 0.9}},
            r"training\.averaging has no place beside a teacher of kind mwn",
        ),
        (
            {"teacher": {"kind": "mwn"}, "loss": {"terms": {"mse": 1, "stde": 0.1}}},
            r"loss\.terms\.stde is one number for a whole batch, but a teacher of kind mwn weights each essay",
        ),
        (
            {"teacher": {"kind": "mwn"}, "loss": {"terms": {"mae": 0.5, "mse": "rest"}}},
            r"loss\.terms\.mse is not a number, but a teacher of kind mwn",
        ),
        (
            {"teacher": {"kind": "mwn"}, "model": {"head": "softmax"}, "loss": {"terms": {"cross_entropy": 1}}},
            "this teacher brings its own loss; leave the section loss out",
        ),
        (
            {"teacher": {"kind": "mwn", "measure": "cross_entropy"}},
            r"teacher\.measure cross_entropy needs a distribution",
        ),
        (
            {"teacher": {"kind": "mwn", "hypergradient": {"estimator": "one_step"}}},
            r"hypergradient\.estimator one_step takes differences .* set it to exact, which with window 1 is the pub",
        ),
        (
            {"teacher": {"kind": "mwn"}, "model": {"cross_fit": 3, "frozen_layers": "all"}},
            r"model\.cross_fit: a teacher that learns would be another one for each head",
        ),
        ({"teacher": {"kind": "dln"}, "loss": {"terms": {"mae": 1}}}, "this teacher brings its own loss; leave the"),
        (
            {"teacher": {"kind": "dlf"}, "loss": {"by": ["score", "score"]}},
            r"loss\.by: names score twice; name each once",
        ),
        ({"teacher": {"from": "x"}, "loss": {"terms": {"mae": 1}}}, "this teacher brings its own loss; leave the"),
        (
            {"teacher": {"kind": "dlf"}, "model": {"head": "softmax"}, "loss": {"terms": {"cross_entropy": 1}}},
            r"this teacher brings its own loss; leave the section loss out \(with kind dlf or mwn and model",
        ),
        ({"teacher": {"kind": "dlff"}}, r"teacher\.kind: there is no 'dlff'; did you mean dlf\?"),
        ({"teacher": {"kind": "frozen"}}, r"teacher\..*from: this key is required"),
        ({"teacher": {"kind": "dlf", "from": "x"}}, r"teacher\..*from: there is no such key"),
        ({"teacher": {"kind": "dlf", "episodes": 0}}, "episodes: .* greater than or equal to 1, found 0"),
        (
            {"teacher": {"kind": "dln", "hypergradient": {"estimator": "truncated"}}},
            "last belongs to the estimator truncated, which needs it",
        ),
        (
            {"teacher": {"kind": "dlf"}, "loss": {"terms": {"mse": 1.0, "stde": 0.0}}},
            "loss.terms.stde is 0, but a teacher starts from weights above 0; write a small one, such as 0.1",
        ),
        (
            {
                "teacher": {"kind": "dlf", "hypergradient": {"estimator": "one_sided"}},
                "loss": {"terms": {"mse": 1.0, "mae": 0.1}},
            },
            "by differences finds curvature at the kink of mae that is not there; take huber in its place",
        ),
        (
            {"teacher": {"kind": "dln", "hypergradient": {"estimator": "central"}}},
            r"teacher.*: hypergradient\.estimator by differences finds curvature at the loss network's kinks",
        ),
        (
            {"teacher": {"kind": "dlf", "hypergradient": {"estimator": "central", "graph_budget": 5}}},
            "graph_budget serves exact products; leave it out with this estimator",
        ),
        (
            {"teacher": {"kind": "dlf", "hypergradient": {"snapshots": True, "graph_budget": 5}}},
            "graph_budget and snapshots exclude each other",
        ),
    ],
)
def test_teachers_that_cannot_learn(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"teacher": {"kind": "dlf"}, "loss": {"terms": {"mse": 1.0, "stde": 0.1}}, "training": {"averaging": 0.9}},
        {"teacher": {"kind": "dlf", "measure": "expected_error"}, "model": {"head": "ordinal"}},
        {"teacher": {"kind": "dln", "hypergradient": {"estimator": "truncated", "last": 3}}},
        {"teacher": {"kind": "dlf", "measure": "binary_cross_entropy"}, "model": {"link": "sigmoid"}},
        {"teacher": {"from": "runs/a/teacher"}, "training": {"averaging": 0.9}},
        {"teacher": {"kind": "mwn", "window": 2, "width": 5}, "loss": {"terms": {"mae": 0.5, "huber": 1.0}}},
        {"teacher": {"kind": "mwn", "optimizer": "sgd"}, "model": {"head": "softmax"}},
        {"teacher": {"kind": "mwn", "measure": "one_minus_qwk"}},
    ],
)
def test_teachers_survive_their_dump(sections: dict[str, Any]) -> None:
    config = build(**sections)
    values = config.model_dump(mode="json")
    assert {name: values["teacher"][name] for name in sections["teacher"] if name != "hypergradient"} == {
        name: value for name, value in sections["teacher"].items() if name != "hypergradient"
    }
    assert validate(FinetuneConfig, values, "again") == config


@pytest.mark.usefixtures("own_parts")
def test_a_column_and_an_own_feature_of_one_name() -> None:
    data = {"source": "essays.csv", "columns": {"features": ["age", "hedges_may"]}}
    register_feature("hedges")(lambda text: {"may": text.count("may"), "can": text.count("can")})
    assert build(data=data, model={"linguistic": ["counts"]}).model.own_features == ["age", "hedges_may"]
    with pytest.raises(ConfigError, match=facts("data.columns.features", "'hedges_may'", "rename that column")):
        build(data=data, model={"linguistic": ["counts", "hedges"]})


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml has 3 faults") as caught:
        build(model={"hidden": 0, "dropout": 2}, training={"epochs": 0})
    assert len(str(caught.value).splitlines()) == 4


def test_configurations_survive_their_dump() -> None:
    config = build(model={"frozen_layers": "all"}, loss={"terms": {"mse": "rest", "stde": 0.1}})
    assert validate(FinetuneConfig, config.model_dump(mode="json"), "again") == config


def test_momentum_is_not_silently_dropped() -> None:
    assert build(training={"optimizer": "sgd", "momentum": 0.9}).training.momentum == 0.9
    with pytest.raises(ConfigError, match="training: momentum belongs to the optimizer sgd; leave it out with adamw"):
        build(training={"momentum": 0.9})
