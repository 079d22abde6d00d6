"""Configuration files: YAML plus ``key=value`` overrides, checked against pydantic models.

The models stand beside the code that they configure; this module knows none of them. All faults of a file are
reported together, and a key that does not exist is answered with the nearest one that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aes_dynloss.config_faults import fault_lines, value_words
from aes_dynloss.errors import ConfigError

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
        place = f", line {mark.line + 1}" if mark is not None else ""
        words = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(f"{where}{place}: not valid YAML: {words}.") from None


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


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Lay ``key.inner=value`` over a mapping; a value is read as YAML.

    Args:
        values: The mapping, left as it is.
        overrides: Such as ``training.epochs=3`` or ``data.keep_prompts=[1,3]``.

    Raises:
        ConfigError: An override has no ``=``, no key, or reaches into something that is no mapping.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"Override {override!r}: expected key=value, such as training.epochs=3.")
        values = with_value(values, key, parse_yaml(text, f"override {override!r}"), f"Override {override!r}")
    return _copied(values)


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
    result = inner = _copied(values)
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
        faults = fault_lines(model, error)
        lines = "\n".join(f"  {fault}" for fault in faults)
        many = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{where} has {many}:\n{lines}") from None


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
