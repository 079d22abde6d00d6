"""The bundled essays: what the README beside them promises."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.samples import BUNDLED, ESSAYS, PROMPTS, QUICKSTART

README = ESSAYS.with_name("README.md")
FILES = (ESSAYS, PROMPTS, QUICKSTART, README)


@pytest.fixture(scope="module")
def table() -> EssayTable:
    return read_essays(DataConfig(source=BUNDLED))


def test_read_by_name(table: EssayTable) -> None:
    lines = ESSAYS.read_text(encoding="utf-8").splitlines()
    assert len(table) == len(lines) >= 200
    assert table.values("text") == [json.loads(line)["text"] for line in lines]
    assert set(json.loads(lines[0])) == {"essay_id", "prompt_id", "text", "score"}


def test_two_prompts_with_different_ranges(table: EssayTable) -> None:
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values()}
    assert len(ranges) == 2
    assert len(set(ranges.values())) == 2
    assert all(prompt.text for prompt in table.prompts.values())
    counts = Counter(table.values("prompt_id"))
    assert counts.keys() == ranges.keys()
    assert min(counts.values()) >= 100
    for prompt, score in zip(table.values("prompt_id"), table.scores, strict=True):
        assert ranges[prompt].is_score_point(score)
    for prompt, score_range in ranges.items():
        seen = {score for p, score in zip(table.values("prompt_id"), table.scores, strict=True) if p == prompt}
        assert seen == set(score_range.points)  # every score point occurs


def test_ids_and_texts_stand_once(table: EssayTable) -> None:
    assert len(set(table.essay_ids)) == len(table)
    normal = [" ".join(text.lower().split()) for text in table.values("text")]
    assert len(set(normal)) == len(table)
    assert all(len(text.split()) >= 5 for text in normal)


def test_length_says_next_to_nothing(table: EssayTable) -> None:
    lengths = np.array([len(text.split()) for text in table.values("text")])
    prompts = np.array(table.values("prompt_id"))
    for prompt in table.prompts:
        mine = prompts == prompt
        assert abs(np.corrcoef(lengths[mine], table.scores[mine])[0, 1]) < 0.25


def test_readme_says_that_they_are_made_up(table: EssayTable) -> None:
    words = README.read_text(encoding="utf-8")
    assert words.startswith("# Made-up essays\n")
    assert f"holds {len(table)} made-up essays" in words
    assert "No pupil wrote them" in words
    for prompt in table.prompts.values():
        assert f"| {prompt.id} | {prompt.range} |" in words
    lengths = np.array([len(text.split()) for text in table.values("text")])
    prompts = np.array(table.values("prompt_id"))
    told = [float(number) for number in re.search(r"correlation (0\.\d+) and (0\.\d+)", words).groups()]
    seen = [np.corrcoef(lengths[prompts == p], table.scores[prompts == p])[0, 1] for p in table.prompts]
    np.testing.assert_allclose(np.abs(seen), told, atol=0.03)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_paths_of_a_machine_and_no_real_person(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(/home/|/Users/|/tmp/|/work/|[A-Z]:\\)", text)
    assert not re.search(r"\S+@\S+\.\w+|https?://|@(CAPS|PERSON|LOCATION|ORGANIZATION)\d", text)


def test_quickstart_configuration() -> None:
    config = validate(FinetuneConfig, read_mapping(QUICKSTART), QUICKSTART.name)
    assert config.data.source == BUNDLED
    assert config.data.prompts is not None
