from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, ValidationError

from aes_dynloss.configfile import (
    ConfigModel,
    apply_overrides,
    dump_yaml,
    parse_yaml,
    read_mapping,
    user_path,
    validate,
)
from aes_dynloss.errors import ConfigError


class Inner(ConfigModel):
    rate: float = 0.1
    steps: int = Field(default=3, ge=1)


class Left(ConfigModel):
    side: Literal["left"] = "left"
    reach: float = 1.0


class Right(ConfigModel):
    side: Literal["right"] = "right"
    width: float = Field(default=1.0, ge=0)


def _even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd; give an even number")
    return number


class Outer(ConfigModel):
    name: str
    inner: Inner = Inner()
    maybe: Inner | None = None
    table: dict[str, Inner] = Field(default={})
    arm: Annotated[Left | Right, Field(discriminator="side")] = Left()
    weights: dict[str, float | Literal["rest"] | Annotated[Left | Right, Field(discriminator="side")]] = Field(
        default={}
    )
    even: Annotated[int, AfterValidator(_even)] = 0
    at_once: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    groups: bool | list[str] | None = None
    names: list[int] | list[Literal["all"]] = Field(default=[])


def faults(values):
    with pytest.raises(ConfigError) as caught:
        validate(Outer, values, "f.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == f"f.yaml has {len(lines)} fault{'s' * (len(lines) > 1)}:"
    return [line.removeprefix("  ") for line in lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        ("3.", 3.0),
        (".5", 0.5),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("12345678901234567890", 12345678901234567890),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: [no]}}", {"a": {"b": ["no"]}}),
        ('{"a": 1e3}', {"a": 1000.0}),
        ("{1: a}", {1: "a"}),
    ],
)
def test_values(text, expected):
    found = parse_yaml(text, "f.yaml")
    assert found == expected
    assert type(found) is type(expected)


WORDS = "no NO on yes off y tRUE 007 00 0x1f 0b1 1_000 1:30 2020-01-31 1e . - 1.2.3 e5 .inf .nan Null!"


@pytest.mark.parametrize("word", WORDS.split())
def test_words(word):
    text = f"'{word}'" if word in {"-", "."} else word
    assert parse_yaml(text, "f.yaml") == word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", r"f.yaml, line 3: not valid YAML: the key 'a' stands twice"),
        ("x:\n  a: 1\n  a: 1", r"f.yaml, line 3: .*'a' stands twice"),
        ("1: a\n1: b", r"line 2: .* 1 stands twice"),
        ("a: &here 1\nb: *here", r"line 2: .*aliases \(\*name\) are not read here"),
        ("&a [*a]", r"line 1: .*aliases"),
        ("[1, 2", r"line 1: not valid YAML"),
        ("a: b: c", r"line 1: not valid YAML"),
        ("null: 1", r"line 1: .*a key must be a word or number, found None"),
        ("{[1]: 2}", r"a key must be a word or number, found \[1\]"),
        ("--- a\n--- b", r"line 2: not valid YAML"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("<<: {a: 1}", "could not determine a constructor"),
        ("!!bool x", "not valid YAML: 'x'"),
        ("!!timestamp x", "not valid YAML"),
        ('!!float ""', "not valid YAML: string index out of range"),
        ("!!map [a]", "not valid YAML"),
        ("!!int x", "not valid YAML: invalid literal"),
        ("\x00", "not valid YAML: unacceptable character"),
        ("9" * 5000, "not valid YAML: Exceeds the limit"),
        ("[" * 5000, "not valid YAML: .*recursion"),
    ],
)
def test_what_is_no_yaml(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, "f.yaml")


@example("!!omap [a]")
@example("!!set {a}")
@example("!!binary x")
@example("%YAML 9.9\n--- a")
@given(st.text() | st.text(alphabet="a1:-.,[]{}&*!?|>'\"%#~ \n\t"))
def test_any_text_is_a_value_or_a_config_error(text):
    with suppress(ConfigError):
        parse_yaml(text, "f.yaml")


@given(st.text(alphabet="mapboltisnuefrcydq x1{[:", max_size=12).map("!!".__add__))
@example("!!bool x")
def test_any_tag_is_a_value_or_a_config_error(text):
    with suppress(ConfigError):
        parse_yaml(text, "f.yaml")


# PyYAML itself mistakes the exotic line breaks when they stand in a key.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029\ufeff")
texts = st.text(letters, max_size=10) | st.from_regex(r"\A[-+0-9.eE_:xnoyf~=<]{1,6}\Z")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
plain = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(st.dictionaries(texts, plain, max_size=4))
@example({"a": "1e5", "b": "no", "c": "007", "d": ".5e3", "e": "0x1f"})
def test_what_is_written_is_read_back_by_us_and_by_others(values):
    text = dump_yaml(values)
    assert parse_yaml(text, "f.yaml") == values
    assert yaml.safe_load(text) == values


def test_what_stands_twice_is_written_twice():
    shared = [1, 2]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared}), "f.yaml") == {"a": [1, 2], "b": [1, 2]}


def test_files(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes("\ufeffname: Zoë\n".encode())
    assert read_mapping(path) == {"name": "Zoë"}
    path.write_text(json.dumps({"name": "a", "rate": 1e-7}), encoding="utf-8")
    assert read_mapping(path) == {"name": "a", "rate": 1e-7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a", r"f.yaml: expected a mapping of keys to values, found a list"),
        ("word", r"found 'word'"),
        ("7", r"found 7"),
        ("", r"found nothing"),
        ("x" * 90, r"found 'x+\.\.\.\."),
    ],
)
def test_files_that_hold_no_mapping(tmp_path, content, words):
    path = tmp_path / "f.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_mapping(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no file .*none.yaml. Give the path of a configuration file"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: Zoë".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml cannot be read as UTF-8 text: .*0xeb"):
        read_mapping(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read as UTF-8 text: .*[Dd]irectory"):
        read_mapping(tmp_path)


def test_overrides():
    values = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    before = copy.deepcopy(values)
    overrides = ["a.b=1e-3", "a.c=[3]", "d.e.f=no", "g=x=y", "h=", "a.i={j: 1}", "a.i.k=2"]
    assert apply_overrides(values, overrides) == {
        "a": {"b": 1e-3, "c": [3], "i": {"j": 1, "k": 2}},
        "d": {"e": {"f": "no"}},
        "g": "x=y",
        "h": None,
    }
    assert values == before


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs", r"Override 'epochs': expected key=value, such as training.epochs=3"),
        ("=3", r"expected key=value"),
        ("a..b=3", r"expected key=value"),
        ("a.=3", r"expected key=value"),
        ("a.b.c=3", r"Override 'a.b.c=3': b holds 1, so nothing in it can be set"),
        ("l.0=3", r"Override 'l.0=3': l holds a list, so nothing in it can be set"),
        ("a.b=[1", r"override 'a.b=\[1', line 1: not valid YAML"),
        ("a.b=*x", r"override 'a.b=\*x', line 1: .*aliases"),
    ],
)
def test_overrides_that_cannot_be_laid_over(override, words):
    with pytest.raises(ConfigError, match=words):
        apply_overrides({"a": {"b": 1}, "l": [1]}, [override])


def test_models_are_frozen_and_finite():
    with pytest.raises(ValidationError, match="frozen"):
        Inner().rate = 1.0
    with pytest.raises(ValidationError, match="finite"):
        Inner(rate=float("nan"))


def test_a_valid_configuration():
    config = validate(Outer, {"name": "a", "maybe": {"rate": 1}, "weights": {"x": 1, "y": "rest"}}, "f.yaml")
    assert config.maybe == Inner(rate=1.0)
    assert config.weights == {"x": 1.0, "y": "rest"}


UNKNOWN = "there is no such key;"


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"iner": {}}, f"iner: {UNKNOWN} did you mean inner?"),
        ({"inner": {"raet": 1}}, f"inner.raet: {UNKNOWN} did you mean rate?"),
        ({"maybe": {"step": 1}}, f"maybe.step: {UNKNOWN} did you mean steps?"),
        ({"table": {"x": {"stepps": 1}}}, f"table.x.stepps: {UNKNOWN} did you mean steps?"),
        ({"inner": {"zzz": 1}}, f"inner.zzz: {UNKNOWN} known here: rate, steps."),
        ({"arm": {"side": "rigt"}}, "arm.side: there is no 'rigt'; did you mean right?"),
        ({"arm": {"side": "up"}}, "arm.side: there is no 'up'; known here: left, right."),
        ({"arm": {"reach": 1}}, "arm.side: this key is required"),
        ({"weights": {"x": {"side": "left", "reech": 1}}}, f"weights.x.reech: {UNKNOWN} did you mean reach?"),
        ({"weights": {"x": {"side": "right", "reach": 1}}}, f"weights.x.reach: {UNKNOWN} known here: side, width."),
        (
            {"weights": {"x": {"side": "right", "width": -1}}},
            "weights.x.width: input should be greater than or equal to 0, found -1",
        ),
        ({"weights": {"x": {}}}, "weights.x.side: this key is required"),
        ({"name": 7}, "name: input should be a valid string, found 7"),
        ({"inner": 3}, "inner: input should be a valid dictionary or instance of Inner, found 3"),
        ({"inner": {"steps": 0}}, "inner.steps: input should be greater than or equal to 1, found 0"),
        ({"inner": {"rate": None}}, "inner.rate: input should be a valid number, found nothing"),
        ({"inner": {"rate": {}}}, "inner.rate: input should be a valid number, found a mapping"),
        ({"even": 3}, "even: 3 is odd; give an even number"),
        ({"at_once": 0}, "at_once: input should be greater than or equal to 1, or 'auto', found 0"),
        ({"groups": 3}, "groups: input should be a valid boolean, unable to interpret input, or a valid list, found 3"),
        ({"names": 3}, "names: input should be a valid list, found 3"),
        ({"groups": ["a", 3]}, "groups.1: input should be a valid string, found 3"),
    ],
)
def test_one_fault(values, fault):
    assert faults({"name": "a", **values}) == [fault]


def test_all_faults_at_once():
    values = {"nam": "a", "inner": {"rate": "x", "step": 1}, "table": {"y": {"steps": 0}}, "even": 5}
    assert sorted(faults(values)) == [
        "even: 5 is odd; give an even number",
        "inner.rate: input should be a valid number, unable to parse string as a number, found 'x'",
        "inner.step: there is no such key; did you mean steps?",
        "nam: there is no such key; did you mean name?",
        "name: this key is required",
        "table.y.steps: input should be greater than or equal to 1, found 0",
    ]


def test_a_path_of_a_user_who_is_not_there() -> None:
    assert user_path("~/essays.csv", "data.source") == Path.home() / "essays.csv"
    with pytest.raises(ConfigError, match=r"data\.source: there is no user for the home folder in ~no-such-user/x\."):
        user_path("~no-such-user/x", "data.source")
