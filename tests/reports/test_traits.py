"""Reports on essays with several scores, and the forms that their tables have."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from facts import facts

from aes_dynloss.errors import DataError
from aes_dynloss.measures import bootstrap
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.benchmark import build_benchmark_report
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.comparison_tables import benchmark_rows, beside_table, comparison_text, prompt_tables
from aes_dynloss.reports.features import read_features
from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.page import report_page, summary_sentences
from aes_dynloss.reports.predictions import read_predictions, write_predictions
from aes_dynloss.reports.prompts import build_report, report_json
from aes_dynloss.reports.read_runs import read_run
from aes_dynloss.reports.report_files import report_rows
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.reports.trait_forms import long_predictions, wide_traits
from aes_dynloss.reports.traits import by_scale, essay_count
from aes_dynloss.reports.verdict import verdict_sentence
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

SPAN = ScoreRange(1, 6)
TRAITS = ("content", "style", "overall")


def predictions(essays: int = 40, traits: tuple[str, ...] = TRAITS, prompts: str = "12", seed: int = 0) -> pd.DataFrame:
    """Scores of essays on traits; prompt 2 lacks style."""
    random = np.random.default_rng(seed)
    parts = []
    for prompt in prompts:
        quality = random.normal(3.5, 1.2, essays)
        for number, trait in enumerate(traits):
            if (prompt, trait) == ("2", "style"):
                continue
            human = SPAN.to_point(quality + random.normal(0, 0.6, essays))
            raw = quality * 0.8 + 0.7 + random.normal(0, 0.4 + 0.2 * number, essays)
            ids = [f"{prompt}-{one}" for one in range(essays)]
            own = {"essay_id": ids, "prompt_id": f"{prompt}/{trait}", "trait": trait, "reference": human, "raw": raw}
            parts.append(pd.DataFrame(own | {"score": SPAN.to_point(raw)}))
    return pd.concat(parts, ignore_index=True)


def ranges(table: pd.DataFrame) -> dict[str, ScoreRange]:
    return dict.fromkeys(table["prompt_id"].unique(), SPAN)


def report(table: pd.DataFrame, **more: object) -> Report:
    return build_report(table, ranges=ranges(table), resamples=more.pop("resamples", 40), **more)


def kappa(table: pd.DataFrame, scale: str) -> float:
    rows = table[table["prompt_id"] == scale]
    return float(quadratic_weighted_kappa(rows["reference"], rows["score"]))


def test_figures_by_trait_and_means_over_them():
    table = predictions()
    floors = {"length": {"prompts": dict.fromkeys(ranges(table), 0.1), "mean": 0.1}}
    found = report(table, floors=floors)
    assert list(found.traits) == list(TRAITS)
    assert {name: list(trait.prompts) for name, trait in found.traits.items()} == {
        "content": ["1", "2"], "style": ["1"], "overall": ["1", "2"],
    }  # fmt: skip
    for name, trait in found.traits.items():
        for prompt, entry in trait.prompts.items():
            assert entry.qwk == pytest.approx(kappa(table, f"{prompt}/{name}"))
        assert trait.floors["length"].prompts == dict.fromkeys(trait.prompts, 0.1)
        assert {flag.prompt for flag in trait.flags} == {None, *trait.prompts}
    # The trait called overall stands for the whole.
    assert (found.prompts, found.mean) == (found.traits["overall"].prompts, found.traits["overall"].mean)
    own = {scale: kappa(table, scale) for scale in ranges(table)}
    by_trait = [np.mean([own[scale] for scale in own if scale.endswith(trait)]) for trait in TRAITS]
    by_prompt = [np.mean([own[scale] for scale in own if scale.startswith(prompt)]) for prompt in "12"]
    assert found.trait_means.over_prompts_first.qwk == pytest.approx(np.mean(by_trait))
    assert found.trait_means.over_traits_first.qwk == pytest.approx(np.mean(by_prompt))
    errors = [np.sqrt(((rows["raw"] - rows["reference"]) ** 2).mean()) for _, rows in table.groupby("trait")]
    assert found.trait_means.mcrmse == pytest.approx(np.mean(errors))
    assert essay_count(found) == 80


def test_without_an_overall_trait_the_whole_is_the_mean():
    table = predictions(traits=("content", "style"))
    found = report(table)
    assert found.mean == found.trait_means.over_prompts_first
    assert found.prompts["1"].qwk == pytest.approx((kappa(table, "1/content") + kappa(table, "1/style")) / 2)
    assert found.prompts["2"].qwk == pytest.approx(kappa(table, "2/content"))
    assert found.prompts["1"].smd is None
    assert {flag.prompt for flag in found.flags} == {None, "1/content", "1/style", "2/content"}


def scored_twice(table: pd.DataFrame, least: int, **fewer: int) -> pd.DataFrame:
    """With a second human score of the first essays: of a trait ``fewer``, of the others ``least``."""
    random = np.random.default_rng(1)
    position = table["essay_id"].str.split("-").str[1].astype(int)
    again = SPAN.to_point(table["reference"] + random.normal(0, 0.6, len(table)))
    twice = position < [fewer.get(trait, least) for trait in table["trait"]]
    return table.assign(second_reference=np.where(twice, again, np.nan))


def test_humans_agreement_in_the_mean_over_traits():
    found = report(scored_twice(predictions(traits=("content", "style")), 30))
    own = {name: trait.mean.human_human for name, trait in found.traits.items()}
    for key in ("qwk", "degradation", "pearson", "pearson_degradation"):
        assert found.mean.human_human[key] == pytest.approx(np.mean([one[key] for one in own.values()]))
    over_prompts = [found.traits[trait].prompts["1"].human_human.qwk for trait in own]
    first = (np.mean(over_prompts) + found.traits["content"].prompts["2"].human_human.qwk) / 2
    assert found.trait_means.over_traits_first.human_human.qwk == pytest.approx(first)
    degradation = next(flag for flag in found.flags if (flag.criterion, flag.prompt) == ("qwk_degradation", None))
    assert degradation.value == found.mean.human_human.degradation
    none = report(predictions(traits=("content", "style")))
    assert none.mean.human_human is None


def test_means_over_traits_leave_out_those_of_few_essays_scored_twice():
    found = report(scored_twice(predictions(traits=("content", "style"), prompts="1"), 30, style=4))
    assert "and means over prompts leave it out" in " ".join(found.notes)
    content = found.traits["content"].prompts["1"]
    for mean in (found.mean, found.trait_means.over_traits_first):
        assert (mean.prmse, mean.human_human.qwk) == (content.prmse, content.human_human.qwk)
        assert mean.qwk == pytest.approx((content.qwk + found.traits["style"].prompts["1"].qwk) / 2)
    assert found.prompts["1"].prmse == content.prmse
    few = report(scored_twice(predictions(traits=("content", "style"), prompts="1"), 4))
    both = [trait.prompts["1"].human_human.qwk for trait in few.traits.values()]
    assert few.mean.human_human.qwk == pytest.approx(np.mean(both))


def test_essays_scored_twice_are_counted_once():
    table = scored_twice(predictions(traits=("content", "style")), 30, style=25)
    (sentence,) = (one for one in summary_sentences(by_scale(report(table))) if "scored twice" in one)
    assert "(60 essays scored twice)" in sentence
    assert "(30 essays scored twice)" in report_page(report(table[table["prompt_id"].str[0] == "1"]), title="Traits")


def test_a_benchmark_counts_an_essay_once(tmp_path):
    write_predictions(scored_twice(predictions(traits=("content", "style"), prompts="1"), 30), tmp_path / "a.csv")
    runs = {"a": [read_run("", "", tmp_path / "a.csv")]}
    found = build_benchmark_report(runs, "a", settings=IntervalSettings(10, 0.95, 0), protocol="one run")
    assert "on 30 essays" in str([row[2].plain for row in beside_table(found).rows])
    rows = {(one["arm"], one["prompt"]): one["n"] for one in benchmark_rows(found) if one["measure"] == "qwk"}
    assert (rows["human-human", "mean"], rows["human-human", "1/style"]) == (30, 30)
    assert (rows["a", "mean"], rows["a", "1/style"]) == (40, 40)


def test_scales_that_differ_have_no_common_error():
    table = predictions(traits=("content", "style"), prompts="1")
    spans = {"1/content": SPAN, "1/style": ScoreRange(0, 7)}
    assert build_report(table, ranges=spans, resamples=0).trait_means.mcrmse is None


def test_a_prompts_range_over_traits_holds_the_score_points_of_each():
    table = predictions(prompts="1", traits=("content", "style"))
    table.loc[table["trait"] == "style", ["reference", "raw", "score"]] -= 0.5
    spans = {"1/content": ScoreRange(1, 6), "1/style": ScoreRange(0.5, 5.5)}
    assert build_report(table, ranges=spans, resamples=0).prompts["1"].range == ScoreRange(0.5, 6, 0.5)


def test_how_traits_hang_together():
    table = predictions(traits=("content", "style"), prompts="1")
    found = report(table).trait_means.correlations
    wide = table.pivot_table(index="essay_id", columns="trait", values="reference")
    assert found.human[0][1] == pytest.approx(wide.corr().loc["content", "style"])
    assert found.human[0][0] == found.machine[1][1] == 1
    assert found.machine[0][1] == found.machine[1][0]


def test_a_report_survives_its_file(tmp_path):
    found = report(predictions())
    path = tmp_path / "report.json"
    path.write_text(report_json(found), encoding="utf-8")
    again = Report.read(path, "report", "")
    assert again == found
    assert by_scale(again) == by_scale(found)
    assert by_scale(by_scale(found, short=True)).prompts == by_scale(found).prompts
    assert json.loads(path.read_text())["worst"][0].keys() >= {"trait", "prompt_id"}


def test_one_trait_called_score_is_told_as_none_is():
    table = predictions(traits=("overall",)).assign(trait="score")
    plain = table.assign(prompt_id=table["prompt_id"].str[0]).drop(columns="trait")
    named = table.assign(prompt_id=table["prompt_id"].str[0] + "/score")
    found, other = report(named), report(plain)
    # Resamples are seeded by the scale's name.
    assert {prompt: replace(entry, **no_intervals(entry)) for prompt, entry in found.prompts.items()} == {
        prompt: replace(entry, **no_intervals(entry)) for prompt, entry in other.prompts.items()
    }


def no_intervals(entry: object) -> dict[str, None]:
    return dict.fromkeys(("qwk_interval", "pearson_interval", "qwk_rescaled_interval", "qwk_cut_points_interval"))


def test_words_and_rows_of_a_report():
    found = report(predictions())
    text = report_text(found)
    assert "1/content" in text
    assert "QWK, mean over traits: " in text
    assert "(over prompts first)" in text
    many = report_text(report(predictions(essays=12, prompts="1234567")))
    assert "1/content" not in many
    assert many.splitlines()[0].split()[:3] == ["trait", "prompts", "n"]
    single = report_text(report(predictions(prompts="1")))
    assert single.splitlines()[0].split()[0] == "trait"
    assert single.splitlines()[1].split()[0] == "content"
    rows = report_rows(found)
    assert {row["prompt"] for row in rows if row["table"] == "confusion"} == set(ranges(predictions()))
    assert any(row["measure"] == "mcrmse" for row in rows)


@pytest.mark.parametrize("prompts", ["1", "12"])
def test_a_page_names_traits(prompts):
    page = report_page(report(predictions(prompts=prompts)), title="Traits")
    assert 'id="traits"' in page
    assert "MCRMSE" in page
    assert ("80 essays" if prompts == "12" else "40 essays") in page
    assert ("1/content" in page) == (prompts == "12")
    # Rows are traits: none is called a prompt, neither in a table or picture nor in a sentence.
    assert not re.search(r"[Pp]rompts? (1/)?(content|style|overall)", page)
    assert re.search(r"traits? (1/)?(content|style|overall)", page)


def test_rows_of_several_prompts_are_pairs(tmp_path):
    table = predictions()
    write_predictions(table, tmp_path / "a.csv")
    compared = compare_arms({"a": [read_run("", "", tmp_path / "a.csv")]}, "a", resamples=10, fewest=1)
    assert comparison_text(compared).startswith("Test essays: 80, mean over 5 pairs of prompt and trait. Control: a")
    write_predictions(table[table["prompt_id"] == "2/content"], tmp_path / "b.csv")
    one = compare_arms({"b": [read_run("", "", tmp_path / "b.csv")]}, "b", resamples=10, fewest=1)
    assert comparison_text(one).startswith("Test essays: 40, one trait.")


def test_essays_that_have_different_traits_are_all_counted(tmp_path):
    table = predictions(prompts="1").query("trait != 'overall'")
    number = table["essay_id"].str.split("-").str[1].astype(int)
    write_predictions(table[(number < 25) == (table["trait"] == "content")], tmp_path / "a.csv")
    compared = compare_arms({"a": [read_run("", "", tmp_path / "a.csv")]}, "a", resamples=10, fewest=1)
    assert (compared.essays, compared.essay_count) == ({"1/content": 25, "1/style": 15}, 40)


def test_the_verdict_on_a_single_trait_names_it():
    found = report(predictions(traits=("content",), prompts="1"), floors={"length": {"mean": 0.1, "prompts": {}}})
    assert verdict_sentence(found).startswith("QWK on content is")


@pytest.mark.parametrize(
    ("traits", "where"), [(TRAITS, "on overall"), (("content", "style"), "in the mean over traits")]
)
def test_a_verdict_says_whose_it_is(traits, where):
    found = report(predictions(traits=traits), floors={"length": {"mean": 0.1, "prompts": {}}})
    assert verdict_sentence(found).startswith(f"QWK {where} is {found.mean.qwk:.3f}")
    assert f"QWK {where} is" in report_page(found, title="Traits")


def test_a_comparison_counts_essays_and_names_traits(tmp_path):
    table, arms = predictions(prompts="1"), {}
    for arm, slope in {"a": 1.0, "b": 0.5}.items():
        raw = 3.5 + slope * (table["raw"] - 3.5)
        write_predictions(table.assign(raw=raw, score=SPAN.to_point(raw)), tmp_path / f"{arm}.csv")
        arms[arm] = [read_run("", "", tmp_path / f"{arm}.csv")]
    compared = compare_arms(arms, "a", resamples=50)
    text = comparison_text(compared)
    assert text.startswith("Test essays: 40, mean over 3 traits. Control: a")
    assert "trait content, b" in text
    assert "prompt" not in text.replace("within strata and prompts", "")
    assert compared.to_dict()["traits"] == list(TRAITS)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row an essay, as `score` writes them."""
    rows = []
    for (essay, prompt), own in table.assign(prompt=table["prompt_id"].str[0]).groupby(
        ["essay_id", "prompt"], sort=False
    ):
        row = {"essay_id": essay, "prompt_id": prompt}
        for trait in TRAITS:
            score = own[own["trait"] == trait]
            row |= {trait: None, f"{trait}_raw": None}
            if len(score):
                row |= {trait: score["score"].item(), f"{trait}_raw": score["raw"].item(), f"{trait}_low": 1.0}
        rows.append(row)
    return pd.DataFrame(rows)


def test_both_forms_are_read_alike(tmp_path):
    table = predictions()
    humans = table.assign(prompt=table["prompt_id"].str[0]).pivot_table(
        index=["essay_id", "prompt"], columns="trait", values="reference"
    )
    humans = humans.reset_index().rename(columns={"prompt": "prompt_id", "style": "St"})
    humans.to_csv(tmp_path / "human.csv", index=False)
    wide(table).to_csv(tmp_path / "wide.csv", index=False)
    write_predictions(table.drop(columns="reference"), tmp_path / "long.csv")
    names = ColumnNames(traits=(("style", "St"),))
    read = [
        read_predictions(
            tmp_path / name, columns=names, references=tmp_path / "human.csv", ranges={"1": SPAN, "2": SPAN}
        )
        for name in ("wide.csv", "long.csv")
    ]
    first, second = (one.table.sort_values(["prompt_id", "essay_id"], ignore_index=True) for one in read)
    pd.testing.assert_frame_equal(first, second)
    assert set(first["prompt_id"]) == set(ranges(table))
    assert not read[0].notes
    joined = HumanScores.read(
        tmp_path / "human.csv", replace(names, traits=(("style", "St"), ("content", "content"), ("overall", "overall")))
    )
    assert len(joined.join(first.drop(columns="reference"), "x")) == len(table)


def test_predictions_come_back_from_their_file(tmp_path):
    table = predictions()
    write_predictions(table, tmp_path / "p.csv")
    assert pd.read_csv(tmp_path / "p.csv")["prompt_id"].unique().tolist() == [1, 2]
    again = read_predictions(tmp_path / "p.csv", ranges={"all": SPAN})
    assert again.table["prompt_id"].tolist() == table["prompt_id"].tolist()
    np.testing.assert_array_equal(again.table["raw"], table["raw"])


def test_a_withheld_essay_stays_withheld(tmp_path):
    rows = wide(predictions(traits=("content", "style"), prompts="1", essays=5)).drop(
        columns=["overall", "overall_raw"]
    )
    rows["withheld"] = [False, True, False, False, False]
    rows.loc[1, ["content", "content_raw", "style", "style_raw"]] = None
    assert len(long_predictions(rows)) == 10
    rows.to_csv(tmp_path / "w.csv", index=False)
    read = read_predictions(tmp_path / "w.csv", ranges={"1": SPAN})
    assert (len(read.table), len(read.withheld)) == (8, 2)
    assert any(note.startswith("1 of 5 essays") for note in read.notes)
    rows.loc[2, "style"] = None
    rows.to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(DataError, match=facts("score is blank")):
        read_predictions(tmp_path / "w.csv", ranges={"1": SPAN})


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["a", "a_raw", "b", "b_raw"], ["a", "b"]),
        (["trait", "raw", "score", "a", "a_raw"], []),
        (["score", "raw", "a", "a_raw"], []),
        (["score", "a", "a_raw"], []),
        (["a", "b_raw"], []),
    ],
)
def test_which_tables_are_wide(columns, found):
    assert wide_traits(columns) == found


def test_many_traits_stand_below_one_another(tmp_path):
    table = predictions(prompts="123456")
    write_predictions(table, tmp_path / "a.csv")
    write_predictions(table.assign(score=3), tmp_path / "b.csv")
    arms = {arm: [read_run("", "", tmp_path / f"{arm}.csv")] for arm in "ab"}
    many = prompt_tables(compare_arms(arms, "a", resamples=10))["qwk"]
    assert [column.plain for column in many.columns] == ["prompt/trait", "a", "b"]
    assert [row[0].plain for row in (*many.rows, *many.foot)] == [*sorted(table["prompt_id"].unique()), "mean"]
    few = {arm: [replace(run, test=replace(run.test, table=run.test.table.head(80)))] for arm, (run,) in arms.items()}
    assert prompt_tables(compare_arms(few, "a", resamples=10))["qwk"].columns[0].plain == "arm"


def test_references_without_ids_are_answered_with_their_own_columns(tmp_path):
    table = predictions(prompts="1")
    wide(table).drop(columns="essay_id").to_csv(tmp_path / "r.csv", index=False)
    names = ColumnNames(traits=tuple((trait, trait) for trait in TRAITS))
    with pytest.raises(DataError, match="essay_id") as caught:
        HumanScores.read(tmp_path / "r.csv", names)
    assert "content_raw" in str(caught.value)
    assert "'trait'" not in str(caught.value)


def test_a_trait_without_human_scores(tmp_path):
    table = predictions(traits=("content",), prompts="1")
    write_predictions(table.drop(columns="reference"), tmp_path / "long.csv")
    pd.DataFrame({"essay_id": table["essay_id"], "other": 1}).to_csv(tmp_path / "human.csv", index=False)
    with pytest.raises(DataError, match=facts("no column 'content'", "--reference-column content=COLUMN")):
        read_predictions(tmp_path / "long.csv", references=tmp_path / "human.csv")


def test_a_constant_trait_has_no_correlation():
    table = predictions(traits=("content", "style"), prompts="1")
    table.loc[table["trait"] == "style", "raw"] = 3.0
    assert report(table).trait_means.correlations.machine == [[1.0, None], [None, 1.0]]


def test_traits_of_the_same_essays_are_drawn_alike():
    table = predictions(traits=("content",), prompts="1")
    twin = table.assign(prompt_id="1/style", trait="style")
    found = report(pd.concat([table, twin], ignore_index=True))
    assert found.trait_means.over_prompts_first.qwk_interval == pytest.approx(found.traits["style"].mean.qwk_interval)
    fewer = report(pd.concat([table, twin[1:]], ignore_index=True))
    assert fewer.trait_means.over_prompts_first.qwk_interval is None


def test_traits_of_many_essays_are_drawn_alike_too(monkeypatch):
    """Above the limit from where means of one score are drawn from a normal distribution."""
    table = predictions(prompts="1")
    expected = report(table).trait_means
    assert "(groups of more than 10,000: its normal limit)" in report(table, resamples=0).settings.interval
    monkeypatch.setattr(bootstrap, "MOST_DRAWN_ESSAYS", 39)
    assert report(table).trait_means == expected


def test_columns_of_one_score_may_be_called_as_those_of_a_trait(tmp_path):
    rows = predictions(traits=("content",), prompts="1")
    rows = rows.assign(prompt_id="1", grade=rows["score"], grade_raw=rows["raw"]).drop(
        columns=["score", "raw", "trait"]
    )
    rows.to_csv(tmp_path / "p.csv", index=False)
    read = read_predictions(tmp_path / "p.csv", columns=ColumnNames(score="grade", raw="grade_raw"), ranges={"1": SPAN})
    assert "trait" not in read.table
    assert read.table["raw"].tolist() == rows["grade_raw"].tolist()


def test_a_trait_called_score_in_wide_columns():
    assert wide_traits(["score", "score_raw", "content", "content_raw"]) == ["score", "content"]


def test_features_of_essays_stand_under_each_trait(tmp_path):
    table = predictions()
    features = table[["essay_id"]].drop_duplicates().assign(words=lambda one: range(len(one)))
    features.to_csv(tmp_path / "f.csv", index=False)
    values = read_features(tmp_path / "f.csv", table)
    assert set(values.index) == set(zip(table["prompt_id"], table["essay_id"], strict=True))


def test_a_prompt_whose_essays_are_all_withheld_has_rows_of_all_traits(tmp_path):
    table = wide(predictions())
    scores = [name for name in table if name.startswith(TRAITS)]
    withheld = table["prompt_id"] == "1"
    table = table.assign(withheld=withheld)
    table.loc[withheld, scores] = None
    table.to_csv(tmp_path / "p.csv", index=False)
    human = table[["essay_id", "prompt_id"]].assign(content=3, style=4, overall=5)
    human.loc[~withheld, "style"] = None
    human.to_csv(tmp_path / "human.csv", index=False)
    for references in (None, tmp_path / "human.csv"):
        read = read_predictions(tmp_path / "p.csv", references=references, ranges={"1": SPAN, "2": SPAN})
        assert read.withheld["prompt_id"].value_counts().to_dict() == dict.fromkeys(
            ("1/content", "1/style", "1/overall"), 40
        )
        assert set(read.table["prompt_id"]) == {"2/content", "2/overall"}
        assert any(note.startswith("40 of 80 essays in p.csv have no score") for note in read.notes)
    assert set(by_scale(build_report(read, resamples=0)).prompts) == {"2/content", "2/overall"}
