from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from read_page import read_page
from sample_report import bare_report, full_report, renamed

from aes_dynloss.errors import DataError
from aes_dynloss.reports.measure_list import MEASURES, Missing
from aes_dynloss.reports.page import Picture, report_page, write_page
from aes_dynloss.reports.report_tables import AGREEMENT, LIMIT_MEASURES
from aes_dynloss.reports.table import figure_words
from aes_dynloss.tables.score_range import ScoreRange

TWO = {"1": ScoreRange(1, 4), "2": ScoreRange(0, 30)}
EVIL = "<script>alert(1)</script>"
TRAINING = Picture(
    "Losses", "By step.", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M 0 0"/></svg>'
)


@pytest.fixture(scope="module")
def report():
    return full_report(TWO, essays=150, resamples=30)


@pytest.fixture(scope="module")
def page(report):
    return report_page(report, title="A model", pictures=[TRAINING], about={"Model": "runs/a & b", "Essays": 300})


@pytest.fixture(scope="module")
def document(page):
    return read_page(page)


@pytest.fixture(scope="module")
def bare():
    return read_page(report_page(bare_report(), title="Little"))


def ids(document):
    return [one.attributes["id"] for one in document.walk() if "id" in one.attributes]


def table_texts(document, name):
    (table,) = [one for one in document.all("table") if one.attributes["id"] == name]
    return [[cell.text for cell in row.all("td", "th")] for row in table.all("tr")]


def visible(document):
    """All that a reader sees, but for notes, which speak of null as the json has it."""
    (body,) = document.all("body")
    parts = [
        one for one in body.walk() if one.tag in {"h1", "h2", "h3", "p", "td", "th", "caption", "dd", "dt", "text"}
    ]
    return "\n".join(one.text for one in parts)


def test_the_sections_come_in_their_order(document, bare):
    titles = [heading.text for heading in document.all("h2")]
    assert titles == [
        *("Summary", "Agreement", "Score versions", "Human agreement and ceilings", "Score points"),
        *(
            "Fairness by subgroups",
            "Pictures",
            "Training",
            "Worst disagreements",
            "Simple scorers",
            "Notes",
            "Settings",
        ),
        "Measures",
    ]
    absent = {"Fairness by subgroups", "Training", "Simple scorers"}
    assert [heading.text for heading in bare.all("h2")] == [title for title in titles if title not in absent]


def test_every_number_of_the_agreement_tables_is_there(report, document):
    for name, (_, measures) in AGREEMENT.items():
        rows = table_texts(document, name)[1:]
        for row, entry in zip(rows, [*report["prompts"].values(), report["mean"]], strict=True):
            cells = row[-len(measures) :]
            for measure, cell in zip(measures, cells, strict=True):
                if measure not in entry:
                    assert cell == ""
                    continue
                value = figure_words(entry[measure]).replace("-", "\u2212")
                ends = entry.get(f"{measure}_interval")
                interval = "" if ends is None else " to ".join(map(figure_words, ends)).replace("-", "\u2212")
                assert cell == value + interval
    limits = table_texts(document, "limit-table")[1:]
    for row, entry in zip(limits, report["prompts"].values(), strict=False):
        counts = [str(entry["human_ratings"][name]) for name in ("n", "n_twice", "ratings")]
        assert row[1:] == [*counts, *(figure_words(entry[measure]) for measure in LIMIT_MEASURES)]
    pairs = table_texts(document, "rater-pair-table")[1:]
    for row, entry in zip(pairs, report["prompts"].values(), strict=True):
        human = entry["human_human"]
        names = ("qwk", "kappa", "exact_agreement", "adjacent_agreement", "pearson", "smd")
        assert row[1:8] == [str(human["n"]), *(figure_words(human[name]).replace("-", "\u2212") for name in names)]


def test_coverage_is_told_where_there_is_dev(report, document, bare):
    for row, entry in zip(table_texts(document, "coverage-table")[1:], report["prompts"].values(), strict=True):
        assert row[1:] == [
            figure_words(entry["prediction_interval"][key]) for key in ("stated", "measured", "mean_width")
        ]
    assert "coverage-table" not in ids(bare)


def test_no_word_of_a_programming_language_is_shown(page):
    for one in (read_page(page), read_page(report_page(bare_report(), title="Little"))):
        for span in (span for span in one.all("span") if span.attributes.get("class") == "unseen"):
            span.children.clear()
        assert not re.search(r"\b(nan|NaN|None|inf|null|undefined)\b", visible(one))


def test_what_is_missing_says_why(document, bare):
    missing = [one for one in bare.all("span") if one.attributes.get("class") == "undefined"]
    assert {cell.text for cell in missing} == {"\u2013"}
    assert {cell.attributes["title"] for cell in missing} == {Missing.NOT_ROUNDED.value}
    left_out = [one.text for one in bare.all("p") if one.text.startswith("Left out: ")]
    assert left_out == [
        f"Left out: QWK, rescaled; QWK, cut points. {Missing.NO_DEV.value}",
        f"Left out: r without length. {Missing.NO_LENGTHS.value}",
        "Left out: Human-human QWK; Human-machine QWK; QWK lost; Human-human r; Human-machine r; r lost; QWK ceiling; "
        f"QWK of the true score; r, disattenuated; PRMSE. {Missing.NO_SECOND_SCORE.value}",
    ]
    assert not [one for one in document.all("p") if one.text.startswith("Left out: ")]


def test_no_table_is_empty(document, bare):
    for table in [*document.all("table"), *bare.all("table")]:
        for column in zip(*(row.all("td", "th") for row in table.all("tr")[1:]), strict=True):
            assert any(cell.text and not cell.text.startswith("\u2013") for cell in column)


def test_strange_names_are_shown_and_not_run(report):
    essay = report["worst"][0]["essay_id"]
    strange = renamed(report, {essay: EVIL, "1": "$x$ \x01", "2": f"{EVIL} & 'y'", "Korean": f'{EVIL}"', "L1": EVIL})
    strange.worst[0] = replace(strange.worst[0], text=f"{EVIL}\nsecond line")
    html = report_page(strange, title=EVIL, about={EVIL: EVIL})
    assert EVIL not in html
    assert html.count("<script") == 1
    document = read_page(html)
    assert document.all("title")[0].text == document.all("h1")[0].text == EVIL
    worst = table_texts(document, "worst-table")[1]
    assert worst[0] == EVIL
    drawn = [one.text for one in document.all("text")]
    assert {f'{EVIL}"', "Prompt $x$ \ufffd", "Prompt <script>alert(1)</script> & 'y'"} <= set(drawn)
    assert f"{EVIL}\nsecond line" in visible(document)


def test_texts_of_essays_are_there_only_if_given(document):
    assert not [one for one in document.all("summary") if "Texts" in one.text]


def test_the_page_asks_for_nothing(page, document):
    assert "http" not in page.replace("http-equiv", "")
    for one in document.walk():
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            target = one.attributes.get(name) or "#"
            assert target.startswith(("#", "data:"))
        assert not [name for name in one.attributes if name.startswith("on")]
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    assert "@import" not in page


def test_the_policy_allows_our_script_alone(document):
    (policy,) = [one.attributes["content"] for one in document.all("meta") if "http-equiv" in one.attributes]
    (script,) = document.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-eval" not in policy


def test_names_in_the_page_are_its_own_and_meet(document):
    found = ids(document)
    assert len(found) == len(set(found))
    for one in document.walk():
        for reference in (one.attributes.get("aria-labelledby") or "").split():
            assert reference in found
        target = one.attributes.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in found
        clip = one.attributes.get("clip-path")
        if clip:
            assert clip[5:-1] in found


def test_each_picture_has_a_text_beside_it(document):
    figures = document.all("figure")
    assert len(figures) > 10
    for figure in figures:
        (svg,) = figure.all("svg")
        title, description = (next(one for one in svg.all(tag)) for tag in ("title", "desc"))
        assert title.text == figure.all("figcaption")[0].text
        assert len(description.text) >= len("By step.")
        assert svg.attributes["aria-labelledby"] == f"{title.attributes['id']} {description.attributes['id']}"
        assert svg.attributes["role"] == "img"


def test_the_structure_serves_those_who_do_not_see(document):
    assert [len(document.all(tag)) for tag in ("main", "header", "footer", "nav", "h1")] == [1] * 5
    levels = [int(one.tag[1]) for one in document.all("h1", "h2", "h3", "h4")]
    assert all(below - above <= 1 for above, below in pairwise(levels))
    for table in document.all("table"):
        assert len(table.all("caption")) == 1
        assert all(one.attributes.get("scope") in {"row", "col"} for one in table.all("th"))
        widths = {len(row.all("td", "th")) for row in table.all("tr")}
        assert len(widths) == 1
    links = {one.attributes["href"] for one in document.all("nav")[0].all("a")}
    assert links == {f"#{one.attributes['id']}" for one in document.all("h2")}


def test_every_verdict_has_colour_symbol_and_words(report, document):
    (table,) = [one for one in document.all("table") if one.attributes["id"] == "lights"]
    symbols = {"pass": "✓ pass", "flag": "▲ flag", "unknown": "? unknown"}
    seen = [cell for cell in table.all("td") if cell.attributes.get("class")]
    assert {cell.attributes["class"] for cell in seen} >= {"pass", "flag"}
    for cell in seen:
        assert cell.text.startswith(symbols[cell.attributes["class"]])
    judged = {(flag["criterion"], flag["group"] and flag["group"][0], flag["prompt"]) for flag in report["flags"]}
    assert len(seen) == len(judged)


def test_all_measures_are_defined(document):
    definitions = {one.text for one in document.all("dt")}
    assert {measure.title for measure in MEASURES.values()} <= definitions
    assert all(measure.reference and measure.definition.endswith(".") for measure in MEASURES.values())


def test_the_foot_says_what_it_is_told(document):
    (foot,) = document.all("footer")
    assert "runs/a & b" in foot.text
    assert "300" in foot.text


def test_a_large_page_is_small():
    report = full_report({str(number): ScoreRange(0, 50) for number in range(1, 9)}, essays=3000, resamples=0)
    page = report_page(report, title="Large")
    assert len(page.encode()) < 3_000_000


def test_a_page_of_strange_picture_is_refused(report):
    with pytest.raises(DataError, match="'Bad' is no svg"):
        report_page(report, title="A", pictures=[Picture("Bad", "No svg.", "<html/>")])


def test_writing_keeps_letters_and_breaks_of_lines(tmp_path):
    write_page("<p>é</p>\n\ud800", tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_bytes() == "<p>é</p>\n?".encode()
