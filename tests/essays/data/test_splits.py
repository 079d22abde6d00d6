from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import pytest
from essay_files import essay_table, essays_by_split
from facts import facts
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import Fractions, SplitConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.splits import Splits, cross_fit_splits, data_hash, split_essays, split_hash
from aes_dynloss.tables.score_range import ScoreRange


def plain(count: int, prompts: int = 2, scores: int = 4) -> EssayTable:
    return essay_table(
        [(f"e{number}", f"p{number % prompts}", float(number // prompts % scores)) for number in range(count)]
    )


ESSAYS = st.lists(
    st.tuples(st.integers(0, 10_000).map(str), st.sampled_from("abc"), st.integers(0, 3).map(float)),
    min_size=12,
    max_size=80,
    unique_by=lambda essay: essay[0],
)
FRACTIONS = st.sampled_from([(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.9, 0.1, 0.0)])


class TestFractions:
    @settings(max_examples=25, deadline=None)
    @given(ESSAYS, FRACTIONS, st.integers(0, 5), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.25]))
    def test_parts_are_disjoint_whole_and_independent_of_row_order(self, essays, fractions, seed, random, teacher):
        train, dev, test = fractions
        config = SplitConfig(
            fractions=Fractions(train=train, dev=dev, test=test), seed=seed, teacher_dev_fraction=teacher
        )
        found = essays_by_split(split_essays(essay_table(essays), config))
        assert sorted(essay_id for part in found.values() for essay_id in part) == sorted(essay[0] for essay in essays)
        for name, fraction in {
            "train": train * (1 - teacher),
            "dev": dev,
            "test": test,
            "teacher_dev": train * teacher,
        }.items():
            assert abs(len(found[name]) - fraction * len(essays)) <= 2
        assert (found["test"] == []) == (test == 0)
        assert (found["teacher_dev"] == []) == (teacher == 0)
        order = {essay[0]: place for place, essay in enumerate(essays)}
        assert all(part == sorted(part, key=order.__getitem__) for part in found.values())
        shuffled = essays.copy()
        random.shuffle(shuffled)
        assume(shuffled != essays)
        again = essays_by_split(split_essays(essay_table(shuffled), config))
        assert {name: set(part) for name, part in again.items()} == {name: set(part) for name, part in found.items()}

    def test_every_score_of_every_prompt_is_split_in_proportion(self):
        essays = [
            (f"{prompt}{score}-{number}", prompt, float(score))
            for prompt in "ab"
            for score in range(4)
            for number in range(10 * (score + 2))
        ]
        splits = split_essays(essay_table(essays), SplitConfig())
        for name, fraction in (("train", 0.6), ("dev", 0.2), ("test", 0.2)):
            part = getattr(splits, name)
            counts = Counter(zip(part.values("prompt_id"), part.values("score"), strict=True))
            for prompt in "ab":
                for score in range(4):
                    assert abs(counts[prompt, score] - fraction * 10 * (score + 2)) <= 2

    def test_the_teachers_part_is_stratified_too(self):
        splits = split_essays(plain(400), SplitConfig(teacher_dev_fraction=0.25))
        counts = Counter(zip(splits.teacher_dev.values("prompt_id"), splits.teacher_dev.values("score"), strict=True))
        assert len(counts) == 8
        assert max(counts.values()) - min(counts.values()) <= 3

    def test_the_teachers_part_moves_no_other(self):
        with_teacher, without = (
            split_essays(plain(100), SplitConfig(teacher_dev_fraction=part)) for part in (0.25, 0.0)
        )
        assert with_teacher.dev.essay_ids == without.dev.essay_ids
        assert with_teacher.test.essay_ids == without.test.essay_ids
        assert {*with_teacher.train.essay_ids, *with_teacher.teacher_dev.essay_ids} == set(without.train.essay_ids)

    def test_seeds_give_different_splits_even_of_lone_scores(self):
        """Each score once, so that there is no stratum to draw from."""
        table = essay_table([(f"e{number}", "p", number / 10) for number in range(30)])
        found = [essays_by_split(split_essays(table, SplitConfig(seed=seed)))["test"] for seed in range(10)]
        assert len({tuple(part) for part in found}) > 5
        assert len({essay_id for part in found for essay_id in part}) > 20

    def test_the_split_is_the_same_for_ever(self):
        """A change here changes every published figure: say so in the release notes."""
        splits = split_essays(plain(20), SplitConfig(seed=3, teacher_dev_fraction=0.25))
        assert essays_by_split(splits) == GOLDEN

    def test_too_few_essays(self):
        with pytest.raises(
            DataError,
            match=facts("data.split.fractions", "train 1", "dev 0", "test 0", "teacher_dev 0"),
        ):
            split_essays(plain(1), SplitConfig())
        with pytest.raises(DataError, match=facts("teacher_dev_fraction", "0.1", "3", "0")):
            split_essays(plain(5), SplitConfig(teacher_dev_fraction=0.1))


GOLDEN = {
    "train": ["e4", "e5", "e6", "e7", "e8", "e10", "e11", "e16", "e17"],
    "dev": ["e1", "e2", "e12", "e13"],
    "test": ["e9", "e15", "e18", "e19"],
    "teacher_dev": ["e0", "e3", "e14"],
}


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        for name, own in {"train": "e0\ne1\r\n\ne2 \n", "dev": "\ufeffe3\n", "test": "e4\ne5"}.items():
            (tmp_path / f"{name}_ids.txt").write_bytes(own.encode())
        return tmp_path

    def split(self, folder, table: EssayTable | None = None, **more: object) -> Splits:
        return split_essays(table or plain(6), SplitConfig(folds_dir=str(folder), **more))

    def test_files_name_the_parts(self, folder):
        assert essays_by_split(self.split(folder)) == {
            "train": ["e0", "e1", "e2"],
            "dev": ["e3"],
            "test": ["e4", "e5"],
            "teacher_dev": [],
        }
        (folder / "teacher_dev_ids.txt").write_text("e6\n")
        assert essays_by_split(self.split(folder, plain(7)))["teacher_dev"] == ["e6"]

    def test_teacher_part_is_carved_from_train_alone(self, folder):
        found = essays_by_split(self.split(folder, teacher_dev_fraction=0.34))
        assert (found["dev"], found["test"], len(found["teacher_dev"])) == (["e3"], ["e4", "e5"], 1)
        (folder / "teacher_dev_ids.txt").write_text("e6\n")
        with pytest.raises(
            DataError,
            match=facts("folds_dir", "teacher_dev", "data.split.teacher_dev_fraction", "0.34"),
        ):
            self.split(folder, plain(7), teacher_dev_fraction=0.34)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("dev", "e3\ne4\n", r"essay e4 stands twice, in dev_ids\.txt and test_ids\.txt\. Splits must be disjoint"),
            ("dev", "e3\ne3\n", r"essay e3 stands twice, in dev_ids\.txt\."),
            (
                "dev",
                "e3\nf1\nf2\n",
                r"names 2 essays that the data do not hold: f1, f2\. Are they of other data, or their ids "
                r"of another column \(data\.columns\.essay_id; --id-column of `aes-dynloss data split`\)\?",
            ),
            ("dev", "\n", r"leaves dev without essays"),
            ("train", "", r"leaves train without essays"),
            (
                "test",
                "e4\n",
                r"1 essays are in no split: e5\. Assign them, or leave them out by data\.split\.allow_unassigned",
            ),
            ("dev", "\ud800", r"dev_ids\.txt cannot be read: .*It should hold one essay id a line, as UTF-8 text"),
        ],
    )
    def test_files_that_do_not_fit(self, folder, name, content, message):
        (folder / f"{name}_ids.txt").write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(DataError, match=message):
            self.split(folder, allow_unassigned=not content.startswith("e4"))

    def test_an_empty_test_file_is_an_error(self, folder):
        (folder / "test_ids.txt").write_text("")
        with pytest.raises(DataError, match=facts("folds_dir", "train 3", "dev 1", "test 0", "teacher_dev 0")):
            self.split(folder, plain(4))

    def test_missing_file(self, folder):
        (folder / "test_ids.txt").unlink()
        with pytest.raises(DataError, match=r"test_ids\.txt cannot be read: .*No such file"):
            self.split(folder)

    def test_unassigned_essays_can_be_allowed(self, folder, caplog):
        with caplog.at_level(logging.WARNING):
            splits = self.split(folder, plain(8), allow_unassigned=True)
        assert sum(len(part) for part in splits.tables().values()) == 6
        assert "2 essays are in no split: e6, e7" in caplog.text

    def test_essays_that_were_left_out_may_be_named(self, folder):
        whole = plain(6)
        cut = EssayTable(whole.select([0, 2, 3, 4]).essays, whole.prompts, frozenset({"e1", "e5"}))
        assert essays_by_split(self.split(folder, cut)) == {
            "train": ["e0", "e2"],
            "dev": ["e3"],
            "test": ["e4"],
            "teacher_dev": [],
        }
        cut = EssayTable(cut.essays, whole.prompts, frozenset({"e1"}))
        with pytest.raises(DataError, match="names 1 essays that the data do not hold: e5"):
            self.split(folder, cut)


class TestColumn:
    def test_the_column_names_the_parts(self):
        table = essay_table(
            [(f"e{number}", "p", 1.0) for number in range(4)], split=["dev", "train", "teacher_dev", "test"]
        )
        assert essays_by_split(split_essays(table, SplitConfig(column="part"))) == {
            "train": ["e1"],
            "dev": ["e0"],
            "test": ["e3"],
            "teacher_dev": ["e2"],
        }

    def test_unassigned_and_empty_parts(self):
        table = essay_table([(f"e{number}", "p", 1.0) for number in range(3)], split=["dev", "train", None])
        with pytest.raises(DataError, match="1 essays are in no split: e2"):
            split_essays(table, SplitConfig(column="part"))
        with pytest.raises(DataError, match=r"data\.split\.column 'part' leaves test without essays"):
            split_essays(table, SplitConfig(column="part", allow_unassigned=True))

    def test_tables_read_without_it(self):
        with pytest.raises(DataError, match=r"read without the column 'part'; name it in data\.split\.column"):
            split_essays(plain(4), SplitConfig(column="part"))


def test_a_teacher_on_scores_that_are_not_trusted_is_told(caplog):
    ids = [f"e{number}" for number in range(8)]
    parts = ["train"] * 2 + ["teacher_dev"] * 3 + ["dev"] * 2 + ["test"]
    trusted = [False, True, False, True, False, True, True, True]
    table = essay_table([(one, "p", 1.0) for one in ids], split=parts, trusted=trusted)
    with caplog.at_level(logging.WARNING):
        split_essays(table, SplitConfig(column="part"))
    assert [record.getMessage().split(" (")[0] for record in caplog.records if "trusted" in record.getMessage()] == [
        "2 of 3 essays of teacher_dev are not trusted"
    ]


def two_traits(parts: list[str | None], trusted: list[bool]) -> EssayTable:
    """Essays with a row for each of two traits."""
    essays = [(f"e{number}", f"p/{trait}", 1.0) for number in range(len(parts)) for trait in ("form", "style")]
    columns = {"split": parts, "trusted": trusted}
    table = essay_table(essays, **{name: [one for one in own for _ in range(2)] for name, own in columns.items()})
    return replace(table, prompts={scale: Prompt(scale, ScoreRange(0, 6), trait=scale[2:]) for scale in table.prompts})


def test_essays_of_several_traits_are_counted_once(caplog):
    table = two_traits(["train", "train", "dev", "dev", "dev", "test"], [True, False, True, False, False, True])
    with caplog.at_level(logging.WARNING):
        split_essays(table, SplitConfig(column="part"))
    assert "2 of 3 essays of dev are not trusted" in caplog.text
    with pytest.raises(DataError, match=r"teacher_dev_fraction 0\.01 of 1 training essays is none"):
        split_essays(table, SplitConfig(column="part", teacher_dev_fraction=0.01))


def test_the_part_that_is_set_apart_for_a_teacher_is_trusted():
    trusted = [number % 3 == 0 for number in range(60)]
    table = essay_table([(f"e{number}", "p", float(number % 2)) for number in range(60)], trusted=trusted)
    found = essays_by_split(split_essays(table, SplitConfig(teacher_dev_fraction=0.5)))
    sure = {f"e{number}" for number in range(0, 60, 3)}
    assert set(found["teacher_dev"]) | set(found["dev"]) | set(found["test"]) < sure
    assert set(found["train"]) > {f"e{number}" for number in range(60)} - sure
    assert len(found["teacher_dev"]) == 6


def half_trusted() -> EssayTable:
    """200 essays of 50 writers, of whose four essays two are trusted, and 20 essays that are nobody's."""
    essays = [(f"e{number}", "p", float(number % 4)) for number in range(220)]
    writers = [f"w{number % 50}" for number in range(200)] + [None] * 20
    return essay_table(essays, trusted=[number // 50 % 2 == 0 for number in range(210)] + [False] * 10, group=writers)


def groups_in_two(splits: Splits) -> set[str]:
    """Groups that stand in more than one part."""
    counts = Counter(group for part in splits.tables().values() for group in set(part.groups) if group is not None)
    return {group for group, count in counts.items() if count > 1}


def test_untrusted_essays_of_a_group_in_another_part_are_in_no_part(caplog):
    table = half_trusted()
    with caplog.at_level(logging.WARNING):
        splits = split_essays(table, SplitConfig(group="writer", teacher_dev_fraction=0.25))
    assert groups_in_two(splits) == set()
    parts = splits.tables()
    assert all(part.trusted.all() for name, part in parts.items() if name != "train")
    assert all(len(part) >= 10 for part in parts.values())
    held_out = {group for name, part in parts.items() if name != "train" for group in part.groups} - {None}
    left_out = {row for row, group in enumerate(table.groups) if group in held_out and not table.trusted[row]}
    rest = {table.essay_ids[row] for row in range(220) if row not in left_out}
    assert sorted(essay for part in parts.values() for essay in part.essay_ids) == sorted(rest)
    assert f"data.split.group writer: {len(left_out)} essays that are not trusted are in no part" in caplog.text


@pytest.mark.parametrize("with_dev", [False, True])
def test_cross_fitted_parts_share_no_group_with_what_they_are_scored_by(caplog, with_dev):
    table = half_trusted()
    with caplog.at_level(logging.WARNING):
        folds, whole = cross_fit_splits(table, SplitConfig(cross_fit=7, group="writer"), with_dev=with_dev)
    assert [groups_in_two(one) for one in (*folds, whole)] == [set()] * 8
    assert sorted(essay for fold in folds for essay in fold.test.essay_ids) == sorted(
        essay for essay, sure in zip(table.essay_ids, table.trusted, strict=True) if sure
    )
    assert with_dev or len(whole.train) == 220
    lost = [220 - sum(map(len, one.tables().values())) for one in (*folds, whole)]
    assert min(lost[:-1]) > 0
    assert f"data.split.group writer: {min(lost)} to {max(lost)} essays that are not trusted" in caplog.text


def test_without_groups_all_untrusted_essays_are_train(caplog):
    table = half_trusted()
    table = EssayTable(table.essays.remove_columns("group"), table.prompts)
    with caplog.at_level(logging.WARNING):
        splits = split_essays(table, SplitConfig())
        folds, _ = cross_fit_splits(table, SplitConfig(cross_fit=5), with_dev=False)
    for one in (splits, *folds):
        assert sum(map(len, one.tables().values())) == 220
    assert "in no part" not in caplog.text


def test_texts_in_two_parts_are_told_not_refused(caplog):
    texts = ["Same text", "same  TEXT ", "other", "\uff46ine", "fine", "other"]
    table = essay_table(
        [(f"e{number}", "p", 1.0) for number in range(6)],
        split=["train", "dev", "train", "dev", "test", "train"],
        text=texts,
    )
    with caplog.at_level(logging.WARNING):
        splits = split_essays(table, SplitConfig(column="part"))
    assert splits.leaks == ((("train", "e0"), ("dev", "e1")), (("dev", "e3"), ("test", "e4")))
    assert "2 texts stand in more than one split: e0 (train) = e1 (dev); e3 (dev) = e4 (test)" in caplog.text


class TestHashes:
    def test_they_do_not_depend_on_row_order(self):
        table = plain(20)
        turned = table.select(list(reversed(range(20))))
        assert data_hash(table) == data_hash(turned)
        assert split_hash(split_essays(table, SplitConfig())) == split_hash(split_essays(turned, SplitConfig()))

    def test_every_value_counts(self):
        essays = [(f"e{number}", f"p{number % 2}", 1.0) for number in range(6)]
        table = essay_table(essays)
        others = [
            essay_table([("x", "p0", 1.0), *essays[1:]]),
            essay_table([("e0", "p1", 1.0), *essays[1:]]),
            essay_table([("e0", "p0", 2.0), *essays[1:]]),
            essay_table(essays, text=["x", *table.values("text")[1:]]),
            essay_table(essays, second_score=[None] * 6),
            essay_table(essays, second_score=[None] * 5 + [1.0]),
            EssayTable(table.essays, {**table.prompts, "p0": Prompt("p0", ScoreRange(0, 5))}),
            table.select(range(5)),
        ]
        assert len({data_hash(other) for other in [table, *others]}) == len(others) + 1
        assert data_hash(essay_table(essays, split=["train"] * 6)) == data_hash(table)

    def test_each_split_has_its_own(self):
        first, second = (split_hash(split_essays(plain(40), SplitConfig(seed=seed))) for seed in (0, 1))
        assert list(first) == ["train", "dev", "test", "teacher_dev"]
        assert first["train"] != second["train"]
        assert first["teacher_dev"] == second["teacher_dev"]
        assert all(len(digest) == 64 for digest in first.values())
