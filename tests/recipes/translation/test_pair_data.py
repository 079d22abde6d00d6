"""Sentence pairs: their tokens, their tables, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_pairs import PARTS

from aes_dynloss.errors import ConfigError, DataError

LINES = ["Zwei Männer, grüne Bäume.", "Two men; a dog's tree"]


def config(modules: Any, source: Path, **values: Any) -> Any:
    return modules.pair_data.PairDataConfig(source=str(source), vocabulary=300, **{"teacher_dev": 8, **values})


def test_any_text_comes_back_and_nothing_is_drawn(modules: Any) -> None:
    own = modules.pair_data
    tokenizer, again = own.learn_tokens(LINES, 300), own.learn_tokens(LINES, 300)
    assert tokenizer.to_str() == again.to_str()
    assert [tokenizer.token_to_id(name) for name in own.SPECIAL] == [own.PAD, own.BEGIN, own.END]
    texts = [*LINES, "Ein 🙂 and Ωmega"]
    tokens = [[*line.ids, own.END, own.PAD] for line in tokenizer.encode_batch(texts)]
    assert own.text_of(tokenizer, tokens) == texts
    assert len(tokens[0]) < len(LINES[0])


def test_tables(modules: Any, source: Path) -> None:
    tokenizer, tables = modules.pair_data.read_pairs(config(modules, source), None)
    assert {name: len(table) for name, table in tables.items()} == {
        "train": PARTS["train"] - 8, "teacher_dev": 8, "dev": PARTS["val"], "test": PARTS["test_2016_flickr"]
    }  # fmt: skip
    assert len({table.target.shape[1] for table in tables.values()}) == 1
    for table in tables.values():
        assert modules.pair_data.text_of(tokenizer, table.target.tolist()) == list(table.references)
    _, others = modules.pair_data.read_pairs(config(modules, source, seed=1), tokenizer)
    assert others["teacher_dev"].references != tables["teacher_dev"].references
    assert sorted([*others["teacher_dev"].references, *others["train"].references]) == sorted(
        [*tables["teacher_dev"].references, *tables["train"].references]
    )


def test_a_batch_is_as_short_as_can_be_and_its_targets_as_wide_as_the_table(modules: Any, source: Path) -> None:
    _, tables = modules.pair_data.read_pairs(config(modules, source), None)
    train = tables["train"]
    rows = [5, 0, 7]
    batch = train.batch(rows)
    assert batch.index.tolist() == rows
    assert torch.equal(batch.targets, train.target[rows])
    for name, whole in (("source", train.source), ("target", train.target)):
        length = int((whole[rows] != 0).sum(1).max())
        assert torch.equal(batch.inputs[name], whole[rows, :length])
    assert train.lengths[rows].tolist() == [
        max(int((side[row] != 0).sum()) for side in (train.source, train.target)) for row in rows
    ]


def damage(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("val.de", None, "has neither val.de nor val.de.gz"),
        ("val.de", b"one\ntwo\n", "val.de has 2 lines and val.en 10, expected as many"),
        ("val.en", b"\xff\n", "val.en cannot be read"),
        ("val.en", b"one\n\nthree\n", "val.en, line 2 is empty"),
        ("train.de.gz", b"no gzip", "train.de.gz cannot be read"),
    ],
)
def test_damaged_files(
    tmp_path: Path, modules: Any, source: Path, file: str, content: bytes | None, message: str
) -> None:
    folder = shutil.copytree(source, tmp_path / "pairs")
    damage(folder, file, content)
    with pytest.raises(DataError, match=message):
        modules.pair_data.read_pairs(config(modules, folder), None)


def test_what_is_set_apart_leaves_some(modules: Any, source: Path) -> None:
    with pytest.raises(DataError, match=r"data\.teacher_dev is 12, and train has 12 pairs"):
        modules.pair_data.read_pairs(config(modules, source, most=12, teacher_dev=12), None)


def test_a_run_without_tokens_is_none_to_start_from(tmp_path: Path, modules: Any) -> None:
    with pytest.raises(ConfigError, match=r"start: .*tokenizer.json cannot be read"):
        modules.pair_data.load_tokens(tmp_path / "tokenizer.json")
