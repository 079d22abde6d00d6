"""Linguistic features from outside: functions of an essay's text that are registered under a name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.features.linguistic import GROUPS, LENGTH, VECTOR, Feature, Group, Text, Values
from aes_dynloss.parts import decorator_name, faults_named
from aes_dynloss.tables.columns import TABLE_COLUMNS

# What a feature, or a group of them, would be taken for in a configuration, an explanation or a table.
_RESERVED = {"all", VECTOR, LENGTH, *TABLE_COLUMNS}

Count = TypeVar("Count", bound=Callable[[str], float | Values])


def register_feature(
    name: str, *, unit: str = "none", source: str = "", language: str = "any"
) -> Callable[[Count], Count]:
    """Decorator that makes a function of an essay's text a linguistic feature, or a group of several.

    The function returns a number, or several by name, the same names for every text, an empty one too; their features
    are called ``NAME_KEY``. It sees the text as other features do, without the placeholders of anonymised data.
    ``model.linguistic: [all, NAME]`` gives it to a scorer beside the package's own groups.

    Args:
        name: Name of the group and, of a single number, of the feature: small letters, digits and _.
        unit: Of the values.
        source: Where it is from.
        language: ISO 639 code of the language that it is for, ``any`` if it has none.

    Raises:
        ConfigError: The name is another group's or feature's or has a meaning of its own, as score has; or the function
            returns no such values.

    Examples:
        >>> from aes_dynloss.essays.features.linguistic import linguistic_features
        >>> @register_feature("hedges", unit="per 100 words", language="en")
        ... def hedges(text: str) -> float:
        ...     '''Words that take a claim back.'''
        ...     words = text.lower().split()
        ...     return 100 * sum(word in {"perhaps", "maybe", "possibly"} for word in words) / max(len(words), 1)
        >>> linguistic_features(["Perhaps it is so. Maybe not."], [None], ["hedges"]).round(1)
        array([[33.3]])
    """
    decorator_name(name, "register_feature")

    def register(function: Count) -> Count:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"register_feature decorates a function of a text, found {function!r} for {name!r}.")
        columns = tuple(_own_values(name, function, ""))
        others = {feature.name for group in GROUPS.known() if group != name for feature in GROUPS[group].features}
        clash = [one for one in (name, *columns) if one in others | _RESERVED]
        if clash:
            raise ConfigError(
                f"There is already {clash[0]!r} among the features, or it has a meaning of its own here. Choose "
                "another name."
            )
        features = tuple(Feature(column, name, unit, source, language) for column in columns)

        def count(text: Text) -> Values:
            values = _own_values(name, function, text.text)
            if tuple(values) != columns:
                raise DataError(
                    f"The feature {name!r} returned {', '.join(values)} for a text, expected {', '.join(columns)}, as "
                    "for an empty one. Mend it."
                )
            return values

        GROUPS.register(name, Group(count, features), function)
        return function

    return register


def _own_values(name: str, function: Callable[[str], float | Values], text: str) -> Values:
    """What a function from outside returns for a text, by the features' names."""
    with faults_named(f"The feature {name!r} failed on a text of {len(text)} characters", function, DataError):
        returned = function(text)
    values = (
        {f"{name}_{key}": one for key, one in returned.items()} if isinstance(returned, Mapping) else {name: returned}
    )
    for column, value in values.items():
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise DataError(
                f"The feature {column!r} of the group {name!r} is {value!r} for a text of {len(text)} characters, "
                "expected a finite number. Mend it."
            )
    if not values:
        raise DataError(f"The feature {name!r} returned nothing, expected a number, or several by name. Mend it.")
    return {column: float(value) for column, value in values.items()}
