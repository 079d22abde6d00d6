from __future__ import annotations

import re

import pandas as pd
from sample_robustness import sample_robustness
from word_counter import WordCounter

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.robustness import measure_robustness
from aes_dynloss.reports.robustness import headline_words, robustness_rows, robustness_text
from aes_dynloss.reports.table import percent


def test_every_kind_has_a_line_with_its_figures(measured):
    lines = robustness_text(measured).split("\n")
    for name, kind in measured["kinds"].items():
        (line,) = [line for line in lines if line.startswith(f"  {name}: ")]
        total = kind["total"]
        figures = [percent(total[share]["share"]) for share in ("rises", "falls", "stays", "raw_rises")]
        assert line.startswith(f"  {name}: {kind['title']} ")
        assert all(figure in line for figure in figures)
        assert f" {total['n']} " in line
    headings = [line.strip() for line in lines if line.startswith("should")]
    assert headings == ["should fall", "should not rise", "should stay"]
    assert sum(line.startswith("  together ") for line in lines) == 3
    assert "8 essays (4 to prompt a, 4 to prompt b), each beside its changed forms." in lines
    assert headline_words(measured) in lines
    assert "Note: copy_prompt is left out for want of the prompt's text: prompt b." in lines


def test_the_headline_says_how_often(measured):
    found = measured["expected"]["must_not_rise"]
    words = headline_words(measured)
    rises = f"{percent(found['rises']['share'])} of {found['n']} changes"
    assert words.startswith(f"The score rises, though it should fall or at most stay, in {rises} (")
    assert percent(found["raw_rises"]["share"]) in words
    assert not headline_words(sample_robustness(kinds=["capitals"]))


def test_what_is_undefined_is_a_dash():

    table = robustness_text(measure_robustness(WordCounter(), [UnscoredEssay("1", "a", "word")], kinds=["delete_last"]))
    assert re.search(r"delete_last: last third deleted +0( +-){6}$", table, re.MULTILINE)
    assert not re.search("nan|None", table)


def test_rows_hold_every_prompt_and_the_total(measured):
    table = pd.DataFrame(robustness_rows(measured))
    assert len(table) == sum(1 + len(kind["prompts"]) for kind in measured["kinds"].values())
    assert not table.duplicated(["kind", "prompt_id"]).any()
    (row,) = table[(table.kind == "repeat_essay") & (table.prompt_id == "a")].to_dict("records")
    entry = measured["kinds"]["repeat_essay"]["prompts"]["a"]
    assert (row["rises"], row["rises_low"], row["rises_high"]) == tuple(entry["rises"].values())
    assert (row["mean_raw_change"], row["n"], row["expected"]) == (entry["mean_raw_change"], 4, "not_rise")
    total = table[(table.kind == "repeat_essay") & table.prompt_id.isna()]
    assert total.n.tolist() == [8]
