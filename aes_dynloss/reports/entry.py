"""The kind of thing that a report is made of: a frozen dataclass that is also a mapping, to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, dataclass_transform

import pydantic

from aes_dynloss.configfile import value_words
from aes_dynloss.errors import DataError
from aes_dynloss.tables.score_range import ScoreRange

_RANGE = {one.name for one in fields(ScoreRange)}


def _as_written(values: Any, check: pydantic.ValidatorFunctionWrapHandler) -> ScoreRange:  # noqa: ANN401 - any JSON
    """A range whose numbers stay whole where the file has whole ones."""
    checked: ScoreRange = check(values)
    return checked if checked is values else replace(checked, **{name: values[name] for name in _RANGE & values.keys()})


_adapter = cache(pydantic.TypeAdapter)
Figure = float | None  # None: undefined, or unknown
Interval = list[float] | None
WrittenRange = Annotated[ScoreRange, pydantic.WrapValidator(_as_written)]


@dataclass_transform(eq_default=False, frozen_default=True, field_specifiers=(field,))
class Entry(Mapping[str, Any]):
    """A part of a report, a frozen dataclass; two are equal where report.json would hold the same."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ()  # fields that report.json has only where they are not None
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        """Make each kind of entry a dataclass."""
        dataclass(frozen=True, eq=False, kw_only=kw_only)(cls)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - of the field's type
        """A field as report.json has it."""
        if key not in set(self):
            raise KeyError(key)
        value = getattr(self, key)
        return asdict(value) if isinstance(value, ScoreRange) else value

    def __iter__(self) -> Iterator[str]:
        """Names of the fields that report.json has."""
        names = (one.name for one in fields(self))
        return (name for name in names if name not in self.LEFT_OUT or getattr(self, name) is not None)

    def __len__(self) -> int:
        """Number of these fields."""
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """The entry of report.json."""
        return {key: _plain(value) for key, value in self.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """An entry of report.json; unknown keys are left out.

        Args:
            values: What ``to_dict`` returned, or part of it that is typed already.

        Raises:
            ValueError: A key without a default is missing, or a value is of another kind.
        """
        entry: Self = _adapter(cls).validate_python(dict(values))
        return entry

    @classmethod
    def read(cls, path: str | Path, name: str, advice: str) -> Self:
        """Read an entry from a JSON file.

        Args:
            path: The file.
            name: What it should hold, in words.
            advice: What to do if it holds something else.

        Raises:
            DataError: It cannot be read, or holds something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path} cannot be read as a {name}: {error}. {advice}") from None
        required = sorted(one.name for one in fields(cls) if one.default is one.default_factory is MISSING)
        if not isinstance(values, dict) or not values.keys() >= set(required):
            raise DataError(f"{path} is no {name}: expected {', '.join(required)} in it. {advice}")
        try:
            return cls.from_dict(values)
        except pydantic.ValidationError as error:
            faults = {".".join(map(str, fault["loc"])): fault for fault in error.errors()[:5]}
            listed = "; ".join(
                f"{key}: {fault['msg']}"
                + ("" if fault["type"] == "missing" else f", found {value_words(fault['input'])}")
                for key, fault in faults.items()
            )
            raise DataError(f"{path} is no whole {name}: {listed}. {advice}") from None


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
