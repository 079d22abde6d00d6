"""One prompt left out: its essays are test alone, and its human scores decide nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from essay_files import essay_table, essays_by_split
from facts import facts
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aes_dynloss.configfile import parse_yaml, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.data_config import DataConfig, SplitConfig
from aes_dynloss.essays.data.splits import Splits, split_essays, split_hash

Essay = tuple[str, str, float]


def plain(count: int, prompts: int = 3) -> list[Essay]:
    return [(f"e{number}", f"p{number % prompts}", float(number // prompts % 4)) for number in range(count)]


def split(essays: list[Essay], target: str = "p1", left_out: frozenset[str] = frozenset(), **more: object) -> Splits:
    return split_essays(essay_table(essays, left_out), SplitConfig(target_prompt=target, **more))


ESSAYS = st.lists(
    st.tuples(st.integers(0, 10_000).map(str), st.sampled_from("abc"), st.integers(0, 3).map(float)),
    min_size=12,
    max_size=80,
    unique_by=lambda essay: essay[0],
).map(lambda essays: [*essays, ("x", "a", 0.0), ("y", "b", 3.0), ("z", "c", 1.0)])


class TestOneOfSeveral:
    @settings(max_examples=25)
    @given(ESSAYS, st.sampled_from("abc"), st.integers(0, 5), st.sampled_from([0.0, 0.25]), st.data())
    def test_its_essays_are_test_and_its_scores_decide_nothing(self, essays, target, seed, teacher, data):
        others = [essay for essay in essays if essay[1] != target]
        assume(len(others) >= 10)
        words = {"seed": seed, "teacher_dev_fraction": teacher}
        found = essays_by_split(split(essays, target, **words))
        assert found["test"] == [essay[0] for essay in essays if essay[1] == target]
        learned = [*found["train"], *found["dev"], *found["teacher_dev"]]
        assert sorted(learned) == sorted(essay[0] for essay in others)
        assert abs(len(found["dev"]) - 0.2 * len(others)) <= 2
        assert (found["teacher_dev"] == []) == (teacher == 0)
        moved = [
            (essay_id, prompt, float(data.draw(st.integers(0, 6))) if prompt == target else score)
            for essay_id, prompt, score in essays
        ]
        assert essays_by_split(split(moved, target, **words)) == found

    def test_dev_is_a_fifth_of_every_other_prompt_and_score(self):
        dev = split(plain(1200)).dev
        counts = Counter(zip(dev.values("prompt_id"), dev.values("score"), strict=True))
        assert {prompt for prompt, _ in counts} == {"p0", "p2"}
        assert set(counts.values()) == {20}

    def test_seeds_choose_dev(self):
        first, again, other = (split(plain(90), seed=seed) for seed in (0, 0, 1))
        assert essays_by_split(first) == essays_by_split(again)
        assert first.dev.essay_ids != other.dev.essay_ids

    def test_manifest_tells_targets_apart(self):
        hashes = [split_hash(split(plain(60), target)) for target in ("p0", "p1")]
        assert hashes[0]["test"] != hashes[1]["test"]

    @pytest.mark.parametrize("target", ["p9", "P1", "1"])
    def test_one_that_is_not_there(self, target):
        with pytest.raises(
            DataError,
            match=facts("target_prompt", target, "p0, p1, p2"),
        ):
            split(plain(30), target)

    def test_the_only_one(self):
        with pytest.raises(DataError, match=facts("p0", "keep_prompts")):
            split(plain(30, prompts=1), "p0")

    def test_too_few_others(self):
        with pytest.raises(
            DataError,
            match=facts("data.split.target_prompt", "p1", "train 1", "dev 0", "test 1", "teacher_dev 0"),
        ):
            split(plain(2), "p1")


class TestFileOfDevIds:
    """Prompts p0, p1, p2 in turn, p1 left out."""

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "dev_ids.txt"

    def split(self, path, content: str, essays: list[Essay] | None = None, **more: object) -> Splits:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        return split(essays or plain(9), target_dev_ids=str(path), **more)

    def test_it_names_dev_and_the_rest_is_train(self, path):
        assert essays_by_split(self.split(path, "\ufeffe3\r\n\n e8 \n")) == {
            "train": ["e0", "e2", "e5", "e6"],
            "dev": ["e3", "e8"],
            "test": ["e1", "e4", "e7"],
            "teacher_dev": [],
        }

    def test_the_seed_and_the_order_of_its_lines_do_not_matter(self, path):
        assert essays_by_split(self.split(path, "e8\ne3", seed=5)) == essays_by_split(self.split(path, "e3\ne8\n"))

    def test_the_teachers_part_is_of_train(self, path):
        found = essays_by_split(self.split(path, "e3\ne8", teacher_dev_fraction=0.25))
        assert (found["dev"], found["test"]) == (["e3", "e8"], ["e1", "e4", "e7"])
        assert sorted([*found["train"], *found["teacher_dev"]]) == ["e0", "e2", "e5", "e6"]
        assert len(found["teacher_dev"]) == 1

    def test_essays_of_prompts_that_were_left_out_may_be_named(self, path):
        kept = [essay for essay in plain(9) if essay[1] != "p2"]
        found = essays_by_split(self.split(path, "e3\ne8", kept, left_out=frozenset({"e2", "e5", "e8"})))
        assert found == {"train": ["e0", "e6"], "dev": ["e3"], "test": ["e1", "e4", "e7"], "teacher_dev": []}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("e3\ne4\n", r"dev_ids\.txt names 1 essays that are none of the other prompts': e4\. Is it the list of"),
            ("f1\ne3\nf0", r"names 2 essays that are none of the other prompts': f1, f0\. .* or of other data\?"),
            ("e3\ne8\ne3\n", r"dev_ids\.txt names 1 essays twice: e3\. Name each once"),
            ("e4\ne4", r"names 1 essays twice: e4"),
            (
                "\n \n",
                r"target_prompt p1 with target_dev_ids .*dev_ids\.txt leaves dev without essays \(train 6, dev 0",
            ),
            ("e0\ne2\ne3\ne5\ne6\ne8", r"dev_ids\.txt leaves train without essays \(train 0, dev 6, test 3"),
            ("\ud800", r"dev_ids\.txt cannot be read: .*It should hold one essay id a line, as UTF-8 text"),
        ],
    )
    def test_one_that_does_not_fit(self, path, content, message):
        with pytest.raises(DataError, match=message):
            self.split(path, content)

    def test_one_all_of_whose_essays_were_left_out(self, path):
        kept = [essay for essay in plain(9) if essay[1] != "p2"]
        with pytest.raises(DataError, match="leaves dev without essays"):
            self.split(path, "e2\ne5", kept, left_out=frozenset({"e2", "e5", "e8"}))

    def test_one_that_is_not_there(self, path):
        with pytest.raises(DataError, match=r"dev_ids\.txt cannot be read: .*No such file"):
            split(plain(9), target_dev_ids=str(path))
        with pytest.raises(ConfigError, match=r"data\.split\.target_dev_ids: there is no user for the home folder in"):
            split(plain(9), target_dev_ids="~nobody_here/ids.txt")


def parse(yaml: str) -> DataConfig:
    return validate(DataConfig, parse_yaml(f"source: a.csv\n{yaml}", "data.yaml"), "data.yaml")


RANGES = "prompts: {1: {low: 1, high: 6}}"


class TestConfiguration:
    def test_a_number_is_a_word(self):
        assert parse(f"{RANGES}\nsplit: {{target_prompt: 1}}").split.target_prompt == "1"

    @pytest.mark.parametrize("layout", ["format: asap", RANGES])
    def test_ranges_are_known(self, layout):
        assert parse(f"{layout}\nsplit: {{target_prompt: 1, target_dev_ids: ids.txt}}").split.fractions is None

    @pytest.mark.parametrize(
        ("yaml", "message"),
        [
            (
                "split: {target_prompt: 1}",
                "target_prompt needs the score ranges in prompts; without them they are taken",
            ),
            (f"{RANGES}\nsplit: {{target_dev_ids: a}}", "target_dev_ids belongs to target_prompt; name the prompt"),
            (
                f"{RANGES}\nsplit: {{target_prompt: 1, folds_dir: a}}",
                "name one way to split, found folds_dir and target_",
            ),
            (
                f"{RANGES}\nsplit: {{target_prompt: 1, column: a}}",
                "name one way to split, found column and target_prompt",
            ),
            (f"{RANGES}\nsplit: {{target_prompt: 1, fractions: {{}}}}", "found target_prompt and fractions"),
            (f"{RANGES}\nsplit: {{target_prompt: ''}}", "target_prompt: .* at least 1"),
            (f"{RANGES}\nsplit: {{target_prompt: [1]}}", "target_prompt: input should be a valid string, found a list"),
        ],
    )
    def test_what_cannot_be_run_is_refused(self, yaml, message):
        with pytest.raises(ConfigError, match=message):
            parse(yaml)
