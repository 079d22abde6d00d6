"""Explained essays in headless Chromium: skipped where there is none, unless AES_DYNLOSS_BROWSER=1 wants it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from explained_essay import ESSAY, EVIL
from headless_chromium import chromium, skip_without

from aes_dynloss.essays.explaining.page import IndexRow, essay_page, index_page
from aes_dynloss.reports.page import write_page

skip_without()

# Of the words of marks in a text and in its key, on their tint.
CONTRASTS = """
const light = (colour) => {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
  const [r, g, b] = parts.map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
return [...document.querySelectorAll("[class*=adds-], [class*=takes-]")].map((mark) => {
  const style = getComputedStyle(mark), pair = [light(style.color), light(style.backgroundColor)];
  return Math.max(...pair) / Math.min(...pair);
});
"""
WIDTHS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A hostile essay on one score and on two traits, and an index."""
    place = tmp_path_factory.mktemp("pages")
    traits = replace(ESSAY, scores=[replace(ESSAY.scores[0], trait=trait) for trait in (EVIL, "content")])
    write_page(essay_page(ESSAY, {"Model": EVIL}, "index.html"), place / "one.html")
    write_page(essay_page(traits), place / "traits.html")
    rows = [IndexRow.of(replace(ESSAY, essay_id=name).to_dict(), "one.html") for name in ("first", "second", EVIL)]
    write_page(index_page(rows), place / "index.html")
    return place


@pytest.fixture
def opened(browser, folder):
    def opens(name, width=1000, theme="light"):
        browser.get_log("browser")
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get((folder / f"{name}.html").as_uri())
        return browser

    return opens


@pytest.mark.parametrize("name", ["one", "traits", "index"])
def test_a_hostile_essay_is_shown_and_not_run(name, opened):
    browser = opened(name, 380)
    assert EVIL in browser.execute_script("return document.body.innerText")
    assert browser.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    marks = browser.execute_script("return document.querySelectorAll('.marked .mark').length")
    for mark in range(marks):  # its number is shown
        browser.execute_script(f"document.querySelectorAll('.marked .mark')[{mark}].focus()")
        whole, screen = browser.execute_script(WIDTHS)
        assert whole <= screen


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marked_words_can_be_read_and_are_told_apart_without_colour(theme, opened):
    browser = opened("one", theme=theme)
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) == 4
    assert min(contrasts) >= 4.5
    lines = browser.execute_script(
        "return ['.adds-3', '.takes-2'].map("
        "(kind) => getComputedStyle(document.querySelector(kind)).textDecorationStyle)"
    )
    assert lines == ["solid", "wavy"]


def test_search_says_how_many_it_finds(opened):
    browser = opened("index")
    search = browser.find_element("css selector", ".search")
    search.send_keys("first")
    rows = "return [...document.querySelectorAll('#essays tbody tr')].filter((row) => !row.hidden).length"
    assert browser.execute_script(rows) == 1
    assert browser.find_element("css selector", "output").text == "1 of 3"
    search.send_keys(" nowhere")
    assert browser.find_element("css selector", "output").text == "0 of 3"
    search.clear()
    search.send_keys(" ")
    assert browser.execute_script(rows) == 3
    assert browser.find_element("css selector", "output").text == ""


def test_print_shows_every_number_and_leaves_out_ordinary_features(opened):
    browser = opened("one")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = browser.execute_script(
            "return ['.marked .mark small', '.screen', '.search', '.up'].map((kind) => {"
            "const one = document.querySelector(kind); return one && getComputedStyle(one).display; })"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == ["inline", "none", None, "none"]
