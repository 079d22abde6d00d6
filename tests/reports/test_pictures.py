from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from read_page import read_page
from sample_report import bare_report, full_report, made_up_essays

from aes_dynloss.errors import DataError
from aes_dynloss.plot_style import INK, plot_style
from aes_dynloss.reports.drawing import FAINT, Picture, drawing, inline_svg, picture_from_svg
from aes_dynloss.reports.figures import (
    MOST_DRAWN_PROMPTS,
    MOST_DRAWN_ROWS,
    confusion_picture,
    fairness_figures,
    report_figures,
)
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.score_range import ScoreRange

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">{}</svg>'


def inlined(inside, name="a"):
    return inline_svg(Picture("T", "D", SVG.format(inside)), name)


def drawn(tmp_path, **metadata):
    with plot_style():
        figure = Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        axes.plot([0, 1], marker="o", color="#0072B2")
        axes.set_title("A title")
        axes.text(0.5, 0.5, "black", color="black")
        figure.savefig(tmp_path / "loss.svg", metadata={"Date": None, **metadata})
    return tmp_path / "loss.svg"


def test_a_picture_brings_its_title_and_description(tmp_path):
    picture = picture_from_svg(drawn(tmp_path, Title="Losses & all", Description="By <step>."))
    assert (picture.title, picture.description) == ("Losses & all", "By <step>.")
    assert picture_from_svg(drawn(tmp_path)).title == "loss"


def test_a_plot_on_disk_is_dark_on_white_and_takes_the_colours_of_the_page(tmp_path):
    picture = picture_from_svg(drawn(tmp_path, Title="T", Description="D"))
    assert f"fill: {INK}" in picture.svg
    assert "fill: #ffffff" in picture.svg
    svg = inline_svg(picture, "p")
    assert "#ffffff" not in svg
    assert INK not in svg
    assert "fill: currentColor" in svg
    assert "stroke: var(--blue)" in svg
    (black,) = [one for one in read_page(svg).all("text") if one.text == "black"]
    # On a coloured cell black words stay black, whatever the page's ground.
    assert "fill" not in black.attributes["style"]
    assert "font-family" not in svg


def test_a_picture_of_another_style_keeps_its_colours_on_white():
    svg = inlined("<g id='patch_1'><path style='fill: #ffffff'/></g><text style='fill: #000000'>a</text>")
    assert 'class="on-white"' in svg
    assert "fill: #ffffff" in svg
    assert "fill: #000000" in svg


def test_ids_of_two_pictures_do_not_meet(tmp_path):
    picture = picture_from_svg(drawn(tmp_path))
    both = read_page(inline_svg(picture, "a") + inline_svg(picture, "b"))
    ids = [one.attributes["id"] for one in both.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids)) >= 8
    for one in both.all("use"):
        assert one.attributes["href"][1:] in ids


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<g onload='alert(1)'/>",
        "<foreignObject><p>alert</p></foreignObject>",
        "<image xlink:href='http://a.b/c.png'/>",
        "<use xlink:href='javascript:alert(1)'/>",
        "<path style='fill: url(http://a.b/c)'/>",
        "<a xlink:href='http://a.b'><text>alert</text></a>",
        "<style>* { fill: url(http://a.b) }</style>",
        "<metadata>alert</metadata>",
    ],
)
def test_only_drawing_is_kept(inside):
    svg = inlined(inside)
    assert not any(word in svg for word in ("alert", "http", "url", "onload", "script"))


def test_drawing_is_kept():
    svg = inlined(
        "<text x='1.23456' style='font-size: 10px; font-family: X; fill: #1a1a1a'>a &lt; b<tspan>c</tspan>d</text>"
    )
    assert '<text x="1.23" style="font-size: 10px; fill: currentColor">a &lt; b<tspan>c</tspan>d</text>' in svg
    png = "data:image/png;base64,iVBORw0KGgo="
    assert f'href="{png}"' in inlined(f"<image xlink:href='{png}'/>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<svg", "'T' is no svg"),
        ("<html/>", "its root is 'html'"),
        ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>", "defines entities"),
    ],
)
def test_what_is_no_picture_is_refused(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        inline_svg(Picture("T", "D", text), "a")
    (tmp_path / "a.svg").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message.replace("'T'", "a.svg")):
        picture_from_svg(tmp_path / "a.svg")


def test_a_picture_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.svg cannot be read as a picture"):
        picture_from_svg(tmp_path / "none.svg")


def test_figures_are_drawn_for_what_a_report_has():
    full = {gallery.name: len(gallery.pictures) for gallery in report_figures(full_report(essays=80, resamples=5))}
    by_prompt = ("confusion", "human-confusion", "distributions", "residuals-score", "residuals-length", "reliability")
    assert full == {"agreement-figure": 2, **dict.fromkeys(by_prompt, 8)}
    bare = [gallery.name for gallery in report_figures(bare_report())]
    assert bare == ["agreement-figure", "confusion", "distributions", "residuals-score", "reliability"]


@pytest.mark.parametrize(
    ("span", "ticks", "cells"),
    [
        (ScoreRange(1, 4), ["1", "2", "3", "4"], 4),
        (ScoreRange(1, 5, 0.5), ["1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5"], 9),
        (ScoreRange(0, 30), [str(tick) for tick in range(0, 31, 3)], 11),
        (ScoreRange(0, 60), [str(tick) for tick in range(0, 61, 6)], 11),
    ],
)
def test_a_confusion_matrix_is_readable_at_any_number_of_score_points(span, ticks, cells):
    entry = full_report({"1": span}, essays=60, resamples=0, subgroups=()).prompts["1"]
    with drawing():
        picture = confusion_picture("prompt 1", entry)
    document = read_page(picture.svg.partition("-->")[2] or picture.svg)
    words = [one.text.strip() for one in document.all("text")]
    across = words[: words.index("Machine score")]
    assert across == ticks
    assert words[words.index("Machine score") + 1 : words.index("Human score")] == ticks
    counts = [int(word) for word in words[words.index("Human score") + 1 :]]
    assert sum(counts) == 60
    assert len(counts) <= cells**2
    # Five corners a cell, and only the diagonal's squares are drawn in outline.
    (outline,) = [one.attributes["d"] for one in document.all("path") if FAINT in one.attributes.get("style", "")]
    assert outline.count("M") == cells
    assert ("points a cell" in picture.title) == (span.count > cells)


def test_figures_of_very_many_prompts_are_those_of_the_largest_and_say_so():
    report = full_report({str(number): ScoreRange(1, 4) for number in range(20)}, essays=30, resamples=0, subgroups=())
    report.prompts["19"] = replace(report.prompts["19"], n=35)
    galleries = {gallery.name: gallery for gallery in report_figures(report)}
    assert len(galleries["confusion"].pictures) == MOST_DRAWN_PROMPTS
    assert galleries["confusion"].pictures[-1].title == "Confusion matrix, prompt 19"
    assert f"the {MOST_DRAWN_PROMPTS} prompts with the most essays" in galleries["confusion"].words


def test_the_picture_of_all_prompts_has_so_many_rows_and_the_mean():
    spans = {str(number): ScoreRange(1, 4) for number in range(MOST_DRAWN_ROWS + 2)}
    report = full_report(spans, essays=4, resamples=0, subgroups=())
    report.prompts["0"] = replace(report.prompts["0"], n=3)
    agreement = report_figures(report)[0]
    assert f"the {MOST_DRAWN_ROWS} prompts with the most essays" in agreement.words
    drawn = agreement.pictures[0].description
    assert drawn.count("Prompt ") == MOST_DRAWN_ROWS
    assert "Prompt 0 " not in drawn
    assert "Mean " in drawn


def test_groups_are_drawn_where_there_are_several():
    report = full_report({"1": ScoreRange(1, 4)}, essays=160, resamples=5)
    pictures = fairness_figures(report)
    assert list(pictures) == ["L1", "gender"]
    assert "Korean: DSM " in pictures["L1"][0].description
    groups = report["prompts"]["1"]["fairness"]["columns"]["gender"]["groups"]
    del groups["f"]
    assert list(fairness_figures(report)) == ["L1"]


@pytest.mark.parametrize("constant", [1.0, 4.0])
def test_scores_that_are_all_equal_can_be_drawn(constant):
    table = made_up_essays({"1": ScoreRange(1, 4)}, 10).assign(reference=constant, raw=constant, score=constant)
    report = build_report(table, ranges={"1": ScoreRange(1, 4)}, resamples=5, subgroups=["gender"], min_group=2)
    assert report_figures(report)
    assert fairness_figures(report)


def test_equal_reports_give_equal_pictures():
    report = bare_report()
    assert report_figures(report) == report_figures(report)


def test_names_in_other_scripts_bring_no_warning():
    with drawing():
        figure = Figure()
        figure.text(0, 0, "作文")
        figure.savefig("/dev/null", format="svg")
