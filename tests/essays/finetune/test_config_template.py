"""The commented configuration: every key, its default, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from aes_dynloss.configfile import parse_yaml, validate
from aes_dynloss.essays.finetune.config import FinetuneConfig, config_template

TEXT = config_template()


def keys_of(values: dict[str, object], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield path + key
        if isinstance(value, dict) and path + key != "loss.terms":
            yield from keys_of(value, f"{path}{key}.")


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        yield path + name, field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, f"{path}{name}.")


def test_reads_back_as_the_defaults() -> None:
    values = parse_yaml(TEXT, "template")
    assert values["data"]["source"] == "essays.csv"
    found = validate(FinetuneConfig, values, "template")
    assert found == FinetuneConfig(data={"source": "essays.csv"})
    assert found.model_dump() == FinetuneConfig(data={"source": "essays.csv"}).model_dump()


def test_every_key_stands_in_it_once_and_in_order() -> None:
    assert list(keys_of(parse_yaml(TEXT, "template"))) == [name for name, _ in fields_of(FinetuneConfig)]


def test_every_value_is_explained_right_above_it() -> None:
    lines = TEXT.splitlines()
    indents: dict[int, str] = {}
    explained = {}
    for number, line in enumerate(lines):
        if not line or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        indents[depth] = line.strip().split(":")[0]
        path = ".".join(indents[level] for level in range(depth + 1))
        above = number - 1
        while lines[above].lstrip().startswith("#"):
            above -= 1
        words = [text.strip().removeprefix("#").strip() for text in lines[above + 1 : number]]
        explained[path] = " ".join(words)
    for path, description in fields_of(FinetuneConfig):
        if description is not None:
            assert explained[path].startswith(" ".join(description.split()).rstrip()), path
    sections = {name for name, description in fields_of(FinetuneConfig) if description is None}
    assert sections <= {"data", "model", "loss", "training", "evaluation", "card"}


@pytest.mark.parametrize("key", ["data.prompts", "model.lora", "loss.terms", "teacher"])
def test_examples_are_valid(key: str) -> None:
    """What a comment offers must work when it is put in."""
    *section, name = key.split(".")
    lines = [line.strip().removeprefix("# ") for line in TEXT.splitlines()]
    (example,) = [line for line in lines if line.startswith("Such as") and _belongs(lines, line, name)]
    value = parse_yaml(example.partition(": ")[2], "example")
    values = {"data": {"source": "essays.csv"}}
    (values.setdefault(section[0], {}) if section else values)[name] = value
    found = validate(FinetuneConfig, values, "example").model_dump()
    for part in key.split("."):
        found = found[part]
    assert set(value) <= set(found)


def _belongs(lines: list[str], line: str, name: str) -> bool:
    """Whether the next key below a comment is this one."""
    after = lines[lines.index(line) :]
    keys = (text.split(":")[0] for text in after)
    return next(key for key in keys if key in {"prompts", "lora", "terms", "prompt", "teacher"}) == name


def test_it_is_plain_text_of_moderate_width() -> None:
    assert TEXT.endswith("\n")
    assert TEXT.isascii()
    assert max(map(len, TEXT.splitlines())) <= 120
    assert not any(line != line.rstrip() for line in TEXT.splitlines())
