"""Who gave scores and which are trusted, from a file to the table; treatments of those that are not."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
from essay_files import config, csv_file, essay_table, jsonl_file
from facts import facts
from planted_raters import LIMITS, planted_table

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.data_check import check_data
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.ratings import rater_names, treated
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import data_hash
from aes_dynloss.essays.samples import PROMPTS

RANGES = {"1": {"low": 0, "high": 4}}
RATED = {"prompts": RANGES, "columns": {"rater": "who"}}


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    """Essays of one prompt, as many as the columns have values."""
    count = len(next(iter(columns.values())))
    plain = [
        {"essay_id": f"e{number}", "prompt_id": "1", "text": f"essay {number}", "score": 2} for number in range(count)
    ]
    values = zip(*columns.values(), strict=True)
    return [row | dict(zip(columns, own, strict=True)) for row, own in zip(plain, values, strict=True)]


class TestReading:
    def test_raters(self, tmp_path):
        table = read_essays(config(csv_file(tmp_path, rows(who=["Ann", " Bo ", "7"])), **RATED))
        assert (table.raters, table.trusted) == (["Ann", "Bo", "7"], None)
        table = read_essays(config(jsonl_file(tmp_path, rows(who=["Ann", 7, 8.0])), **RATED))
        assert table.raters == ["Ann", "7", "8"]
        plain = read_essays(config(csv_file(tmp_path, rows(who=["Ann"])), prompts=RANGES))
        assert (plain.raters, plain.trusted) == (None, None)

    @pytest.mark.parametrize("write", [csv_file, jsonl_file])
    def test_trusted_column(self, tmp_path, write):
        words = ["1", "0", "", "true", "FALSE", "1.0"] + ([] if write is csv_file else [True, False, None, 1, 0.0])
        table = read_essays(config(write(tmp_path, rows(gold=words)), prompts=RANGES, trusted="gold"))
        assert table.trusted is not None
        expected = [True, False, False, True, False, True, True, False, False, True, False]
        assert table.trusted.tolist() == expected[: len(words)]

    @pytest.mark.parametrize("word", ["2", "-1", "yes", "0.5"])
    def test_words_that_say_neither(self, tmp_path, word):
        source = csv_file(tmp_path, rows(gold=["1", word]))
        with pytest.raises(DataError, match=facts("Row 3", "gold", repr(word), "expected 1 or true", "Fix the row")):
            read_essays(config(source, prompts=RANGES, trusted="gold"))

    def test_file_of_ids(self, tmp_path):
        ids = tmp_path / "gold.txt"
        ids.write_text("\ufeffe2\r\n\n e0 \n", encoding="utf-8")
        source = csv_file(tmp_path, rows(who=[None, "Ann", None]))
        table = read_essays(config(source, **RATED, trusted=str(ids)))
        assert table.trusted is not None
        assert table.trusted.tolist() == [True, False, True]
        assert table.raters == [None, "Ann", None]  # who adjudicated need not be said

    def test_file_of_other_essays(self, tmp_path):
        ids = tmp_path / "gold.txt"
        ids.write_text("e0\nnobody\n", encoding="utf-8")
        source = csv_file(tmp_path, rows(who=["Ann"]))
        with pytest.raises(DataError, match=facts("data.trusted", "gold.txt", "1 essays", "nobody")):
            read_essays(config(source, prompts=RANGES, trusted=str(ids)))
        with pytest.raises(DataError, match=facts("none.txt", "cannot be read", "one essay id a line")):
            read_essays(config(source, prompts=RANGES, trusted=str(tmp_path / "none.txt")))

    def test_file_may_name_essays_that_are_left_out(self, tmp_path):
        ids = tmp_path / "gold.txt"
        ids.write_text("e0\ne1\n", encoding="utf-8")
        table = rows(prompt_id=["1", "2", "1"])
        read = read_essays(config(csv_file(tmp_path, table), prompts=RANGES, keep_prompts=["1"], trusted=str(ids)))
        assert read.trusted is not None
        assert read.trusted.tolist() == [True, False]

    def test_score_of_nobody(self, tmp_path):
        source = csv_file(tmp_path, rows(who=["Ann", "", " "], gold=["", "1", "0"]))
        with pytest.raises(DataError, match=facts("1 essays without a rater", "'who'", "e2", "data.trusted")):
            read_essays(config(source, **RATED, trusted="gold"))

    def test_rater_who_is_called_trusted(self, tmp_path):
        source = csv_file(tmp_path, rows(who=["Ann", "trusted", "trusted"], gold=["0", "1", "0"]))
        with pytest.raises(DataError, match=facts("'who'", "'trusted'", "1 essays", "e2", "data.trusted")):
            read_essays(config(source, **RATED, trusted="gold"))

    @pytest.mark.parametrize(("key", "values"), [("data.columns.rater", RATED), ("data.trusted", {"trusted": "gold"})])
    def test_missing_column(self, tmp_path, key, values):
        with pytest.raises(DataError, match=facts(key, "Name the right one")):
            read_essays(config(csv_file(tmp_path, rows(other=["1"])), **{"prompts": RANGES, **values}))

    def test_asap(self, tmp_path):
        columns = {"essay_id": "essay_id", "essay_set": "3", "essay": "words", "domain1_score": 2}
        table = [columns | {"essay_id": str(n), "rater1_domain1": 1, "rater2_domain1": 2} for n in range(3)]
        for row, who, gold in zip(table, ["Ann", "", "Bo"], [0, 1, 0], strict=True):
            row |= {"source": who, "gold": gold}
        given = {"format": "asap", "columns": {"rater": "source"}, "trusted": "gold"}
        read = read_essays(config(csv_file(tmp_path, table), **given))
        assert read.trusted is not None
        assert (read.raters, read.trusted.tolist()) == (["Ann", None, "Bo"], [False, True, False])
        assert read.rater_columns == ("rater1", "rater2")
        with pytest.raises(DataError, match=facts("data.trusted", "Name the right one")):
            read_essays(config(csv_file(tmp_path, table), format="asap", trusted="golden"))

    def test_essays_of_several_traits_are_counted_once(self, tmp_path):
        columns = {"score": ["form", "style"], "rater": "who"}
        for who, words in ((["Ann", ""], "1 essays without a rater"), (["Ann", "trusted"], "'trusted' of 1 essays")):
            source = csv_file(tmp_path, rows(who=who, form=[1, 2], style=[2, 3]))
            with pytest.raises(DataError, match=words):
                read_essays(config(source, prompts=RANGES, columns=columns))


class TestCheck:
    def test_sound(self, tmp_path):
        found = check_data(config(csv_file(tmp_path, rows(who=["Ann", "Bo"])), **RATED), check_splits=False)
        assert found.clean

    def test_nobody(self, tmp_path):
        found = check_data(config(csv_file(tmp_path, rows(who=["Ann", ""])), **RATED), check_splits=False)
        assert not found.clean
        assert "1 essays without a rater" in found.errors[0]

    def test_a_lost_row_that_the_file_names_is_told_once(self, tmp_path):
        ids = tmp_path / "gold.txt"
        ids.write_text("e0\ne1\n", encoding="utf-8")
        source = csv_file(tmp_path, rows(score=[9, 2, 3]))
        found = check_data(config(source, prompts=RANGES, trusted=str(ids)), check_splits=False)
        assert ([lost.essay_id for lost in found.lost], found.errors) == (["e0"], [])


class TestConfig:
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"untrusted": "weigh"}, ["untrusted", "trusted"]),
            ({"untrusted": "leave_out"}, ["untrusted", "trusted"]),
            ({"trusted_weight": 3}, ["trusted_weight", "trusted"]),
            ({"trusted": "score"}, ["trusted names 'score'"]),
            ({"trusted": "who", "columns": {"rater": "who"}}, ["trusted names 'who'"]),
            ({"trusted": "part", "split": {"column": "part"}}, ["trusted names 'part'"]),
            ({"trusted": "gold", "subgroups": ["gold"]}, ["subgroups", "gold"]),
            ({"columns": {"rater": "text"}}, ["two of the columns have one name"]),
            ({"trusted": "gold", "trusted_weight": 0}, ["trusted_weight"]),
            ({"untrusted": "drop"}, ["untrusted"]),
            ({"balance": "even"}, ["balance"]),
        ],
    )
    def test_refused(self, values, words):
        with pytest.raises(ConfigError, match=facts(*words)):
            config("essays.csv", **values)


class TestNames:
    def table(self, **columns: list[Any]) -> EssayTable:
        return essay_table([(f"e{n}", "1", 1.0) for n in range(4)], **columns)

    def test_trusted_is_one_rater_and_the_first(self):
        table = self.table(rater=["Zoe", "Ann", None, "Ann"], trusted=[False, False, True, True])
        names, numbers = rater_names(table, by_rater=True)
        assert (names, numbers.tolist()) == (["trusted", "Ann", "Zoe"], [2, 1, 0, 0])

    def test_raters_are_not_told_apart(self):
        table = self.table(rater=["Zoe", "Ann", None, "Ann"], trusted=[False, False, True, True])
        names, numbers = rater_names(table, by_rater=False)
        assert (names, numbers.tolist()) == (["trusted", "untrusted"], [1, 1, 0, 0])

    def test_nobody_is_trusted(self):
        for more in ({}, {"trusted": [False] * 4}):
            names, numbers = rater_names(self.table(rater=["b", "a", "b", "a"], **more), by_rater=True)
            assert (names, numbers.tolist()) == (["a", "b"], [1, 0, 1, 0])


def treatment(**values: Any) -> DataConfig:
    return config("essays.csv", trusted="gold", **values)


def mixed() -> EssayTable:
    """Two prompts; Ann is severe, Bo says one score only, and three essays a prompt are trusted."""
    essays, raters, trusted = [], [], []
    for prompt, truth in (("1", [1.0, 3.0, 5.0]), ("2", [2.0, 3.0, 4.0])):
        for rater, scores in ((None, truth), ("Ann", [0.0, 1.0, 2.0]), ("Bo", [3.0, 3.0])):
            essays += [(f"{prompt}-{rater}-{place}", prompt, score) for place, score in enumerate(scores)]
            raters += [rater] * len(scores)
            trusted += [rater is None] * len(scores)
    return essay_table(essays, rater=raters, trusted=trusted)


class TestTreatments:
    def test_keep_changes_nothing(self):
        table = mixed()
        assert treated(table, treatment()) is table

    def test_leave_out(self):
        table = treated(mixed(), treatment(untrusted="leave_out"))
        assert table.trusted is not None
        assert (len(table), bool(table.trusted.all())) == (6, True)
        with pytest.raises(DataError, match=facts("leave_out", "no training essay is trusted", "data.trusted")):
            treated(essay_table([("e", "1", 1.0)], trusted=[False]), treatment(untrusted="leave_out"))

    def test_standardise(self):
        before = mixed()
        table = treated(before, treatment(untrusted="standardise"))
        found = dict(zip(table.essay_ids, table.scores, strict=True))
        assert [found[f"1-None-{place}"] for place in range(3)] == [1, 3, 5]
        assert [found[f"1-Ann-{place}"] for place in range(3)] == pytest.approx([1, 3, 5])
        assert [found[f"2-Ann-{place}"] for place in range(3)] == pytest.approx([2, 3, 4])
        assert [found[f"1-Bo-{place}"] for place in range(2)] == pytest.approx([3, 3])
        assert table.weights is None
        assert data_hash(before) != data_hash(table)

    def test_standardised_scores_stay_in_the_range(self):
        essays = [("a", "1", 0.0), ("b", "1", 6.0), ("c", "1", 6.0)] + [
            (f"n{n}", "1", float(n == 9)) for n in range(10)
        ]
        table = essay_table(essays, trusted=[True] * 3 + [False] * 10)
        scores = treated(table, treatment(untrusted="standardise")).scores
        assert scores.max() == 6
        assert scores.min() >= 0

    @pytest.mark.parametrize("kind", ["standardise", "weigh"])
    def test_too_few_trusted(self, kind):
        essays = [(f"e{n}", str(n % 2), float(n % 4)) for n in range(12)]
        table = essay_table(essays, trusted=[n % 2 == 0 or n == 1 for n in range(12)])
        with pytest.raises(DataError, match=facts(f"data.untrusted {kind}", "prompt 1", "1 trusted", "at least 3")):
            treated(table, treatment(untrusted=kind))

    def test_trusted_weight(self):
        table = treated(mixed(), treatment(trusted_weight=4))
        assert table.weights is not None
        assert table.trusted is not None
        assert table.weights[table.trusted].tolist() == [4] * 6
        assert table.weights[~table.trusted].tolist() == [1] * 10

    def test_weights_of_the_data_are_kept(self):
        essays = [(f"e{n}", "1", float(n)) for n in range(4)]
        table = essay_table(essays, trusted=[True, False, False, True], weight=[2.0, 3.0, 1.0, 1.0])
        found = treated(table, treatment(trusted_weight=5)).weights
        assert found is not None
        assert found.tolist() == [10, 3, 1, 5]

    def test_inverse_frequency(self):
        scores = [0, 0, 0, 6]
        essays = [(f"a{n}", "1", score) for n, score in enumerate(scores)] + [("b0", "2", 0.0), ("b1", "2", 1.0)]
        table = treated(essay_table(essays), config("essays.csv", balance="inverse_frequency"))
        assert table.weights is not None
        assert table.weights == pytest.approx([2 / 3] * 3 + [2, 1, 1])

    def test_weigh_tells_bad_raters(self, tmp_path, caplog):
        path = tmp_path / "essays.csv"
        planted_table(reversed_rater="R2", lowest_rater="R3").to_csv(path, index=False)
        own = {"prompts": str(PROMPTS), "columns": {"rater": "rater"}, "trusted": "gold"}
        table = read_essays(config(path, **own))
        with caplog.at_level(logging.INFO):
            found = treated(table, config(path, **own, untrusted="weigh"))
        assert "Worth by rater: R1 " in caplog.text
        assert found.weights is not None
        assert found.trusted is not None
        _, numbers = rater_names(found, by_rater=True)
        worth = {rater: set(found.weights[numbers == rater].round(12)) for rater in range(5)}
        assert worth[0] == {1.0}
        assert worth[2] == worth[3] == {0.01}  # reversed, and the lowest score for all
        assert all(len(values) == 1 and min(values) > 0.3 for values in (worth[1], worth[4]))
        assert max(*worth[1], *worth[4]) == 1

    def test_scores_stay_inside_their_prompts(self, tmp_path):
        path = tmp_path / "essays.csv"
        planted_table(lowest_rater="R3").to_csv(path, index=False)
        own = {"prompts": str(PROMPTS), "columns": {"rater": "rater"}, "trusted": "gold", "untrusted": "standardise"}
        given = config(path, **own)
        table = treated(read_essays(given), given)
        for prompt, (low, high) in LIMITS.items():
            scores = table.scores[np.array(table.values("prompt_id")) == prompt]
            assert low <= scores.min() <= scores.max() <= high


def test_the_data_hash_knows_who_rated_and_what_is_trusted(tmp_path):
    first, second = (
        read_essays(config(csv_file(tmp_path, rows(who=who, gold=gold)), **RATED, trusted="gold"))
        for who, gold in ((["Ann", "Bo"], [1, 0]), (["Ann", "Bo"], [0, 0]))
    )
    third = read_essays(config(csv_file(tmp_path, rows(who=["Bo", "Bo"], gold=[0, 0])), **RATED, trusted="gold"))
    assert len({data_hash(table) for table in (first, second, third)}) == 3
    assert json.loads(json.dumps(first.essays[0]))["trusted"] is True
