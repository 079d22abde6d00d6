"""Parts that are chosen by name, the package's own and those from outside: losses, schedules, teachers, features.

Parts from outside are registered by decorators such as :func:`aes_dynloss.register_loss`, in a plugin: an installed
distribution whose entry points name them, or a module that its user points to by ``aes-dynloss --plugin`` or the
environment variable AES_DYNLOSS_PLUGINS. A plugin is imported when one of its parts is needed. Configurations and model
folders name parts; which code that is, they never say.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import AesDynlossError, CheckpointError, ConfigError, first_line

logger = logging.getLogger(__name__)

PLUGINS = "AES_DYNLOSS_PLUGINS"  # modules, or .py files, separated as in PATH
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PLAIN = r"^[\w.+!-]{1,200}$"  # of what is read from a folder and shown again
_loaded: set[str] = set()

Part = TypeVar("Part")


class Origin(ConfigModel):
    """Where a part from outside comes from, as manifests and model folders keep it."""

    module: str = Field(pattern=_PLAIN, description="The module that registered it.")
    distribution: str | None = Field(
        default=None, pattern=_PLAIN, description="The installed distribution of that module."
    )
    version: str | None = Field(default=None, pattern=_PLAIN, description="Its version.")
    sha256: str | None = Field(
        default=None, pattern=_PLAIN, description="Of the module's source, where it is of no distribution."
    )

    def __str__(self) -> str:
        if self.distribution is None:
            return f"the module {self.module}"
        return f"the distribution {self.distribution} {self.version} (module {self.module})"


class Parts(Mapping[str, Part], Generic[Part]):
    """Parts of one kind by name. Looking one up imports the plugin that has it; listing names imports no distribution.

    Args:
        kind: In the plural, such as ``losses``; entry points are looked for in the group ``aes_dynloss.losses``.
        included: The package's own.

    Examples:
        >>> parts = Parts("losses", {"mse": 1})
        >>> parts.register("gold", 2, print)
        >>> sorted(parts), parts["gold"]
        (['gold', 'mse'], 2)
        >>> parts.register("mse", 3, print)
        Traceback (most recent call last):
        aes_dynloss.errors.ConfigError: There is already 'mse' among the losses, of aes-dynloss itself. Choose another
        name.
    """

    def __init__(self, kind: str, included: Mapping[str, Part]) -> None:
        self.kind = kind
        self.included = included
        self._registered: dict[str, tuple[Part, Callable[..., Any]]] = {}

    def register(self, name: str, part: Part, source: Callable[..., Any]) -> None:
        """Add a part; the same one, defined again as in a notebook, takes its own place.

        Args:
            name: Its name in configurations.
            part: The part.
            source: The function or class that was decorated.

        Raises:
            ConfigError: The name is none, or another part's.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"A name among the {self.kind} has small letters, digits and _, and begins with a letter; found "
                f"{name!r}. Choose another."
            )
        if name in self.included:
            taken = "aes-dynloss itself"
        elif name in self._registered and _place(self._registered[name][1]) != _place(source):
            taken = str(self.origin(name))
        else:
            others = [one for one in self._announced(name) if _top(one.module) != _top(source.__module__)]
            taken = _distribution_words(others[0]) if others else ""
        if taken:
            raise ConfigError(f"There is already {name!r} among the {self.kind}, of {taken}. Choose another name.")
        self._registered[name] = part, source

    def __getitem__(self, name: str) -> Part:
        """The part of a name.

        Raises:
            KeyError: There is none.
            ConfigError: Its plugin cannot be loaded, or does not register it.
        """
        if name in self.included:
            return self.included[name]
        if name not in self._registered:
            load_plugins()
        if name not in self._registered:
            self._load(name)
        return self._registered[name][0]

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        yield from self.included
        yield from sorted({*self._registered, *(one.name for one in self._announced())} - self.included.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def known(self) -> list[str]:
        """Names of the package's own and of those that are registered by now; nothing is looked for or imported."""
        return [*self.included, *self._registered]

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Some names in the order of the whole: the package's own first, then others by the alphabet."""
        wanted = set(names)
        return [name for name in self.included if name in wanted] + sorted(wanted - self.included.keys())

    def source(self, name: str) -> Callable[..., Any] | None:
        """The function or class that was registered; None for the package's own.

        Raises:
            KeyError: There is no such part.
        """
        self[name]
        return None if name in self.included else self._registered[name][1]

    def origin(self, name: str) -> Origin | None:
        """Where a part comes from; None for the package's own.

        Raises:
            KeyError: There is no such part.
        """
        source = self.source(name)
        if source is None:
            return None
        module = source.__module__
        announced = [one.dist for one in self._announced(name) if one.dist is not None]
        if announced:
            return Origin(module=module, distribution=announced[0].name, version=announced[0].version)
        installed = importlib.metadata.packages_distributions().get(_top(module))
        if installed:
            return Origin(module=module, distribution=installed[0], version=importlib.metadata.version(installed[0]))
        return Origin(module=module, sha256=_source_digest(module))

    def origins(self, names: Iterable[str]) -> dict[str, Origin]:
        """Where those among some parts come from that are not the package's own."""
        known = {name: self.origin(name) for name in dict.fromkeys(names)}
        return {name: origin for name, origin in known.items() if origin is not None}

    def check_origins(self, recorded: Mapping[str, Origin], where: Path) -> None:
        """Refuse what needs parts that are not here, and warn of parts that have changed since.

        Args:
            recorded: What :meth:`origins` returned when it was made.
            where: The file that says so, for messages.

        Raises:
            CheckpointError: A part is not here, or cannot be loaded.
        """
        for name, then in recorded.items():
            try:
                here = name in self
            except ConfigError as error:
                raise CheckpointError(str(error)) from None
            if not here:
                mend = (
                    f"Give that module by --plugin or {PLUGINS}"
                    if then.distribution is None
                    else f"Install {then.distribution}"
                )
                raise CheckpointError(
                    f"{where} needs {name!r} among the {self.kind}, a part of {then}, which is not here. {mend}."
                )
            now = self.origin(name)
            if now != then:
                logger.warning("%s was made with %r of %s; here it is of %s.", where, name, then, now or "aes-dynloss")

    def _announced(self, name: str | None = None) -> list[EntryPoint]:
        """Entry points of all names, or of one."""
        found = _entry_points(f"aes_dynloss.{self.kind}", tuple(sys.path))
        return [one for one in found if name is None or one.name == name]

    def _load(self, name: str) -> None:
        """Import the distribution that announces a name, if there is one."""
        announced = self._announced(name)
        if len(announced) > 1:
            both = " and ".join(_distribution_words(one) for one in announced)
            raise ConfigError(f"{name!r} among the {self.kind} is of {both}. Uninstall one of them.")
        for one in announced:
            _imported(one.load, f"{_distribution_words(one)}, which has {name!r} among the {self.kind},")
            if name not in self._registered:
                raise ConfigError(
                    f"{_distribution_words(one)} names {name!r} among the {self.kind}, but {one.value} does not "
                    f"register it. Its author decorates it, or names it otherwise in the group {one.group}."
                )


def load_plugins() -> None:
    """Import the modules and files that AES_DYNLOSS_PLUGINS names, once.

    Raises:
        ConfigError: One cannot be imported.
    """
    for plugin in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
        if plugin not in _loaded:
            _loaded.add(plugin)  # while it is imported, it may ask for parts itself
            try:
                _imported(partial(_import_plugin, plugin), f"The plugin {plugin}")
            except ConfigError:
                _loaded.discard(plugin)
                raise


def add_plugins(plugins: Iterable[str]) -> None:
    """Import modules or .py files that register parts, in the processes too that this one starts.

    Args:
        plugins: Names of modules that Python finds, or paths of files.

    Raises:
        ConfigError: One cannot be imported.
    """
    named = [str(Path(plugin).resolve()) if plugin.endswith(".py") else plugin for plugin in plugins]
    before = filter(None, os.environ.get(PLUGINS, "").split(os.pathsep))
    os.environ[PLUGINS] = os.pathsep.join(dict.fromkeys([*before, *named]))
    load_plugins()


def recorded_origins(values: Mapping[str, Any], kind: str) -> dict[str, Origin]:
    """The parts of one kind that a file says it needs from outside.

    Args:
        values: What the file holds; the key ``parts`` has origins by kind and name, or is not there.
        kind: The kind.

    Raises:
        CheckpointError: They are damaged.

    Examples:
        >>> recorded_origins({"parts": {"losses": {"gold": {"module": "mine"}}}}, "losses")
        {'gold': Origin(module='mine', distribution=None, version=None, sha256=None)}
    """
    parts = values.get("parts", {})
    named = parts.get(kind, {}) if isinstance(parts, Mapping) else None
    if not isinstance(named, Mapping) or not all(isinstance(one, Mapping) for one in named.values()):
        raise CheckpointError("what is said of parts is damaged")
    return {str(name): validate(Origin, one, f"parts.{kind}.{name}") for name, one in named.items()}


def decorator_name(name: object, decorator: str) -> str:
    """The name that a decorator is given.

    Raises:
        ConfigError: It was given something else.
    """
    if not isinstance(name, str):
        raise ConfigError(f'{decorator} needs a name; write @{decorator}("my_name") above the definition.')
    return name


@contextmanager
def faults_named(what: str, source: Callable[..., Any], kind: type[AesDynlossError]) -> Iterator[None]:
    """Turn whatever the code of a part from outside raises into one message; who uses the part has not written it.

    Args:
        what: The part, with what went wrong.
        source: The function or class that was registered.
        kind: The error's class; its cause is the error that was raised.

    Examples:
        >>> with faults_named("The loss 'gold' failed", print, ConfigError):
        ...     1 / 0
        Traceback (most recent call last):
        aes_dynloss.errors.ConfigError: The loss 'gold' failed: ZeroDivisionError: division by zero. Mend builtins.
    """
    try:
        yield
    except Exception as error:  # its code may raise anything
        raise kind(f"{what}: {type(error).__name__}: {first_line(error)}. Mend {source.__module__}.") from error


def _import_plugin(plugin: str) -> None:
    if not plugin.endswith(".py"):
        importlib.import_module(plugin)
        return
    path = Path(plugin).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.stem.isidentifier():
        raise ImportError(f"{path.stem} is no name of a module; give the file another, such as my_parts.py")
    if path.stem in sys.modules:
        raise ImportError(f"there is a module {path.stem} already; give the file another name")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def _imported(load: Callable[[], object], what: str) -> None:
    try:
        load()
    except Exception as error:  # a plugin's code may raise anything
        message = first_line(error)
        if not isinstance(error, AesDynlossError):
            message = f"{type(error).__name__}: {message}"
        raise ConfigError(f"{what} cannot be loaded: {message}. Mend it, or do without it.") from error


@lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a group, as they are found on a path of modules."""
    del path
    return tuple(importlib.metadata.entry_points(group=group))


def _distribution_words(entry: EntryPoint) -> str:
    if entry.dist is None:
        return f"the entry point {entry.value}"
    return f"the distribution {entry.dist.name} {entry.dist.version}"


def _source_digest(module: str) -> str | None:
    """SHA-256 of a module's source; None where there is none, as of what was typed in or piped."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, TypeError, OSError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()


def _place(source: Callable[..., Any]) -> tuple[str, str]:
    return source.__module__, source.__qualname__


def _top(module: str) -> str:
    return module.partition(".")[0]
