from __future__ import annotations

import json

import pytest
from facts import facts
from pydantic import BaseModel, ValidationError

from aes_dynloss.configfile import parse_yaml, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.data_config import Columns, DataConfig, Fractions, PromptConfig, SplitConfig
from aes_dynloss.tables.score_range import ScoreRange


def parse(yaml: str) -> DataConfig:
    return validate(DataConfig, parse_yaml(yaml, "data.yaml"), "data.yaml")


def test_defaults():
    config = parse("source: essays.csv")
    assert (config.format, config.columns, config.prompts, config.split) == ("table", Columns(), None, SplitConfig())
    assert Fractions() == Fractions(train=0.6, dev=0.2, test=0.2)


def test_prompt_ids_are_words():
    config = parse(
        "source: a.csv\nprompts: {1: {low: 1, high: 6}, b: {low: 0, high: 2, step: .5}}\nprompt: 1\n"
        "keep_prompts: [1, b, 007]"
    )
    assert list(config.prompts) == ["1", "b"]
    assert config.prompts["b"].range() == ScoreRange(0, 2, 0.5)
    assert (config.prompt, config.keep_prompts) == ("1", ["1", "b", "007"])


def test_a_saved_configuration_reads_the_same():
    config = parse("source: a.csv\nprompts: {1: {low: 1, high: 6}}\nsplit: {fractions: {train: .8, dev: .2, test: 0}}")
    assert DataConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("names", ["[score]", "[essay]", "[l1, l1]", "[raw]", "[fold]", "[words]"])
def test_columns_that_are_no_groups(names):
    with pytest.raises(ConfigError, match=r"subgroups names .*, which is no column of groups of its own"):
        parse(f"source: a.csv\ncolumns: {{essay_id: essay}}\nsplit: {{column: fold}}\nsubgroups: {names}")


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps({"1": {"low": 2, "high": 12, "prompt": "Write."}, "2": {"low": 1, "high": 6, "text": "Tell."}})
    )
    config = parse(f"source: a.csv\nprompts: {path}")
    assert config.prompts == {
        "1": PromptConfig(low=2, high=12, text="Write."),
        "2": PromptConfig(low=1, high=6, text="Tell."),
    }
    path = tmp_path / "prompts.yaml"
    path.write_text("1: {low: 2, high: 12}\n")
    assert parse(f"source: a.csv\nprompts: {path}").prompts == {"1": PromptConfig(low=2, high=12)}
    path.write_text("1: {low: 2, hihg: 12}\n2: 3\n")
    with pytest.raises(ConfigError, match=facts("prompts.1.high", "required", "hihg", "mean high", "prompts.2")):
        parse(f"source: a.csv\nprompts: {path}")


def test_models_are_frozen_and_described():
    with pytest.raises(ValidationError, match="frozen"):
        parse("source: a.csv").source = "b.csv"
    models: list[type[BaseModel]] = [Columns, PromptConfig, Fractions, SplitConfig, DataConfig]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith("."), f"{model.__name__}.{name}"


BAD = {
    "columns: {text: x, score: x}": "two of the columns have one name: essay_id, prompt_id, x, x",
    "columns: {txt: x}": "there is no such key; did you mean text",
    "prompts: {1: {low: 6, high: 1}}": "needs low < high and step > 0",
    'prompts: {1: {low: 1, high: 6}, "1": {low: 1, high: 6}}': "one prompt id stands twice, as a number and as a word",
    "prompts: none.yaml": r"there is no file none\.yaml",
    "prompt: true": "prompt: input should be a valid string, found True",
    "keep_prompts: []": "at least 1 item",
    "encoding: base64": "there is no text encoding 'base64'",
    "encoding: klingon": "there is no text encoding 'klingon'",
    "encoding: undefined": "there is no text encoding 'undefined'",
    "quoting: all": "should be 'minimal' or 'none'",
    "split: {folds_dir: a, column: b}": "name one way to split, found folds_dir and column",
    "split: {column: b, fractions: {}}": "name one way to split, found column and fractions",
    "split: {fractions: {train: .8}}": r"train, dev and test must add up to 1, found 1\.2",
    "split: {fractions: {train: .8, dev: 0}}": "greater than 0",
    "split: {teacher_dev_fraction: 1}": "less than 1",
    "format: asap\ncolumns: {text: essay}": "format: asap has columns of its own",
    "format: asap\nprompt: 1": "use keep_prompts instead of prompt",
}


@pytest.mark.parametrize("yaml", BAD)
def test_what_cannot_be_run_is_refused(yaml):
    with pytest.raises(ConfigError, match=BAD[yaml]):
        parse(f"source: a.csv\n{yaml}")


def test_an_empty_source_is_refused():
    with pytest.raises(ConfigError, match="source: string should have at least 1 character"):
        parse('source: ""')


@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "cp1252", "latin-1", "utf-16", "utf-32"])
def test_encodings(encoding):
    assert parse(f"source: a.csv\nencoding: {encoding}").encoding == encoding


def test_a_lone_dash_is_standard_input():
    """YAML reads it as a list of nothing, as in the override data.source=-."""
    assert parse_yaml("-", "here") == [None]
    assert DataConfig(source=[None]).source == "-"
    with pytest.raises(ValidationError, match="valid string"):
        DataConfig(source=["a"])
