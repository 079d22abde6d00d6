"""Configuration files: YAML plus ``key=value`` overrides, checked against pydantic models.

The models stand beside the code that they configure; this module knows none of them. All faults of a file are reported
together, each with its place, the value found, and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import SchemaValidator, core_schema

from aes_dynloss.errors import ConfigError


def value_words(value: object) -> str:
    """A value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else clipped_repr(value)


def clipped_repr(value: object) -> str:
    """A value in a message, cut after 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _relevant(faults: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Faults without those of union members that a mapping or list was not meant for, as `should be a number`."""

    def is_beside(fault: Mapping[str, Any]) -> bool:
        value, shown = fault["loc"][:-1], _user_location(fault)
        if (
            not isinstance(fault["input"], Mapping | list)
            or len(shown) == len(fault["loc"])
            or fault["type"] in _TAG_FAULTS
        ):
            return False
        fellows = [other for other in faults if other["loc"][: len(value)] == value]
        return any(len(_user_location(other)) > len(shown) or other["type"] in _TAG_FAULTS for other in fellows)

    return [fault for fault in faults if not is_beside(fault)]


_ASKED = "Input should be "


def _one_a_value(faults: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Faults with what the members of a union ask of a value as one: `input should be a valid integer, or 'auto'`."""
    merged: list[dict[str, Any]] = []
    asked: dict[tuple[object, ...], dict[str, Any]] = {}
    for fault in faults:
        message = fault["msg"]
        if not message.startswith(_ASKED):
            merged.append(dict(fault))
            continue
        place = tuple(_user_location(fault))
        if place not in asked:
            asked[place] = {**fault, "msg": []}
            merged.append(asked[place])
        asked[place]["msg"].append(message.removeprefix(_ASKED))
    for fault in asked.values():
        fault["msg"] = _ASKED + ", or ".join(dict.fromkeys(fault["msg"]))
    return merged


def _user_location(fault: Mapping[str, Any]) -> list[object]:
    """Where a fault lies, as its user would say it."""
    location = fault["loc"]
    return [part for part, before in zip(location, (None, *location), strict=False) if not _is_branch(part, before)]


def _fault_message(model: type[BaseModel], fault: Mapping[str, Any]) -> str:
    location = _user_location(fault)
    name = ".".join(str(part) for part in location) or "the file"
    if fault["type"] == "extra_forbidden":
        known = _names_beside(model, fault["loc"])
        return f"{name}: there is no such key; {advice_on(str(location[-1]), known)}"
    if fault["type"] in _TAG_FAULTS:
        return _tag_message(name, fault["ctx"])
    message = fault["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if message[:2] != message[:2].upper() else message
    if fault["type"] in {"missing", "value_error"}:
        return f"{name}: {message.replace('field required', 'this key is required')}"
    return f"{name}: {message}, found {value_words(fault['input'])}"


# A mapping whose key `schedule`, say, must choose one of several kinds.
_TAG_FAULTS = {"union_tag_invalid", "union_tag_not_found"}


def _tag_message(name: str, context: Mapping[str, Any]) -> str:
    key = f"{name}.{context['discriminator'].strip(chr(39))}"
    if "tag" not in context:
        return f"{key}: this key is required"
    known = re.findall(r"'([^']+)'", context["expected_tags"])
    return f"{key}: there is no {context['tag']!r}; {advice_on(context['tag'], known)}"


def advice_on(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest to an unknown one, as a question, or all known words."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known)) or 'nothing'}."


def _is_branch(part: object, before: object) -> bool:
    """Whether pydantic added this part of a location, which follows ``before``, to name a member of a union."""
    if isinstance(before, str) and before.startswith(("tagged-union[", "function-plain[")):  # the latter is ChosenBy's
        return True
    if not isinstance(part, str):
        return False
    plain = part in {"bool", "float", "int", "str"} or part.startswith("constrained-")
    return plain or "[" in part or part.endswith("Config")


def _names_beside(model: type[BaseModel], location: Sequence[object]) -> list[str]:
    """Names of the keys that may stand where ``location`` points to one that may not."""
    models: list[type[BaseModel]] = [model]
    choices: list[ChosenBy] = []
    for part in location[:-1]:
        chosen = [choice.models[str(part)] for choice in choices if str(part) in choice.models]
        fields = [field for candidate in models if (field := candidate.model_fields.get(str(part))) is not None]
        found = [one for field in fields for one in _chosen_from([field.annotation, *field.metadata])]
        # The part may be a class's name in a union.
        named = [candidate for candidate in models if candidate.__name__.lower() == str(part).lower()]
        choices = [one for one in found if isinstance(one, ChosenBy)] or choices
        models = chosen or named or [one for one in found if not isinstance(one, ChosenBy)] or models
    return sorted({field.alias or name for candidate in models for name, field in candidate.model_fields.items()})


def _chosen_from(annotations: Iterable[object]) -> Iterator[type[BaseModel] | ChosenBy]:
    """The models in some annotations, and what chooses among models that are looked up."""
    for annotation in annotations:
        if isinstance(annotation, ChosenBy) or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            yield annotation
        else:
            yield from _chosen_from(get_args(annotation))


@dataclass(frozen=True, eq=False)
class ChosenBy:
    """Marks a value as one of several models, chosen by one of its keys; which there are is looked up as it is read.

    It stands beside the type, as in ``Annotated[Base, ChosenBy("kind", MODELS)]``, and reads as pydantic's own
    discriminated unions do.

    Args:
        key: The key that names the model.
        models: The models by name.

    Examples:
        >>> from typing import Annotated
        >>> from pydantic import TypeAdapter
        >>> class Circle(ConfigModel):
        ...     shape: str
        ...     radius: float
        >>> TypeAdapter(Annotated[ConfigModel, ChosenBy("shape", {"circle": Circle})]).validate_python(
        ...     {"shape": "circle", "radius": 2.0}
        ... )
        Circle(shape='circle', radius=2.0)
    """

    key: str
    models: Mapping[str, type[BaseModel]]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Pydantic's way to ask how a value is read."""
        del source, handler
        return core_schema.no_info_plain_validator_function(self._chosen)

    def _chosen(self, value: object) -> object:
        name = value.get(self.key) if isinstance(value, Mapping) else getattr(value, self.key, None)
        # Names are listed, for a message, where this one is none of them: a plugin that is not asked for is not loaded.
        names = list(self.models) if isinstance(name, str) and name not in self.models else [str(name)]
        choices: dict[Any, core_schema.CoreSchema] = {
            one: core_schema.no_info_plain_validator_function(partial(self._read, one)) for one in names
        }
        return SchemaValidator(core_schema.tagged_union_schema(choices, self.key)).validate_python(value)

    def _read(self, name: str, value: object) -> BaseModel:
        return self.models[name].model_validate(value)


Model = TypeVar("Model", bound="ConfigModel")


class ConfigModel(BaseModel):
    """A part of the configuration: frozen, and closed to keys that it does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class _YamlLoader(yaml.SafeLoader):
    """YAML as people mean it: ``1e-5`` is a number, ``no`` and ``007`` are words, a key stands once, no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """Refuse aliases: with them a short file can be endless."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read here", mark)
        return super().compose_node(parent, index)


class _YamlDumper(yaml.SafeDumper):
    """YAML that reads the same by :class:`_YamlLoader` and by readers of YAML 1.1, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        """Write a value that stands twice twice."""
        return True


def _without_surprises() -> None:
    kept = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in _RETYPED]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _YamlLoader.yaml_implicit_resolvers = kept
    _YamlLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|false|False)$"), list("tTfF"))
    number = re.compile(r"^[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?$")
    _YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    # Added last and looked up first to last: whole numbers must not be read as floats.
    for first in "-+0123456789":
        rules = _YamlLoader.yaml_implicit_resolvers[first]
        rules.insert(0, ("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9]\d*)$")))
    # A word that looks like a number to this reader or to YAML 1.1's gets quotes.
    also = yaml.SafeDumper.yaml_implicit_resolvers
    _YamlDumper.yaml_implicit_resolvers = {
        first: also.get(first, []) + kept.get(first, []) for first in also.keys() | kept.keys()
    }
    _YamlLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
    _YamlLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)


# Dates are words here, 0x1f and 1:30 too: an essay id is never a date.
_RETYPED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Iterator[dict[Any, Any]]:
    result: dict[Any, Any] = {}
    yield result  # YAML's way to allow anchors that point to themselves
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key must be a word or number, found {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    result.update(loader.construct_mapping(node, deep=True))


_without_surprises()


def parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401 - YAML holds anything
    """Read one YAML document.

    Args:
        text: The document.
        where: Its name in messages.

    Raises:
        ConfigError: The text is no YAML; the message names the line.
    """
    try:
        return yaml.load(text, Loader=_YamlLoader)  # noqa: S506 - a SafeLoader
    # PyYAML lets some of Python's own errors through, such as a KeyError for `!!bool x`.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(f"{where}{line}: not valid YAML: {problem}.") from None


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Write plain values as YAML that this module and any other reader read back as they were.

    Args:
        values: Nested mappings, lists, words, numbers and nothing.
    """
    return yaml.dump(dict(values), Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds a mapping.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is no YAML or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}. Give the path of a configuration file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {value_words(values)}.")
    return values


def user_path(text: str | Path, key: str) -> Path:
    """A path from a configuration, with ``~`` as the home folder.

    Args:
        text: The path.
        key: Where it stands, for the message.

    Raises:
        ConfigError: It starts with the home folder of a user who is not there.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}: there is no user for the home folder in {text}. Write the path in full.") from None


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``key.inner=value`` over a mapping; a value is read as YAML.

    Args:
        values: The mapping, left as it is.
        overrides: Such as ``training.epochs=3`` or ``data.keep_prompts=[1,3]``; or a mapping of such keys to values.

    Raises:
        ConfigError: An override has no ``=``, no key, or reaches into something that is no mapping.
    """
    if isinstance(overrides, Mapping):
        given = [(str(key), str(key), value) for key, value in overrides.items()]
    else:
        given = [_parsed(override) for override in overrides]
    for override, key, value in given:
        values = with_value(values, key, value, f"Override {override!r}")
    return deepcopy(dict(values))


def _parsed(override: str) -> tuple[str, str, Any]:
    """An override with its key and its value."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"Override {override!r}: expected key=value, such as training.epochs=3.")
    return override, key, parse_yaml(text, f"override {override!r}")


def with_value(values: Mapping[str, Any], key: str, value: object, where: str) -> dict[str, Any]:
    """A mapping with one value set, whatever stood in its place.

    Args:
        values: The mapping, left as it is.
        key: Such as ``training.epochs``.
        value: The value.
        where: What sets it, for messages.

    Raises:
        ConfigError: The key reaches into something that is no mapping.
    """
    result = inner = deepcopy(dict(values))
    *outer, last = key.split(".")
    for part in outer:
        if not isinstance(inner.get(part), dict):
            if inner.get(part) is not None:
                raise ConfigError(f"{where}: {part} holds {value_words(inner[part])}, so nothing in it can be set.")
            inner[part] = {}
        inner = inner[part]
    inner[last] = value
    return result


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build a configuration from plain values.

    Args:
        model: The configuration's class.
        values: Nested mappings, as YAML gives them.
        where: The file's name in messages.

    Raises:
        ConfigError: With every fault at once, one a line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = _one_a_value(_relevant(error.errors()))
        faults = list(dict.fromkeys(_fault_message(model, fault) for fault in found))
        lines = "\n".join(f"  {fault}" for fault in faults)
        many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{where} has {many}:\n{lines}") from None
