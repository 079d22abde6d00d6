"""Local sources and data sets on the hub; the hub is played by a function here."""

from __future__ import annotations

import datasets
import pytest
from essay_files import PROMPTS, ROWS, config

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.readers import iterate_unscored, read_essays


@pytest.fixture
def hub(monkeypatch):
    rows = datasets.Dataset.from_dict({**{name: [row[name] for row in ROWS] for name in ROWS[0]}, "more": [1, 2, 3]})
    rows = rows.cast_column("prompt_id", datasets.ClassLabel(names=["2", "1"]))
    calls: list[dict[str, object]] = []

    def load(path, split=None, **options):
        calls.append({"path": path, "split": split, **options})
        if path == "owner/broken":
            raise ConnectionError("Couldn't reach the hub\n")
        if path == "owner/empty":
            return rows.select([])
        found = {"train": rows} if path == "owner/one" else {"train": rows, "test": rows.select([0])}
        return found[split] if split else datasets.DatasetDict(found)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_hub_data(hub):
    table = read_essays(config("owner/one", prompts=PROMPTS))
    assert table.essay_ids == ["007", "NA", "a b"]
    # Not the numbers of the labels, which say 1, 0, 1.
    assert table.values("prompt_id") == ["1", "2", "1"]
    assert table.scores.tolist() == [2.0, 0.5, 4.0]
    assert len(read_essays(config("owner/two", prompts=PROMPTS, hub_split="test"))) == 1
    assert hub == [{"path": "owner/one", "split": None}, {"path": "owner/two", "split": "test"}]


def test_missing_labels_are_missing(monkeypatch):
    rows = datasets.Dataset.from_dict(
        {**{name: [row[name] for row in ROWS] for name in ROWS[0]}, "prompt_id": [0, -1, None]}
    ).cast_column("prompt_id", datasets.ClassLabel(names=["1"]))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, split: rows)
    with pytest.raises(DataError, match=r"(?s)Row 2 of name .*prompt_id is empty.*Row 3 of name"):
        read_essays(config("name", prompts=PROMPTS))


def test_code_of_data_sets_is_forbidden_where_it_could_run(hub, monkeypatch):
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda path, split=None, trust_remote_code=None: load(path, split, trust=trust_remote_code),
    )
    read_essays(config("owner/one", prompts=PROMPTS))
    assert hub[-1]["trust"] is False


def test_missing_columns_name_those_that_are_there(hub):
    with pytest.raises(DataError, match=r"one has no column 'mroe'; did you mean 'more'\?"):
        read_essays(config("owner/one", columns={"score": "mroe"}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "owner/broken",
            r"no file or folder owner/broken, and no data set of that id .*: Couldn't reach the hub\. Correct the path",
        ),
        ("owner/two", r"owner/two has the splits train, test\. Name one in data\.hub_split"),
        ("owner/empty", "owner/empty holds no rows"),
    ],
)
def test_hub_data_that_cannot_be_had(hub, source, message):
    with pytest.raises(DataError, match=message):
        read_essays(config(source))


@pytest.mark.parametrize(
    "source", ["none.csv", "owner/none.parquet", "./none", "/none", "~/none-at-all", "a/b/c", "none.txt", "a b"]
)
def test_what_looks_like_a_path_is_never_looked_up(hub, source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"There is no file or folder (.*none|a)"):
        read_essays(config(source))
    assert hub == []


def test_local_folders_come_first(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "a.txt").write_text("x")
    assert list(iterate_unscored("owner")) == [("a", None, "x", {}, {})]
    with pytest.raises(ConfigError, match=r"data\.hub_split names a split of a hub data set, but owner is local"):
        read_essays(config("owner", hub_split="train"))
    assert hub == []
