from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_figures import build
from read_page import cells_by_row, read_lone_page, read_page
from scored_runs import grid

from aes_dynloss.reports.benchmark import RunCost
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.comparison_page import comparison_page
from aes_dynloss.reports.published_systems import ASAP_SYSTEMS
from aes_dynloss.reports.table import figure_words, p_words, signed_words

EVIL = "<script>alert(1)</script>"
ARMS = {"mse": grid("mse", 0.2), "morris": grid("morris", 0.13), EVIL: grid("dlf", 0.19)}


@pytest.fixture(scope="module")
def comparison():
    return compare_arms(ARMS, "mse", resamples=400)


@pytest.fixture(scope="module")
def benchmark():
    places = {"2": 0.3, "10": 0.2}
    floors = {stratum: {"length": places} for stratum in ("fold_0", "fold_1")}
    costs = {"mse": [RunCost(12.0, "A card", 1)] * 4}
    return build(ARMS, floors=floors, published=ASAP_SYSTEMS, costs=costs)


@pytest.mark.parametrize("page", ["comparison", "benchmark"])
def test_a_page_stands_alone_and_is_well_made(page, request):
    html = comparison_page(request.getfixturevalue(page), title=EVIL)
    document = read_lone_page(html, EVIL)
    assert document.all("figure")
    for figure in document.all("figure"):
        assert figure.all("title")[0].text
        assert figure.all("desc")[0].text


def test_arms_and_differences_are_all_told(comparison):
    document = read_page(comparison_page(comparison, title="A"))
    arms = cells_by_row(document, "arms-table")
    assert list(arms) == ["mse", "morris", EVIL]
    for arm, entry in comparison["arms"].items():
        low, high = entry["mean"]["qwk_interval"]
        assert arms[arm][1] == f"{figure_words(entry['mean']['qwk'])}{figure_words(low)} to {figure_words(high)}"
    for place, kind in enumerate(comparison["differences"].values(), start=1):
        told = cells_by_row(document, f"differences-{place}")
        for arm, entries in kind["arms"].items():
            entry = entries["mean"]
            signed = [signed_words(value).replace("-", "\u2212") for value in (entry["difference"], *entry["interval"])]
            assert told[arm][0] == f"{signed[0]}{signed[1]} to {signed[2]}"
            assert told[arm][1:] == [p_words(entry["p"]), p_words(entry["p_holm"])]
    by_prompt = cells_by_row(document, "prompts-qwk")
    assert by_prompt["mse"][1].startswith(figure_words(comparison["arms"]["mse"]["prompts"]["2"]["qwk"]))


def test_the_summary_names_who_differs(comparison):
    words = read_page(comparison_page(comparison, title="A")).all("main")[0].text
    assert "3 arms were measured on 160 test essays; the highest mean QWK is " in words
    assert (
        "Held against mse, 1 of 2 differ in QWK by more than chance would explain (Holm p below 0.05). Higher: morris."
        in words
    )
    alike = compare_arms({"a": ARMS["mse"], "b": ARMS["mse"]}, "a", resamples=100)
    assert "no arm's QWK differs by more" in comparison_page(alike, title="A").replace("&#39;", "'")


def test_a_benchmark_has_others_beside_it(benchmark):
    document = read_page(comparison_page(benchmark, title="A", about={"Date": "today"}))
    beside = cells_by_row(document, "beside-table")
    assert beside["floor: essay length"][0] == "0.250"
    assert beside["R2BERT"][:2] == ["0.794", "own protocol"]
    assert cells_by_row(document, "prompts-qwk")["floor: essay length"] == ["0.250", "0.300", "0.200"]
    assert cells_by_row(document, "costs-table")["mse"][:3] == ["4", "12", "48"]
    assert "A simple scorer" not in document.all("main")[0].text
    beaten = replace(benchmark, floors={"length": replace(benchmark.floors["length"], mean=0.99)})
    words = read_page(comparison_page(beaten, title="A")).all("main")[0].text
    assert "A simple scorer does better than all of them: essay length has 0.990." in words
    foot = document.all("footer")[0].text
    assert "two folds" in foot
    assert "today" in foot


def test_one_arm_alone_has_a_page():
    document = read_page(comparison_page(build({"mse": ARMS["mse"]}, ensembles=False), title="A"))
    assert "Nothing is held against mse, the only arm." in document.all("main")[0].text


def test_arms_without_dev_are_compared_by_what_they_have():
    arms = {name: grid(name, noise, dev=False) for name, noise in (("a", 0.2), ("b", 0.1))}
    document = read_page(comparison_page(compare_arms(arms, "a", resamples=50), title="A"))
    assert [one.attributes["id"] for one in document.all("table")] == [
        "arms-table",
        "differences-1",
        "differences-1-prompts",
        "prompts-qwk",
    ]
