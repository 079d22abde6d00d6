from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.policies import Constant, Linear, LossConfig, Morris, ScheduledPolicy, StudentState


def coefficients(policy, progress):
    found = policy.coefficients(StudentState(progress))
    assert found.dtype == torch.float32
    return found.tolist()


def test_the_default_is_mse():
    mixture, policy = LossConfig().build()
    assert mixture.coefficient_names == ("mse",)
    assert coefficients(policy, 0.3) == [1.0]


def test_rest_is_what_the_others_leave():
    values = {"terms": {"stde": {"schedule": "morris", "a": 1, "b": 0.2, "c": 1}, "mse": "rest", "mae": 0.25}}
    mixture, policy = validate(LossConfig, values, "f.yaml").build()
    assert mixture.coefficient_names == ("stde", "mse", "mae")
    assert coefficients(policy, 0.0) == [1.0, -0.25, 0.25]
    late = math.exp(-0.8)
    assert coefficients(policy, 1.0) == pytest.approx([late, 0.75 - late, 0.25], rel=1e-6)


def test_numbers_are_constants_and_need_no_point():
    config = LossConfig(terms={"mse": 2, "stde": 0.5})
    assert config.terms == {"mse": 2.0, "stde": 0.5}
    assert coefficients(config.build()[1], 0.7) == [2.0, 0.5]


def test_standardise_reaches_the_mixture():
    scaled, plain = (LossConfig(standardise=each).build()[0] for each in (True, False))
    assert (scaled._standardise, plain._standardise) == (True, False)


def test_a_policy_of_schedules():
    policy = ScheduledPolicy({"mse": Linear(start=0.0, end=1.0), "mae": None, "stde": Constant(value=0.5)})
    assert coefficients(policy, 0.25) == [0.25, 0.25, 0.5]


def test_it_comes_back_from_plain_values():
    config = LossConfig(terms={"stde": Morris(b=0.3), "mse": "rest"}, standardise=True)
    assert validate(LossConfig, config.model_dump(mode="json"), "f.yaml") == config


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"mes": 1.0}, "there is no loss 'mes'; did you mean mse"),
        ({"xyzzyx": 1.0}, "there is no loss 'xyzzyx'; known here: all_pairs_error, bin"),
        ({"xyzzyx": 1.0}, "One of your own: --plugin FILE.py"),
        ({"mse": "rest", "mae": "rest"}, "at most one term can have the weight `rest`"),
        ({"mse": "rest"}, "a single term cannot have the weight `rest`; give it 1.0"),
        ({}, "at least 1 item"),
        ({"mse": math.nan}, "finite number"),
        ({"mse": "much"}, "valid number"),
    ],
)
def test_what_is_refused(terms, words):
    with pytest.raises(ValidationError, match=words):
        LossConfig(terms=terms)


def test_all_faults_at_once_and_each_once():
    values = {
        "terms": {
            "mes": 1.0,
            "mse": {"schedule": "moris"},
            "mae": {"schedule": "cosine", "start": 1, "edn": 0},
            "stde": {"a": 1},
            "huber": {"schedule": "morris", "a": -1, "value": 2},
        },
        "standardize": True,
    }
    with pytest.raises(ConfigError) as caught:
        validate(LossConfig, values, "f.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == "f.yaml has 8 faults:"
    assert sorted(lines) == [
        "  standardize: there is no such key; did you mean standardise?",
        "  terms.huber.a: input should be greater than or equal to 0, found -1",
        "  terms.huber.value: there is no such key; known here: a, b, c, schedule.",
        "  terms.mae.edn: there is no such key; did you mean end?",
        "  terms.mae.end: this key is required",
        "  terms.mes: there is no loss 'mes'; did you mean mse?",
        "  terms.mse.schedule: there is no 'moris'; did you mean morris?",
        "  terms.stde.schedule: this key is required",
    ]


def test_a_word_where_a_weight_is_meant():
    asked = r"a valid number, unable to parse string as a number, or 'rest', or a valid dictionary or object .*"
    with pytest.raises(ConfigError, match=rf"1 fault:\n  terms.mse: input should be {asked}, found 'rets'$"):
        validate(LossConfig, {"terms": {"mse": "rets", "mae": 1}}, "f.yaml")
