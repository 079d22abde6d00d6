"""Essays as tensors, against their token lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_encoder import write_tiny_encoder
from tiny_scorer import random_essays

from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import load_tokenizer
from aes_dynloss.essays.model.examples import EssayExamples, scored_examples
from aes_dynloss.tables.score_range import ScoreRange

LENGTHS = (5, 30, 0, 16)
PAD = 9


@pytest.fixture
def essays() -> EssayExamples:
    made = random_essays(LENGTHS)
    return EssayExamples(made.essays, made.groups, made.targets, PAD)


def with_states(essays: EssayExamples, width: int = 3) -> EssayExamples:
    """Token t of chunk c of essay e has the state (e, c, t)."""
    states = []
    for e, essay in enumerate(essays.essays):
        tokens = [(e, c, t) for c, chunk in enumerate(essay.chunks) for t in range(len(chunk))]
        states.append(np.array(tokens, dtype=np.float16)[:, :width])
    return replace(essays, states=states)


def test_sizes(essays: EssayExamples) -> None:
    assert len(essays) == 4
    assert essays.sequences.tolist() == [1, 3, 1, 2]
    assert essays.lengths.tolist() == [7, 12, 2, 10]
    np.testing.assert_allclose(essays.log_lengths, np.log1p(LENGTHS))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [2], [1, 1]])
def test_batch(essays: EssayExamples, rows: list[int]) -> None:
    batch = essays.batch(rows)
    assert len(batch) == len(rows)
    assert batch.index.tolist() == rows
    assert batch.groups.tolist() == essays.groups[rows].tolist() == batch.inputs["prompt"].tolist()
    np.testing.assert_array_equal(batch.targets, essays.targets[rows])
    np.testing.assert_allclose(batch.inputs["log_length"], np.log1p(np.array(LENGTHS)[rows]), rtol=1e-6)
    chunks = [(place, chunk) for place, row in enumerate(rows) for chunk in essays.essays[row].chunks]
    assert batch.inputs["owner"].tolist() == [place for place, _ in chunks]
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert ids.shape == mask.shape == (len(chunks), max(len(chunk) for _, chunk in chunks))
    for line, (_, chunk) in enumerate(chunks):
        assert ids[line, : len(chunk)].tolist() == chunk.tolist()
        assert ids[line, len(chunk) :].tolist() == [PAD] * (ids.shape[1] - len(chunk))
        assert mask[line].tolist() == [1] * len(chunk) + [0] * (ids.shape[1] - len(chunk))


def test_stored_states_lie_beside_their_tokens(essays: EssayExamples) -> None:
    rows = [3, 0, 1]
    batch = with_states(essays).batch(rows)
    hidden, mask = batch.inputs["hidden"], batch.inputs["attention_mask"]
    assert hidden.shape == (*mask.shape, 3)
    assert hidden.dtype == torch.float32
    expected = [
        [row, number, place]
        for row in rows
        for number, chunk in enumerate(essays.essays[row].chunks)
        for place in range(len(chunk))
    ]
    assert hidden[mask.bool()].tolist() == expected
    assert not hidden[mask == 0].any()


def test_pooled_vectors_go_alone(essays: EssayExamples) -> None:
    vectors = torch.arange(12.0).view(4, 3)
    pooled = EssayExamples(essays.essays, essays.groups, essays.targets, PAD, features=vectors)
    batch = pooled.batch([2, 0])
    assert set(batch.inputs) == {"prompt", "log_length", "features"}
    assert batch.inputs["features"].tolist() == vectors[[2, 0]].tolist()
    assert pooled.lengths.tolist() == pooled.sequences.tolist() == [1] * 4
    np.testing.assert_allclose(pooled.log_lengths, np.log1p(LENGTHS))


@pytest.mark.parametrize("kind", ["plain", "states", "features"])
def test_selection_batches_as_its_rows_do(essays: EssayExamples, kind: str) -> None:
    if kind == "states":
        essays = with_states(essays)
    elif kind == "features":
        vectors = torch.arange(12.0).view(4, 3)
        essays = EssayExamples(essays.essays, essays.groups, essays.targets, PAD, features=vectors)
    chosen = essays.select(np.array([3, 1, 0])).select([2, 0])  # rows 0 and 3
    found, expected = chosen.batch([1, 0]), essays.batch([3, 0])
    assert len(chosen) == 2
    assert found.index.tolist() == [1, 0]
    assert found.inputs.keys() == expected.inputs.keys()
    for name, tensor in expected.inputs.items():
        torch.testing.assert_close(found.inputs[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(found.targets, expected.targets, rtol=0, atol=0)


def test_tables_become_examples_one_after_the_other(tmp_path) -> None:
    prompts = {"b": Prompt("b", ScoreRange(2, 12)), "a": Prompt("a", ScoreRange(0, 2, 0.5))}
    rows = [("1", "a", "the bridge", 1.5), ("2", "b", "phone", 12.0), ("3", "b", "", 2.0)]
    names = ("essay_id", "prompt_id", "text", "score")
    essays = Dataset.from_dict({name: [row[i] for row in rows] for i, name in enumerate(names)})
    table = EssayTable(essays, prompts)
    tokenizer = load_tokenizer(str(write_tiny_encoder(tmp_path / "encoder")))
    chunker = Chunker(tokenizer, 8, max_tokens=8)
    examples = scored_examples(
        [table.select([2, 0]), table.select([1])], [prompts["b"], prompts["a"]], chunker, 7, ["counts"]
    )
    assert examples.groups.tolist() == [0, 1, 0]
    assert examples.targets.tolist() == [0.0, 0.75, 1.0]
    assert examples.pad_id == 7
    assert examples.linguistic[:, 0].tolist() == pytest.approx(np.log([1, 3, 2]).tolist())  # words of each essay
    assert [essay.tokens for essay in examples.essays] == [0, 2, 1]
    words = tokenizer.convert_ids_to_tokens(examples.essays[1].chunks[0].tolist())
    assert words == ["[CLS]", "the", "bridge", "[SEP]"]


def test_columns_of_targets(essays: EssayExamples) -> None:
    """Score; score and weight; score, weight (1 where the data have none) and rater."""
    weights, raters = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0, 2, 1, 0])
    rows = [3, 1]
    scores = essays.targets[rows]
    weighted, rated = replace(essays, weights=weights), replace(essays, raters=raters)
    assert essays.batch(rows).targets.tolist() == scores.tolist()
    assert weighted.batch(rows).targets.T.tolist() == [scores.tolist(), [3, 2]]
    assert rated.batch(rows).targets.T.tolist() == [scores.tolist(), [1, 1], [0, 2]]
    both = replace(weighted, raters=raters).select([2, 3, 1])
    assert both.batch([1, 2]).targets.T.tolist() == [scores.tolist(), [3, 2], [0, 2]]
    assert both.raters is not None
    assert both.raters.tolist() == [1, 0, 2]
