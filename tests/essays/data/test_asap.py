"""The ASAP set's layout on made-up rows, and the real set where it is at hand."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts import facts
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import DataConfig, PromptConfig, SplitConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.tables.score_range import ScoreRange

REPOSITORY = Path(__file__).parents[3]
ASAP = Path(os.environ.get("AES_DYNLOSS_ASAP", REPOSITORY.parent / "shared" / "data" / "asap"))
COLUMNS = ["essay_id", "essay_set", "essay", "rater1_domain1", "rater2_domain1", "rater3_domain1", "domain1_score"]
RANGES = {"1": (2, 12), "2": (1, 6), "3": (0, 3), "4": (0, 3), "5": (0, 4), "6": (0, 4), "7": (0, 30), "8": (0, 60)}

needs_asap = pytest.mark.skipif(
    not (ASAP / "asap_aes.parquet").is_file(),
    reason="the ASAP set is not here: set AES_DYNLOSS_ASAP to the folder that holds asap_aes.parquet",
)


def written_as_tsv(rows: list[dict[str, object]], path: Path) -> Path:
    """As the original file is: cp1252, tabs, quotes as they stand."""
    with path.open("w", encoding="cp1252", newline="") as stream:
        stream.write("\t".join(rows[0]) + "\r\n")
        for row in rows:
            stream.write("\t".join("" if value is None else str(value) for value in row.values()) + "\r\n")
    return path


def made_up() -> list[dict[str, object]]:
    texts = ['"open quote', "caf\xe9 \u2019s", 'closed" here', '"both"', "plain", '""', '"', "x"]
    values = zip(RANGES, texts, strict=True)
    return [
        dict(zip(COLUMNS, (place, int(prompt), text, 1, 2, None, RANGES[prompt][1]), strict=True))
        for place, (prompt, text) in enumerate(values, start=1)
    ]


def test_quotes_are_plain_characters_in_the_tsv(tmp_path):
    rows = made_up()
    table = read_essays(DataConfig(source=str(written_as_tsv(rows, tmp_path / "training_set_rel3.tsv")), format="asap"))
    assert table.essay_ids == [str(row["essay_id"]) for row in rows]
    assert table.values("text") == [row["essay"] for row in rows]
    assert table.scores.tolist() == [high for _, high in RANGES.values()]
    assert {prompt.id: prompt.range for prompt in table.prompts.values()} == {
        prompt: ScoreRange(*own) for prompt, own in RANGES.items()
    }
    assert table.rater_columns == ("rater1", "rater2")
    assert (table.values("rater1"), table.values("rater2")) == ([1.0] * 8, [2.0] * 8)


def test_parquet_and_utf_8_csv_are_read_too(tmp_path):
    rows = made_up()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "asap.parquet")
    with (tmp_path / "asap.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    for name in ("asap.parquet", "asap.csv"):
        table = read_essays(DataConfig(source=str(tmp_path / name), format="asap"))
        assert table.values("text") == [row["essay"] for row in rows]
        assert table.values("prompt_id") == list(RANGES)


def test_encoding_and_quoting_can_be_set(tmp_path):
    path = tmp_path / "asap.tsv"
    path.write_text("\t".join(COLUMNS) + '\n1\t3\t"it is ""caf\xe9"""\t1\t1\t\t1\n', encoding="utf-8")
    table = read_essays(DataConfig(source=str(path), format="asap", encoding="utf-8", quoting="minimal"))
    assert table.values("text") == ['it is "caf\xe9"']


def test_ranges_and_texts_can_be_laid_over(tmp_path):
    path = str(written_as_tsv(made_up(), tmp_path / "asap.tsv"))
    prompts = {"1": PromptConfig(low=2, high=12, text="Write."), "2": PromptConfig(low=1, high=5)}
    with pytest.raises(DataError, match=facts("Row 3", "asap.tsv", "essay 2", "domain1_score 6", "prompt 2", "1 to 5")):
        read_essays(DataConfig(source=path, format="asap", prompts=prompts))
    table = read_essays(DataConfig(source=path, format="asap", prompts=prompts, keep_prompts=["1", "3"]))
    assert [prompt.text for prompt in table.prompts.values()] == ["Write.", None]
    assert table.left_out == {"2", "4", "5", "6", "7", "8"}


def test_other_tables_are_told_so(tmp_path):
    path = tmp_path / "essays.csv"
    path.write_text("essay_id,prompt_id,text,score\n1,1,x,2\n")
    with pytest.raises(
        DataError,
        match=facts("'essay'", "'essay_id'", "format: table"),
    ):
        read_essays(DataConfig(source=str(path), format="asap"))


@pytest.fixture(scope="module")
def rows():
    return pq.read_table(ASAP / "asap_aes.parquet", columns=COLUMNS).select(COLUMNS).to_pylist()


@pytest.fixture(scope="module")
def table(rows, tmp_path_factory):
    path = written_as_tsv(rows, tmp_path_factory.mktemp("asap") / "training_set_rel3.tsv")
    return read_essays(DataConfig(source=str(path), format="asap"))


@needs_asap
class TestRealSet:
    def test_all_rows_come_back_from_the_tsv(self, rows, table):
        assert len(table) == 12_978
        assert list(Counter(table.values("prompt_id")).values()) == [1783, 1800, 1726, 1772, 1805, 1800, 1569, 723]
        assert table.essay_ids == [str(row["essay_id"]) for row in rows]
        assert table.values("text") == [row["essay"] for row in rows]
        assert table.scores.tolist() == [row["domain1_score"] for row in rows]
        # The essay whose label a reader gets wrong that takes the quotes for quotes.
        assert table.scores[table.essay_ids.index("10534")] == 1

    def test_the_parquet_says_the_same(self, table):
        other = read_essays(DataConfig(source=str(ASAP / "asap_aes.parquet"), format="asap"))
        assert other.essays.to_dict() == table.essays.to_dict()

    def test_quotes_as_quotes_are_refused(self, rows, tmp_path):
        path = written_as_tsv(rows, tmp_path / "training_set_rel3.tsv")
        with pytest.raises(DataError, match=r"a quoted value ends and text follows it.*quoting: none"):
            read_essays(DataConfig(source=str(path), format="asap", quoting="minimal"))

    def test_agreement_of_the_raters(self, table):
        prompts = np.array(table.values("prompt_id"))
        first, second = (np.array(table.values(column)).astype(int) for column in table.rater_columns)
        kappas = [
            cohen_kappa_score(
                first[prompts == prompt], second[prompts == prompt], weights="quadratic", labels=range(61)
            )
            for prompt in RANGES
        ]
        assert np.round(kappas, 3).tolist() == [0.721, 0.814, 0.769, 0.851, 0.753, 0.776, 0.721, 0.629]

    def test_published_folds(self, table):
        for fold in (0, 3):
            splits = split_essays(table, SplitConfig(folds_dir=str(ASAP / "folds" / f"fold_{fold}")))
            sizes = {name: len(part) for name, part in splits.tables().items()}
            assert sum(sizes.values()) == 12_978
            assert all(
                abs(sizes[name] / 12_978 - part) < 0.01 for name, part in (("train", 0.6), ("dev", 0.2), ("test", 0.2))
            )
            assert len(splits.leaks) <= 4

    def test_published_folds_of_one_prompt(self):
        config = DataConfig(source=str(ASAP / "asap_aes.parquet"), format="asap", keep_prompts=["3"])
        table = read_essays(config)
        splits = split_essays(table, SplitConfig(folds_dir=str(ASAP / "folds" / "fold_0"), teacher_dev_fraction=0.1))
        assert sum(len(part) for part in splits.tables().values()) == 1726
        assert set(splits.test.values("prompt_id")) == {"3"}

    @pytest.mark.parametrize("target", RANGES)
    def test_published_lists_of_unseen_prompts(self, table, target):
        path = ASAP / "cross_prompt_folds" / f"target_{target}_dev_ids.txt"
        splits = split_essays(table, SplitConfig(target_prompt=target, target_dev_ids=str(path)))
        assert set(splits.test.values("prompt_id")) == {target}
        assert len(splits.test) == table.values("prompt_id").count(target)
        others = set(RANGES) - {target}
        assert set(splits.train.values("prompt_id")) == set(splits.dev.values("prompt_id")) == others
        assert splits.dev.essay_ids == sorted(path.read_text().split(), key=int)
        assert len(splits.train) + len(splits.dev) + len(splits.test) == 12_978
        with pytest.raises(DataError, match="are none of the other prompts'"):
            split_essays(table, SplitConfig(target_prompt=min(others), target_dev_ids=str(path)))

    def test_an_unseen_prompt_beside_few_others(self):
        config = DataConfig(source=str(ASAP / "asap_aes.parquet"), format="asap", keep_prompts=["3", "4"])
        path = ASAP / "cross_prompt_folds" / "target_3_dev_ids.txt"
        splits = split_essays(read_essays(config), SplitConfig(target_prompt="3", target_dev_ids=str(path)))
        assert [len(splits.train), len(splits.dev), len(splits.test)] == [1772 - 266, 266, 1726]
        with pytest.raises(DataError, match=r"target_prompt is 5, but the data hold the prompts 3, 4\. Name one of"):
            split_essays(read_essays(config), SplitConfig(target_prompt="5"))
