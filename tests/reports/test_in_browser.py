"""The page in headless Chromium: skipped where there is none, unless AES_DYNLOSS_BROWSER=1 says that there must be.

AES_DYNLOSS_ARTIFACTS names a folder for screenshots, AES_DYNLOSS_PAGE a report.html to open beside the made-up ones.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_figures import build
from headless_chromium import ARTIFACTS, chromium, skip_without
from sample_report import full_report, renamed
from scored_runs import grid

from aes_dynloss.plot_style import plot_style
from aes_dynloss.reports.comparison_page import comparison_page
from aes_dynloss.reports.page import picture_from_svg, report_page, write_page

GIVEN = os.environ.get("AES_DYNLOSS_PAGE")
NAMES = ["report", "benchmark", *(["given"] if GIVEN else [])]
EVIL = "<script>alert(1)</script>"

skip_without()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report's page, with a training's picture and a strange essay, prompt and group; and a benchmark's."""
    from matplotlib.figure import Figure

    folder = tmp_path_factory.mktemp("pages")
    with plot_style():
        figure = Figure(figsize=(8, 3))
        figure.add_subplot().imshow([[0, 1], [2, 3]])
        figure.savefig(folder / "loss.svg", metadata={"Title": "A loss", "Description": "By step.", "Date": None})
    report = full_report(essays=120, resamples=30)
    essay = report["worst"][0]["essay_id"]
    strange = renamed(report, {essay: EVIL, "8": f"8 {EVIL}", "Korean": EVIL})
    strange = replace(strange, worst=[replace(strange.worst[0], text=EVIL), *strange.worst[1:]])
    about = {"Model": "runs/" + "a_very_long_name_" * 12}
    pictures = [picture_from_svg(folder / "loss.svg")]
    write_page(report_page(strange, title="A report", pictures=pictures, about=about), folder / "report.html")
    arms = {"mse": grid("mse", 0.2), "morris": grid("morris", 0.13)}
    write_page(comparison_page(build(arms), title="A benchmark"), folder / "benchmark.html")
    made = {name: folder / f"{name}.html" for name in ("report", "benchmark")}
    return {**made, "given": Path(GIVEN).absolute()} if GIVEN else made


@pytest.fixture
def opened(browser, pages):
    """Opens a page at a width and in a theme; what was logged before is forgotten."""
    from selenium.webdriver.support.ui import WebDriverWait

    def opens(name="report", width=1280, theme="light"):
        browser.get_log("browser")
        browser.get_log("performance")
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get("about:blank")
        browser.get(pages[name].as_uri())
        # On a busy machine get() was seen to come back before the page was read.
        whole = "return document.readyState === 'complete' && location.protocol === 'file:'"
        WebDriverWait(browser, 60).until(lambda _: browser.execute_script(whole))
        return browser

    return opens


def requests(browser):
    """What the opened page asked for; the browser's own first page may still be loading beside it."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]


def keep(browser, name, height=4000):
    """A screenshot of the page's top, and of its pictures, for a reader of the test's artefacts."""
    if not ARTIFACTS:
        return
    folder = Path(ARTIFACTS)
    folder.mkdir(parents=True, exist_ok=True)
    width, whole = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
    )
    pictures = browser.execute_script("return document.querySelector('figure').getBoundingClientRect().y + scrollY")
    for part, top in (("top", 0), ("pictures", int(pictures))):
        clip = {"x": 0, "y": top, "width": width, "height": min(height, whole - top), "scale": 1}
        found = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        (folder / f"{name}_{part}.png").write_bytes(base64.b64decode(found["data"]))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_fails_and_nothing_is_asked_for(name, opened):
    browser = opened(name)
    urls = requests(browser)
    assert urls  # The page itself, or the log would say nothing.
    assert all(url.startswith(("file:", "data:")) for url in urls)
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    keep(browser, f"{name}_light")


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_size_and_ink(name, opened):
    browser = opened(name)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(svg => { const page = svg.getBoundingClientRect(); "
        "const drawn = svg.getBBox(); return [page.width, page.height, drawn.width, drawn.height]; })"
    )
    assert len(boxes) >= 3
    assert all(min(box) > 20 for box in boxes)


def column(browser, table, place):
    rows = f"[...document.querySelectorAll('#{table} tbody tr')]"
    return browser.execute_script(f"return {rows}.map(row => row.cells[{place}].firstChild.textContent)")


def test_headings_sort_numbers_by_value_and_names_naturally(opened):
    browser = opened()
    sorts = "return [...document.querySelectorAll('#points-table thead th')].map(th => th.getAttribute('aria-sort'))"
    browser.execute_script("document.querySelector('details').open = true")
    buttons = browser.find_elements("css selector", "#points-table thead button")
    assert browser.execute_script(sorts) == [None] * len(buttons)
    buttons[1].click()
    points = [float(text) for text in column(browser, "points-table", 1)]
    assert points == sorted(points) != sorted(points, key=str)
    assert browser.execute_script(sorts)[1] == "ascending"
    before = list(zip(column(browser, "points-table", 0), points, strict=True))
    buttons[1].click()
    assert [float(text) for text in column(browser, "points-table", 1)] == sorted(points, reverse=True)
    assert browser.execute_script(sorts)[1] == "descending"
    buttons[0].send_keys("\ue007")  # Enter, for those who use no mouse.
    assert browser.execute_script(sorts)[:2] == ["ascending", None]
    prompts = column(browser, "points-table", 0)
    assert prompts == sorted(prompts)
    assert len(prompts) == len(before)


def test_sorting_keeps_ties_and_puts_what_is_undefined_last(opened):
    browser = opened()
    qwk = "document.querySelectorAll('#versions-table thead button')[4]"
    versions = list(zip(column(browser, "versions-table", 0), column(browser, "versions-table", 1), strict=True))
    for sign in (1, -1):
        browser.execute_script(f"{qwk}.click()")
        found = column(browser, "versions-table", 4)
        known = [text for text in found if text != "\u2013"]
        assert 0 < len(known) < len(found)
        assert found == [*sorted(known, reverse=sign < 0), *["\u2013"] * (len(found) - len(known))]
        undefined = list(zip(column(browser, "versions-table", 0), column(browser, "versions-table", 1), strict=True))
        assert undefined[len(known) :] == [one for one in versions if "rounded" not in one[1]]


def test_the_mean_stays_below(opened):
    browser = opened()
    browser.execute_script("document.querySelectorAll('#agreement-qwk thead button')[3].click()")
    last = "return [...document.querySelectorAll('#agreement-qwk tr')].at(-1).cells[0].textContent"
    assert browser.execute_script(last) == "Mean over prompts"


def test_a_strange_essay_is_shown_and_not_run(opened):
    from selenium.common.exceptions import NoAlertPresentException

    browser = opened()
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert.text
    cell = browser.find_element("css selector", "#worst-table tbody th")
    assert cell.text == EVIL
    assert cell.is_displayed()
    assert browser.execute_script("return document.scripts.length") == 1
    names = browser.execute_script("return [...document.querySelectorAll('svg text')].map(text => text.textContent)")
    assert EVIL in names


def test_an_injected_script_would_not_run(opened):
    browser = opened()
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true'; "
        "document.body.append(script)"
    )
    assert browser.execute_script("return window.ran === undefined")


CONTRASTS = """
const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (channel) => { const c = channel / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const found = {};
for (const node of document.querySelectorAll("body *")) {
  const words = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!words || !node.getClientRects().length || node.closest(".unseen, script, title, desc")) continue;
  const svg = node.closest("svg");
  const ink = parse(svg ? getComputedStyle(node).fill : getComputedStyle(node).color);
  // What lies below a picture's words is its own: its ground is the page's.
  const [one, other] = [luminance(ink), luminance(ground(node))].sort((a, b) => b - a);
  const name = `${svg ? "svg " : ""}${node.tagName}.${node.parentElement.className}`;
  found[name] = Math.min(found[name] ?? 99, (one + 0.05) / (other + 0.05));
}
return [getComputedStyle(document.body).backgroundColor, found];
"""


def test_words_can_be_read_in_both_themes(opened):
    grounds = set()
    for theme in ("light", "dark"):
        browser = opened(theme=theme)
        ground, contrasts = browser.execute_script(CONTRASTS)
        grounds.add(ground)
        assert len(contrasts) > 20
        assert {name: value for name, value in contrasts.items() if value < 4.5} == {}
        keep(browser, f"report_{theme}")
    assert len(grounds) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_screen(name, width, opened):
    browser = opened(name, width)
    whole, screen = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert whole <= screen <= width
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= screen
    keep(browser, f"{name}_{width}")


CUT_OFF = """
const cut = [];
for (const svg of document.querySelectorAll("figure svg")) {
  const frame = svg.getBoundingClientRect();
  for (const word of svg.querySelectorAll("text")) {
    const box = word.getBoundingClientRect();
    if (box.left < frame.left - 1 || box.right > frame.right + 1) cut.push(word.textContent);
    if (box.top < frame.top - 1 || box.bottom > frame.bottom + 1) cut.push(word.textContent);
  }
}
return cut;
"""
BROKEN = """
const broken = [];
for (const cell of document.querySelectorAll("th, td:not(.long)")) {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest(".unseen")) continue;
    for (const match of node.textContent.matchAll(/[\\p{L}\\p{N}.]+/gu)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (lines.size > 1) broken.push(match[0]);
    }
  }
}
return broken;
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [380, 1280])
def test_no_word_is_cut_off_or_broken_in_the_middle(name, width, opened):
    browser = opened(name, width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert browser.execute_script(CUT_OFF) == []
    assert browser.execute_script(BROKEN) == []
    texts = browser.execute_script("return [...document.querySelectorAll('svg text')].map(text => text.textContent)")
    assert not [text for text in texts if "mathdefault" in text or "\\" in text]


def test_figures_fit_a_telephone(opened):
    browser = opened("benchmark", 380)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('figure:not(.wide) .scroll')]"
        ".map(box => [box.scrollWidth, box.clientWidth])"
    )
    assert len(widths) >= 3
    assert all(inside <= outside for inside, outside in widths)


def test_a_table_that_scrolls_says_so_until_its_end(opened):
    browser = opened(width=380)
    box = "document.querySelector('#versions-table').parentElement"
    hints = f"return [getComputedStyle({box}, '::before').content, getComputedStyle({box}).maskImage]"
    words, mask = browser.execute_script(hints)
    assert "Scrolls sideways" in words
    assert "gradient" in mask
    browser.execute_script(f"{box}.scrollLeft = 9999")
    ended = f"const box = {box}; return !box.classList.contains('more') && box.classList.contains('sideways')"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(ended))
    fits = opened(width=1280)
    assert fits.execute_script("return document.querySelector('#floors-table').closest('.sideways') === null")


def test_the_diagonal_of_a_confusion_matrix_is_outlined(opened):
    """In the page's colours: an outline without a fill, as many squares as cells across."""
    browser = opened()
    squares = browser.execute_script(
        "return [...document.querySelectorAll('figure')].filter(one => one.textContent.includes('Confusion matrix'))"
        ".map(one => [...one.querySelectorAll('path')].filter(path => getComputedStyle(path).fill === 'none')"
        ".map(path => (path.getAttribute('d').match(/M/g) || []).length).reduce((a, b) => Math.max(a, b), 0))"
    )
    assert squares == [11, 6, 4, 4, 5, 5, 11, 11]


def test_it_prints_with_all_that_is_folded(opened):
    browser = opened(theme="dark")
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000
    assert browser.execute_script("return [...document.querySelectorAll('details')].every(one => one.open)")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper, nav, place = browser.execute_script(
        "return [getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('nav')).display, "
        "getComputedStyle(document.querySelector('tbody th')).position]"
    )
    head, button, foot = browser.execute_script(
        "return ['thead', 'thead button', 'tfoot'].map(one => getComputedStyle(document.querySelector(one)).display)"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    # Heads repeat, in which a button would be missing, and sums stand once.
    assert (head, button, foot) == ("table-header-group", "contents", "table-row-group")
    assert (paper, nav, place) == ("rgb(255, 255, 255)", "none", "static")
    if ARTIFACTS:
        (Path(ARTIFACTS) / "report.pdf").write_bytes(printed)
