"""``aes-dynloss parts``: what a configuration can choose by name, the package's own and what plugins add."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import click

if TYPE_CHECKING:
    from aes_dynloss.configfile import ConfigModel
    from aes_dynloss.parts import Parts


@dataclass(frozen=True)
class Row:
    """One part.

    Args:
        name: As configurations name it.
        meaning: What it is, in a line.
        origin: The package or module that it is from; empty for aes-dynloss itself.
    """

    name: str
    meaning: str
    origin: str = ""


# Kind of parts: the key that names one.
KEYS = {
    "losses": "loss.terms.NAME",
    "schedules": "loss.terms.LOSS.schedule",
    "teachers": "teacher.kind",
    "estimators": "teacher.hypergradient.estimator",
    "features": "model.linguistic",
    "heads": "model.head",
    "solvers": "model.solver",
    "models": "model.kind",
}


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(list(KEYS)), metavar="[KIND]...")
def parts(kinds: tuple[str, ...]) -> None:
    """List what a configuration can choose by name: losses, schedules, teachers, estimators, features and others.

    Those of installed packages that announce some, of --plugin and of AES_DYNLOSS_PLUGINS are among them, with where
    they come from.
    """
    for number, kind in enumerate(kinds or KEYS):
        click.echo(f"{chr(10) if number else ''}{kind} ({KEYS[kind]})")
        rows = part_rows(kind)
        width = max(len(row.name) for row in rows)
        for row in rows:
            origin = f"  [{row.origin}]" if row.origin else ""
            click.echo(f"  {row.name.ljust(width)}  {row.meaning}{origin}")


def part_rows(kind: str, *, plugins: bool = True) -> list[Row]:
    """All parts of a kind.

    Args:
        kind: One of :data:`KEYS`.
        plugins: Whether those from outside are among them.

    Raises:
        ConfigError: A plugin cannot be loaded.
    """
    return _LISTS[kind](plugins)


def _registered(parts: Parts[Any], documented: Callable[[str], object], *, plugins: bool) -> list[Row]:
    names: Iterable[str] = parts if plugins else parts.included
    rows = []
    for name in names:
        origin = parts.origin(name)
        place = "" if origin is None else f"{origin.distribution or origin.module} {origin.version or ''}".strip()
        rows.append(Row(name, _first_sentence(parts.source(name) or documented(name)), place))
    return rows


def _losses(plugins: bool) -> list[Row]:
    from aes_dynloss.teaching.losses.component_table import COMPONENTS

    return _registered(COMPONENTS, lambda name: COMPONENTS[name].function, plugins=plugins)


def _schedules(plugins: bool) -> list[Row]:
    from aes_dynloss.teaching.policies import SCHEDULES

    return _registered(SCHEDULES, SCHEDULES.__getitem__, plugins=plugins)


def _teachers(plugins: bool) -> list[Row]:
    from aes_dynloss.teaching.teachers.config import TEACHERS

    return _registered(TEACHERS, TEACHERS.__getitem__, plugins=plugins)


def _features(plugins: bool) -> list[Row]:
    from aes_dynloss.essays.features.linguistic import GROUPS

    return _registered(GROUPS, lambda name: GROUPS[name].count, plugins=plugins)


def _estimators(_: bool) -> list[Row]:
    from aes_dynloss.teaching.hypergradient.estimators import HypergradientConfig

    return _choices(HypergradientConfig, "estimator")


def _of_model(field: str) -> Callable[[bool], list[Row]]:
    def rows(_: bool) -> list[Row]:
        from aes_dynloss.essays.model.model_config import ModelConfig

        return _choices(ModelConfig, field)

    return rows


def _choices(model: type[ConfigModel], field_name: str) -> list[Row]:
    """The values of a key whose description has `VALUE: meaning;`, or `VALUE, VALUE: meaning;`, for each."""
    field = model.model_fields[field_name]
    annotations = (field.annotation, *get_args(field.annotation))
    names = [name for one in annotations for name in get_args(one) if isinstance(name, str)]
    found = [re.search(rf"\b{name}(?:, \w+)*: ([^;.]+)", field.description or "") for name in names]
    return [Row(name, "" if match is None else _sentence(match[1])) for name, match in zip(names, found, strict=True)]


_LISTS: Mapping[str, Callable[[bool], list[Row]]] = {
    "losses": _losses,
    "schedules": _schedules,
    "teachers": _teachers,
    "estimators": _estimators,
    "features": _features,
    "heads": _of_model("head"),
    "solvers": _of_model("solver"),
    "models": _of_model("kind"),
}


def _first_sentence(thing: object) -> str:
    """The first line of a docstring, without its full stop."""
    lines = (thing.__doc__ or "").strip().splitlines()
    return _sentence(lines[0]) if lines else ""


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".").replace("``", "")
