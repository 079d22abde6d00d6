from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planned_essays import RANGES, SCALES, fill_in, read_sheet, write_scored, write_traits

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.programme import sheets
from aes_dynloss.programme.allocation import Assumed
from aes_dynloss.programme.plan import Wanted, draw_plan, read_scored
from aes_dynloss.programme.sheets import Markers, assigned, take_back, write_plan
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.formats import read_cells

NAMES = ["Ann", "Ben", "Cleo"]


@pytest.fixture
def planned(tmp_path):
    """A plan's folder, its essays, and what humans would give."""

    def make(names=NAMES, share=0.3, form="csv", known=RANGES, first_id=0):
        path, human = write_scored(tmp_path, first_id=first_id)
        scored = read_scored(path, ColumnNames(), known, [], 0.05)
        plan = draw_plan(scored, {prompt: Assumed(0.8, 0.8) for prompt in RANGES}, Wanted({"qwk": 0.1}))
        write_plan(plan, Markers(names, share, form), tmp_path / "plan", [path])
        return tmp_path / "plan", human

    return make


def essays_of(folder):
    return read_sheet(folder / "essays.csv").astype({"second_marker": object}).fillna({"second_marker": ""})


def test_loads_are_even_and_nobody_reads_twice():
    essays = pd.DataFrame({"prompt_id": np.repeat(["1", "2", "3"], [50, 31, 7])})
    given = assigned(essays, Markers(["a", "b", "c", "d"], 0.2), seed=1)
    assert (given["first_marker"] != given["second_marker"]).all()
    for own, most in ((given, 1), *((part, 2) for _, part in given.groupby("prompt_id"))):
        loads = pd.concat([own["first_marker"], own["second_marker"]]).value_counts().drop("")
        assert loads.max() - loads.min() <= most
    twice = given[given["second_marker"] != ""].groupby("prompt_id").size()
    assert twice.to_dict() == {"1": 10, "2": 6, "3": 1}
    pairs = {frozenset(pair) for pair in zip(given["first_marker"], given["second_marker"], strict=True)}
    assert len([pair for pair in pairs if "" not in pair]) > 3, "not always the same two"


def test_sheets_tell_nothing_of_the_machine(planned):
    folder, _ = planned()
    essays = essays_of(folder)
    for name in NAMES:
        sheet = read_sheet(folder / f"sheets/{name}.csv")
        assert list(sheet) == ["essay_id", "prompt_id", "text", "human_score"]
        assert sheet["human_score"].isna().all()
        given = essays[(essays["first_marker"] == name) | (essays["second_marker"] == name)]
        assert set(zip(sheet["prompt_id"], sheet["essay_id"], strict=True)) == set(
            zip(given["prompt_id"], given["essay_id"], strict=True)
        )
        own = sheet[sheet["prompt_id"] == "a"].merge(essays, on=["prompt_id", "essay_id"])
        assert own["essay_id"].tolist() != sorted(own["essay_id"])
        # Neither do certain essays, nor those that are read twice, stand together.
        assert (own["part"] == "certain").ne((own["part"] == "certain").shift()).sum() > 3
    assert sheet["text"][0] == f"Essay {sheet['prompt_id'][0]} {int(sheet['essay_id'][0])}."


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_essays_with_carriage_returns_reach_their_markers_whole(planned, monkeypatch, form):
    text = "First line.\rSecond line."
    assigned_to = sheets.assigned
    monkeypatch.setattr(sheets, "assigned", lambda essays, *more: assigned_to(essays.assign(text=text), *more))
    folder, _ = planned(form=form)
    for name in NAMES:
        assert set(read_cells(folder / f"sheets/{name}.{form}")["text"]) == {text}


def test_all_sheets_are_taken_back(planned):
    folder, human = planned()
    fill_in(folder, human)
    taken = take_back(folder, "mean")
    marked, essays = read_sheet(taken.marked), essays_of(folder)
    assert (taken.unread, list(taken.third)) == (0, [])
    assert len(marked) == len(essays)
    keys = list(zip(marked["prompt_id"], marked["essay_id"], strict=True))
    assert marked["reference"].tolist() == [human[key] for key in keys]
    assert marked["human_score"].tolist() == marked["reference"].tolist()
    assert marked["second_reference"].notna().sum() == (essays["second_marker"] != "").sum()
    merged = marked.merge(essays, on=["prompt_id", "essay_id"])
    np.testing.assert_allclose(merged["design_weight"], merged["weight"])
    assert taken.decisions.table["human_score"].notna().all()
    assert taken.ranges == RANGES


def twice_read(folder):
    essays = essays_of(folder)
    both = essays[(essays["second_marker"] != "") & (essays["prompt_id"] == "a")]
    return both.iloc[0]


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]])
def test_a_third_reading_goes_to_somebody_else_and_decides(planned, names):
    folder, human = planned(names)
    one = twice_read(folder)
    key = ("a", one["essay_id"])
    fill_in(folder, human, {(one["first_marker"], *key): 2, (one["second_marker"], *key): 5})
    first = take_back(folder, "third")
    other = (set(names) - {one["first_marker"], one["second_marker"]} or {""}).pop()
    assert [path.name for path in first.third] == [f"third_1{other and '_'}{other}.csv"]
    sheet = read_sheet(first.third[0])
    assert sheet[["prompt_id", "essay_id"]].to_numpy().tolist() == [list(key)]
    assert sheet["text"][0] == f"Essay a {int(key[1])}."
    assert first.decisions.table["human_score"].isna().sum() == 1
    assert read_sheet(first.marked).set_index(["prompt_id", "essay_id"]).loc[key, "reference"] == 2
    again = take_back(folder, "third")
    assert (again.waiting, list(again.third)) == (1, []), "the sheet is there already"
    sheet.assign(human_score=3).to_csv(first.third[0], index=False)
    assert take_back(folder, "third").decisions.decided[key] == 3
    assert take_back(folder, "mean").decisions.decided[key] == 3
    marked = read_sheet(take_back(folder, "higher").marked).set_index(["prompt_id", "essay_id"]).loc[key]
    assert marked[["reference", "second_reference", "third_reading"]].tolist() == [2, 5, 3]
    assert marked["human_score"] == 3


def test_essays_that_are_not_read_are_stood_for(planned):
    folder, human = planned(share=0.0)
    random = essays_of(folder).query("part == 'random' and prompt_id == 'a'")
    left = random.iloc[:5]
    fill_in(folder, human, {(row.first_marker, "a", row.essay_id): np.nan for row in left.itertuples()})
    taken = take_back(folder, "mean")
    marked = read_sheet(taken.marked).query("part == 'random' and prompt_id == 'a'")
    assert taken.unread == 5
    assert len(marked) == len(random) - 5
    assert marked["design_weight"].sum() == pytest.approx(random["weight"].sum())


def test_certain_essays_that_are_not_read_are_stood_for_by_those_of_their_prompt(planned):
    folder, human = planned(share=0.0)
    certain = essays_of(folder).query("part == 'certain' and not because.str.contains('withheld')")
    left = certain[certain["prompt_id"] == "a"].iloc[:2]
    fill_in(folder, human, {(row.first_marker, "a", row.essay_id): np.nan for row in left.itertuples()})
    marked = read_sheet(take_back(folder, "mean").marked).merge(certain[["prompt_id", "essay_id"]])
    weights = {prompt: own["design_weight"].to_numpy() for prompt, own in marked.groupby("prompt_id")}
    number = certain["prompt_id"].value_counts()
    assert weights["a"] == pytest.approx(np.full(number["a"] - 2, number["a"] / (number["a"] - 2)))
    assert weights["b"] == pytest.approx(np.ones(number["b"]))


def test_a_second_reading_alone_is_the_first(planned):
    folder, human = planned()
    one = twice_read(folder)
    fill_in(folder, human, {(one["first_marker"], "a", one["essay_id"]): np.nan})
    marked = read_sheet(take_back(folder, "mean").marked).set_index(["prompt_id", "essay_id"])
    assert marked.loc[("a", one["essay_id"]), "reference"] == human["a", one["essay_id"]]
    assert np.isnan(marked.loc[("a", one["essay_id"]), "second_reference"])


def test_a_stratum_without_a_reading_is_refused(planned):
    folder, human = planned(share=0.0)
    essays = essays_of(folder).query("part == 'random' and prompt_id == 'b'")
    fill_in(folder, human, {(row.first_marker, "b", row.essay_id): np.nan for row in essays.itertuples()})
    with pytest.raises(DataError, match=r"None of the random essays of prompt b, stratum 1, is read yet"):
        take_back(folder, "mean")


@pytest.fixture
def planned_traits(tmp_path):
    """A plan's folder of essays with several traits, and what humans would give."""
    path, human = write_traits(tmp_path)
    scored = read_scored(path, ColumnNames(), RANGES, [], 0.05)
    plan = draw_plan(scored, {scale: Assumed(0.8, 0.8) for scale in SCALES}, Wanted({"qwk": 0.1}))
    write_plan(plan, Markers(NAMES, 0.3), tmp_path / "plan", [path])
    return tmp_path / "plan", human


def test_sheets_of_several_traits_are_taken_back_by_trait(planned_traits):
    folder, human = planned_traits
    sheet = read_sheet(folder / "sheets/Ben.csv")
    assert list(sheet) == ["essay_id", "prompt_id", "text", "form", "style"]
    fill_in(folder, human)
    taken = take_back(folder, "mean")
    marked, essays = read_sheet(taken.marked), essays_of(folder)
    assert (taken.unread, taken.waiting, list(taken.third)) == (0, 0, [])
    sizes = essays["prompt_id"].value_counts()
    assert marked.groupby(["prompt_id", "trait"]).size().to_dict() == {
        ("a", "form"): sizes["a"],
        ("a", "style"): sizes["a"],
        ("b", "form"): sizes["b"],
    }
    keys = zip(marked["prompt_id"] + "/" + marked["trait"], marked["essay_id"], strict=True)
    assert marked["reference"].tolist() == [human[key] for key in keys]
    both = marked[marked["second_reference"].notna()]
    assert both.groupby(["prompt_id", "essay_id"]).size().loc["a"].eq(2).all(), "both readers score all traits"
    merged = marked.merge(essays, on=["prompt_id", "essay_id"])
    np.testing.assert_allclose(merged["design_weight"], merged["weight"])


def test_a_trait_that_two_readers_disagree_on_has_a_third_reading(planned_traits):
    folder, human = planned_traits
    one = twice_read(folder)
    style, form = ("a/style", one["essay_id"]), ("a/form", one["essay_id"])
    fill_in(folder, human, {(one["first_marker"], *style): 1, (one["second_marker"], *style): 5})
    taken = take_back(folder, "third")
    (path,) = taken.third
    sheet = read_sheet(path)
    assert list(sheet) == ["essay_id", "prompt_id", "text", "form", "style"], "it does not tell which trait"
    assert len(sheet) == taken.waiting == 1
    assert np.isnan(taken.decisions.table.set_index(["prompt_id", "essay_id"]).loc[style, "human_score"])
    sheet.assign(form=1, style=4).to_csv(path, index=False)
    decided = take_back(folder, "third").decisions.decided
    assert decided[style] == 4
    assert decided[form] == human[form], "where two agree the third counts for nothing"


def test_a_score_of_a_trait_that_a_prompt_has_not_is_refused(planned_traits):
    folder, human = planned_traits
    fill_in(folder, human)
    change(folder, "Ann", lambda sheet: sheet.assign(style=3))
    with pytest.raises(DataError, match=r"Ann\.csv has essay '\d+' of prompt 'b/style', other than essays\.csv says"):
        take_back(folder, "mean")


def test_sheets_in_which_nothing_is_filled_in_are_refused(planned):
    folder, _ = planned(known={})
    with pytest.raises(DataError, match="is read yet"):
        take_back(folder, "mean")


def change(folder, name, edit):
    path = folder / f"sheets/{name}.csv"
    edit(read_sheet(path)).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda sheet: sheet.iloc[1:], r"Ann\.csv lacks essay '\d+' of prompt '.', other than essays\.csv says\."),
        (
            lambda sheet: sheet.assign(essay_id=["999", *sheet["essay_id"][1:]]),
            r"Ann\.csv has essay '999' of prompt '.', other",
        ),
        (lambda sheet: sheet.assign(human_score=7), r"Row 2 of Ann\.csv.*human_score 7 is no score point of prompt"),
        (lambda sheet: sheet.assign(human_score="good"), r"of Ann\.csv \(essay '\d+'\)"),
        (lambda sheet: sheet.drop(columns="human_score"), r"Ann\.csv has no column 'human_score'"),
    ],
)
def test_sheets_that_were_changed_are_refused(planned, edit, words):
    folder, human = planned()
    fill_in(folder, human)
    change(folder, "Ann", edit)
    with pytest.raises(DataError, match=words):
        take_back(folder, "mean")


def test_a_missing_sheet_and_two_of_one_name_are_refused(planned):
    folder, human = planned()
    fill_in(folder, human)
    sheet = folder / "sheets/Ben.csv"
    sheet.with_suffix(".jsonl").write_bytes(b'{"essay_id": "1"}\n')
    with pytest.raises(DataError, match=r"has Ben\.csv and Ben\.jsonl"):
        take_back(folder, "mean")
    sheet.with_suffix(".jsonl").unlink()
    sheet.unlink()
    with pytest.raises(DataError, match=r"lacks the sheet sheets/Ben\.csv"):
        take_back(folder, "mean")
    with pytest.raises(DataError, match=r"is no folder of `aes-dynloss plan`"):
        take_back(folder / "sheets", "mean")


def save_as_numbers(path):
    """As a spreadsheet saves it: ids are numbers."""
    sheet = read_sheet(path)
    sheet.assign(essay_id=sheet["essay_id"].astype(int)).to_excel(path.with_suffix(".xlsx"), index=False)
    path.unlink()


def test_a_third_reading_of_sheets_that_a_spreadsheet_saved(planned):
    folder, human = planned(first_id=1000)
    one = twice_read(folder)
    key = ("a", one["essay_id"])
    fill_in(folder, human, {(one["first_marker"], *key): 2, (one["second_marker"], *key): 5})
    for name in NAMES:
        save_as_numbers(folder / f"sheets/{name}.csv")
    (path,) = take_back(folder, "mean").third
    assert read_sheet(path)[["prompt_id", "essay_id", "text"]].to_numpy().tolist() == [[*key, f"Essay a {key[1]}."]]


def test_third_readings_never_replace_a_sheet(planned):
    folder, human = planned(NAMES[:2], share=1.0)
    keys = essays_of(folder).query("prompt_id == 'a'")[["prompt_id", "essay_id"]].to_numpy().tolist()[:2]
    apart = {}
    for key in keys:
        apart |= {("Ann", *key): 1, ("Ben", *key): 6}
        fill_in(folder, human, apart)
        take_back(folder, "mean")
    first, second = (folder / f"sheets/third_{number}.csv" for number in (1, 2))
    filled = second.read_bytes()
    first.unlink()  # somebody took it away
    assert list(take_back(folder, "mean").third) == [first]
    assert second.read_bytes() == filled


@pytest.mark.parametrize("name", ["plan.json", "essays.csv"])
def test_what_weights_rest_on_must_be_as_it_was_planned(planned, name):
    folder, human = planned()
    fill_in(folder, human)
    path = folder / name
    path.write_text(path.read_text().replace('"essays": 149', '"essays": 1490').replace("random", "certain"))
    with pytest.raises(DataError, match=rf"{name} was changed after it was made"):
        take_back(folder, "mean")


def test_a_sheet_under_another_name_is_not_passed_over(planned):
    folder, human = planned()
    fill_in(folder, human)
    (folder / "sheets/Ann (1).csv").write_bytes((folder / "sheets/Ann.csv").read_bytes())
    with pytest.raises(DataError, match=r"sheets/Ann \(1\)\.csv is no sheet of .*: expected Ann, Ben, Cleo or third_1"):
        take_back(folder, "mean")


def test_a_copy_of_a_sheet_is_no_second_reading(planned):
    folder, human = planned(NAMES[:2], share=1.0)
    fill_in(folder, human)
    assert take_back(folder, "mean").unread == 0, "two readers who agree"
    (folder / "sheets/Ben.csv").write_bytes((folder / "sheets/Ann.csv").read_bytes())
    with pytest.raises(DataError, match=r"Ann\.csv and Ben\.csv have the same scores of the same essays: a copy is no"):
        take_back(folder, "mean")


def test_a_copy_of_a_third_reading_is_refused(planned):
    folder, human = planned()
    one = twice_read(folder)
    key = ("a", one["essay_id"])
    fill_in(folder, human, {(one["first_marker"], *key): 2, (one["second_marker"], *key): 5})
    (path,) = take_back(folder, "third").third
    copy = path.with_name(f"{path.stem} (copy).csv")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=rf"sheets/{path.stem} \(copy\)\.csv and sheets/{path.name} both have essay"):
        take_back(folder, "third")


def test_a_range_that_nobody_gave_is_that_of_the_readings(planned):
    folder, human = planned(known={})
    fill_in(folder, human)
    assert take_back(folder, "mean").ranges == {}


def test_a_plan_is_never_written_over(planned):
    planned()
    with pytest.raises(DataError, match="its sheets may be filled in"):
        planned()


@pytest.mark.parametrize(
    ("names", "share", "words"),
    [
        (["Ann", "ann"], 0.0, "twice"),
        (["../Ann"], 0.0, "expected letters"),
        (["third"], 0.0, "at the beginning"),
        (["Ann"], 0.2, "second marker"),
    ],
)
def test_markers_that_cannot_be(names, share, words):
    with pytest.raises(ConfigError, match=words):
        Markers(names, share)
