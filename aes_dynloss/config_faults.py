"""What is wrong with a configuration, in words: where, what was found, and the nearest key that exists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def fault_lines(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Every fault that pydantic found, each once.

    Args:
        model: The configuration's class.
        error: What validating it raised.
    """
    return list(dict.fromkeys(_fault_words(model, fault) for fault in _meant(error.errors())))


def value_words(value: object) -> str:
    """A value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _meant(faults: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Faults without those of union members that a mapping was not meant for, such as `should be a number`."""

    def is_beside(fault: Mapping[str, Any]) -> bool:
        value, place = fault["loc"][:-1], _place(fault)
        if not isinstance(fault["input"], Mapping) or len(place) == len(fault["loc"]) or fault["type"] in _TAG_FAULTS:
            return False
        fellows = [other for other in faults if other["loc"][: len(value)] == value]
        return any(len(_place(other)) > len(place) or other["type"] in _TAG_FAULTS for other in fellows)

    return [fault for fault in faults if not is_beside(fault)]


def _place(fault: Mapping[str, Any]) -> list[object]:
    """Where a fault lies, as its user would say it."""
    location = fault["loc"]
    return [part for part, before in zip(location, (None, *location), strict=False) if not _is_branch(part, before)]


def _fault_words(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    location = _place(fault)
    name = ".".join(str(part) for part in location) or "the file"
    if fault["type"] == "extra_forbidden":
        known = _names_beside(model, fault["loc"])
        return f"{name}: there is no such key; {_advice(str(location[-1]), known)}"
    if fault["type"] in _TAG_FAULTS:
        return _tag_words(name, fault["ctx"])
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if message[:2] != message[:2].upper() else message
    if fault["type"] in {"missing", "value_error"}:
        return f"{name}: {message.replace('field required', 'this key is required')}"
    return f"{name}: {message}, found {value_words(fault['input'])}"


# A mapping whose key `schedule`, say, must choose one of several kinds.
_TAG_FAULTS = {"union_tag_invalid", "union_tag_not_found"}


def _tag_words(name: str, context: Mapping[str, Any]) -> str:
    key = f"{name}.{context['discriminator'].strip(chr(39))}"
    if "tag" not in context:
        return f"{key}: this key is required"
    known = re.findall(r"'([^']+)'", context["expected_tags"])
    return f"{key}: there is no {context['tag']!r}; {_advice(context['tag'], known)}"


def _advice(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known)) or 'nothing'}."


def _is_branch(part: object, before: object) -> bool:
    """Whether pydantic added this part of a location, which follows ``before``, to name a member of a union."""
    if isinstance(before, str) and before.startswith("tagged-union["):
        return True
    return isinstance(part, str) and ("[" in part or part in {"float", "int", "str"} or part.endswith("Config"))


def _names_beside(model: type[BaseModel], location: Sequence[object]) -> list[str]:
    """Names of the keys that may stand where ``location`` points to one that may not."""
    models: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(str(part))
            inner += _models_in(field.annotation) if field is not None else []
        # The part may be a class's name, or the tag that chose it out of a union.
        named = [candidate for candidate in models if candidate.__name__.lower() == str(part).lower()]
        models = named or inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
