from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planned_essays import RANGES, SCALES, write_scored, write_traits

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.programme.allocation import Assumed
from aes_dynloss.programme.plan import (
    Wanted,
    assumed_agreement,
    draw_plan,
    parse_assumed,
    parse_half_widths,
    read_scored,
)
from aes_dynloss.reports.prompts import build_report, write_report
from aes_dynloss.tables.columns import ColumnNames

ASSUMED = {prompt: Assumed(0.8, 0.85) for prompt in RANGES}
WANTED = Wanted({"qwk": 0.08})


@pytest.fixture
def scored(tmp_path):
    def read(uncertain=0.1, subgroups=(), **settings):
        return read_scored(write_scored(tmp_path, **settings)[0], ColumnNames(), RANGES, subgroups, uncertain)

    return read


def test_why_essays_are_read_for_certain(scored):
    table = scored().table
    keys = zip(table["prompt_id"], table["essay_id"], strict=True)
    because = dict(zip(keys, table["because"], strict=True))
    assert because["a", "000"] == ["withheld", "off_topic"]
    assert because["b", "001"][:2] == ["too_long", "duplicate"]
    uncertain = [key for key, words in because.items() if "uncertain" in words]
    assert len(uncertain) == 2 * round(0.1 * 149)
    assert not any("uncertain" in words for words in scored(uncertain=0).table["because"])


def test_the_widest_intervals_are_the_least_certain(tmp_path):
    path = write_scored(tmp_path)[0]
    table = pd.read_csv(path, dtype={"essay_id": str}).drop(columns="certainty")
    width = np.where(table["essay_id"].isin(["005", "017"]), 3.0, 1.0)
    table.assign(low=table["score"] - width, high=table["score"] + width).to_csv(path, index=False)
    read = read_scored(path, ColumnNames(), RANGES, [], 0.013).table
    found = read[[words == ["uncertain"] for words in read["because"]]]
    assert sorted(found["essay_id"]) == ["005", "005", "017", "017"]


def test_the_random_part_is_apart_and_weights_stand_for_all(scored):
    essays = scored()
    plan = draw_plan(essays, ASSUMED, WANTED)
    read = plan.essays.merge(essays.table[["prompt_id", "essay_id", "scored"]], on=["prompt_id", "essay_id"])
    certain, drawn = (read[read["part"] == part] for part in ("certain", "random"))
    assert certain["because"].map(bool).all()
    assert not drawn["because"].map(bool).any()
    assert (certain["weight"] == 1).all()
    assert len(certain) == essays.table["because"].map(bool).sum()
    for prompt in RANGES:
        own = read[(read["prompt_id"] == prompt) & read["scored_y"]]
        assert own["weight"].sum() == pytest.approx(149)
    assert not plan.essays.duplicated(["prompt_id", "essay_id"]).any()


def test_every_other_essay_has_the_same_chance(scored):
    essays, draws, drawn = scored(essays=60), 100, Counter()
    for seed in range(draws):
        plan = draw_plan(essays, ASSUMED, Wanted({"qwk": 0.15}, seed=seed))
        one = plan.essays[(plan.essays["part"] == "random") & (plan.essays["prompt_id"] == "a")]
        drawn.update(one["essay_id"])
    chance = float(one["inclusion_probability"].iloc[0])
    assert len(drawn) == plan.strata[0].rest
    shares = np.array(list(drawn.values())) / draws
    assert np.abs(shares - chance).max() < 4.5 * np.sqrt(chance * (1 - chance) / draws)


def test_the_seed_draws(scored):
    essays = scored()
    ids = [
        draw_plan(essays, ASSUMED, Wanted({"qwk": 0.1}, seed=seed)).essays["essay_id"].tolist() for seed in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_groups_are_strata_with_what_each_needs(scored):
    plan = draw_plan(scored(subgroups=["group"]), ASSUMED, Wanted({"qwk": 0.1}, ["group"]))
    found = {(domain.prompt, domain.group): figures for domain, figures in plan.domains()}
    assert set(found) == {(prompt, group) for prompt in RANGES for group in ("", "x", "y")}
    assert all(figures["qwk"] <= 0.1 for figures in found.values())
    x, y = (found["a", group] for group in ("x", "y"))
    assert x["random"] / (x["essays"] - x["certain"]) > y["random"] / (y["essays"] - y["certain"])


def test_what_is_assumed(tmp_path):
    essays = pd.DataFrame(
        {"essay_id": list("pqrs"), "prompt_id": "a", "reference": [1, 2, 3, 4], "raw": [1.2, 2.4, 2.6, 3]}
    )
    report = build_report(essays, ranges=RANGES, resamples=0)
    write_report(report, tmp_path / "report.json")
    for path in (tmp_path, tmp_path / "report.json"):
        assumed, ranges = assumed_agreement({"a": ["a"], "b": ["b"]}, {"b": 0.7}, path)
        assert assumed["a"].qwk == pytest.approx(report.prompts["a"].qwk)
        assert assumed["b"] == Assumed(0.7, 0.7)
        assert ranges["a"] == RANGES["a"]
    assert assumed_agreement({"a": ["a"]}, {"all": 0.6}, tmp_path)[0]["a"].qwk == 0.6
    with pytest.raises(ConfigError, match=r"The QWK to expect on prompt 'b' is needed, and no report has one\."):
        assumed_agreement({"a": ["a"], "b": ["b"]}, {"a": 0.6}, None)
    scales = {"a": ["a/form", "a/style"], "b": ["b/form"]}
    given, _ = assumed_agreement(scales, {"all": 0.6, "a": 0.7, "a/style": 0.5}, None)
    assert {scale: one.qwk for scale, one in given.items()} == {"a/form": 0.7, "a/style": 0.5, "b/form": 0.6}


def several_traits(tmp_path):
    """Scores of two traits; of prompt b the trait form alone."""
    path, _ = write_traits(tmp_path)
    return read_scored(path, ColumnNames(), RANGES, [], 0.1)


def test_several_traits_have_one_sample_of_essays(tmp_path):
    essays = several_traits(tmp_path)
    assert essays.traits == {"a": ["form", "style"], "b": ["form"]}
    assert not essays.table.duplicated(["prompt_id", "essay_id"]).any()
    assert len(essays.table) == 300
    keys = zip(essays.table["prompt_id"], essays.table["essay_id"], strict=True)
    because = dict(zip(keys, essays.table["because"], strict=True))
    assert because["a", "000"] == ["withheld", "off_topic"]
    assert because["a", "003"] == because["a", "004"] == ["uncertain"], "of either trait"
    assert "a/style" in essays.ranges
    assert "b/style" not in essays.ranges


def test_a_prompt_of_several_traits_whose_essays_are_all_withheld_is_read(tmp_path):
    path, _ = write_traits(tmp_path)
    table = pd.read_csv(path, dtype={"essay_id": str, "withheld": str})
    withheld = table["prompt_id"] == "b"
    table.loc[withheld, [name for name in table if name.startswith(("form", "style"))]] = None
    table.loc[withheld, "withheld"] = "true"
    table.to_csv(path, index=False)
    essays = read_scored(path, ColumnNames(), RANGES, [], 0.1)
    assert essays.traits == {"a": ["form", "style"], "b": ["form", "style"]}
    assert len(essays.table) == 300
    drawn = draw_plan(essays, {scale: Assumed(0.8, 0.8) for scale in (*SCALES, "b/style")}, WANTED).essays
    assert (drawn["prompt_id"] == "b").sum() == 150
    assert all("withheld" in words for words in drawn.loc[drawn["prompt_id"] == "b", "because"])


@pytest.mark.parametrize("neediest", ["form", "style"])
def test_the_trait_that_needs_most_sets_the_size(tmp_path, neediest):
    essays = several_traits(tmp_path)
    assumed = {scale: Assumed(0.7, 0.7) if scale.endswith(neediest) else Assumed(0.9, 0.9) for scale in SCALES}
    plan = draw_plan(essays, assumed, WANTED)
    alone = draw_plan(replace(essays, traits={}), {"a": Assumed(0.7, 0.7), "b": assumed["b/form"]}, WANTED)
    assert list(plan.drawn) == list(alone.drawn)
    assert plan.neediest["a"] == {"qwk": f"a/{neediest}"}
    assert plan.domains()[0][1]["qwk"] == alone.domains()[0][1]["qwk"] <= 0.08


@pytest.mark.parametrize("word", ["0.03", "kappa=0.1", "qwk=0", "qwk=1", "qwk=x", "qwk=nan"])
def test_no_half_width_is_refused(word):
    with pytest.raises(ConfigError, match="--half-width"):
        parse_half_widths([word])


def test_two_values_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"--half-width names qwk twice, 0\.05 and 0\.02\. Give it one value\."):
        parse_half_widths(["qwk=0.05", "smd=0.1", "qwk=0.02"])
    with pytest.raises(ConfigError, match="--assume-qwk names all twice"):
        parse_assumed(["0.7", "a=0.7", "0.8"])


@pytest.mark.parametrize("word", ["a=1.5", "high", "-0.2"])
def test_no_qwk_is_refused(word):
    with pytest.raises(ConfigError, match="--assume-qwk"):
        parse_assumed([word])


def test_scores_that_cannot_be_planned_for(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("essay_id,prompt_id,raw,score\n1,a,2.1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="'group'"):
        read_scored(path, ColumnNames(), {}, ["group"], 0.05)
