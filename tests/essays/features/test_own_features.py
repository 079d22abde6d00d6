"""Features from outside: their columns, and what a function may not return."""

from __future__ import annotations

import numpy as np
import pytest
from facts import facts

from aes_dynloss import register_feature
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.features.linguistic import (
    ALL_GROUPS,
    GROUPS,
    describe_columns,
    feature_names,
    linguistic_features,
)
from aes_dynloss.essays.model.model_config import ModelConfig

pytestmark = pytest.mark.usefixtures("own_parts")


def letters(text):
    return float(len(text))


def both(text):
    return {"a": text.count("a"), "b": np.float64(text.count("b"))}


def test_one_number_and_several():
    register_feature("zeds")(lambda text: text.count("z"))
    register_feature("abc", unit="letters", language="en")(both)
    assert feature_names(["zeds", "abc"]) == ["abc_a", "abc_b", "zeds"]
    assert linguistic_features(["a zoo", "bab"], [None, None], ["zeds", "abc"]).tolist() == [[1, 0, 1], [1, 2, 0]]
    assert describe_columns(["abc_a", "abc_b", "zed"]) == {"abc_a": ("abc", "letters"), "abc_b": ("abc", "letters")}


def test_the_packages_own_come_first_and_all_stands_for_them():
    register_feature("aaa")(letters)
    config = ModelConfig(linguistic=["aaa", "spelling", "counts"])
    assert config.linguistic_groups == ("counts", "spelling", "aaa")
    assert ModelConfig(linguistic=["aaa", "all"]).linguistic_groups == (*ALL_GROUPS, "aaa")
    assert ModelConfig(linguistic=True).linguistic_groups == ALL_GROUPS
    rows = linguistic_features(["One. Two."], [None], config.linguistic_groups)
    assert rows.shape == (1, len(config.feature_names))
    assert rows[0, -1] == 9
    with pytest.raises(ValueError, match=facts("linguistic must be", "aaa", "aab")):
        ModelConfig(linguistic=["aab"])


def test_placeholders_are_removed_first():
    register_feature("letters")(letters)
    assert linguistic_features(["@CAPS1"], [None], ["letters"]).tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["counts", "commas", "all", "encoder", "length", "score", "essay_id", "words"])
def test_names_that_are_taken(name):
    with pytest.raises(ConfigError, match=facts("There is already", repr(name), "among the features")):
        register_feature(name)(letters)


def test_columns_that_are_taken():
    register_feature("abc")(both)
    with pytest.raises(ConfigError, match=facts("There is already", "'abc_a'")):
        register_feature("abc_a")(letters)
    with pytest.raises(ConfigError, match=facts("There is already", "'log_words'")):
        register_feature("log")(lambda text: {"words": 1.0})
    with pytest.raises(ConfigError, match=facts("'prompt_id'", "meaning of its own")):
        register_feature("prompt")(lambda text: {"id": 1.0})
    assert not {"log", "prompt"} & set(GROUPS)


@pytest.mark.parametrize("value", [None, "1", float("nan"), {}, {"a": float("inf")}, True and [1.0]])
def test_what_is_no_number(value):
    with pytest.raises(DataError, match=facts("'gold'", "Mend it")):
        register_feature("gold")(lambda text: value)
    assert "gold" not in GROUPS


def test_other_names_for_another_text():
    register_feature("gold")(lambda text: {"a": 1.0} if not text else {"b": 1.0})
    with pytest.raises(DataError, match=facts("'gold'", "gold_b", "expected gold_a")):
        linguistic_features(["x"], [None], ["gold"])


def test_a_function_that_fails_is_named():
    register_feature("gold")(lambda text: 1 / (len(text) - 2))
    with pytest.raises(DataError, match=facts("'gold'", "2 characters", "ZeroDivisionError")):
        linguistic_features(["ab"], [None], ["gold"])


def test_what_is_no_function():
    with pytest.raises(ConfigError, match=facts("register_feature decorates a function", "'gold'")):
        register_feature("gold")(3)
    with pytest.raises(ConfigError, match="register_feature needs a name"):
        register_feature(letters)
