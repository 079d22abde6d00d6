"""The page in headless Chromium: skipped where there is none, unless AES_DYNLOSS_BROWSER=1 says that there must be."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest
from headless_chromium import ARTIFACTS, chromium, skip_without
from served import process

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import explain_essays

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"

skip_without()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    with process(model, tmp_path_factory.mktemp("page")) as there:
        yield there


@pytest.fixture(scope="module")
def evil(scorer):
    """The address of a server in a thread whose model has a name, a prompt and advisories that try to be html."""
    import uvicorn

    from aes_dynloss.essays.data.essay_table import Prompt
    from aes_dynloss.essays.screening.kinds import Advisory
    from aes_dynloss.serving.app import create_app
    from aes_dynloss.serving.limits import Limits
    from aes_dynloss.serving.server import bound_socket, url_of
    from aes_dynloss.serving.service import EssayService
    from aes_dynloss.tables.score_range import ScoreRange

    class Evil:
        texts = "essays"

        def __init__(self) -> None:
            self.prompts = {EVIL: Prompt(EVIL, ScoreRange(1, 6), EVIL)}
            self.sources = [EVIL]
            self.screen = self

        def __getattr__(self, name):
            return getattr(scorer, name)

        def score(self, texts, prompt_ids, **_):
            return scorer.score(texts, ["letter"] * len(texts))

        def examine(self, texts, _):
            kind = "gibberish" if "odd" in texts[0] else "too_short"
            return [(Advisory(kind, f"It is {EVIL}.", 0.0, 0.0),) for text in texts]

    bound = bound_socket("127.0.0.1", 0)
    bound.listen()
    app = create_app(EssayService(Evil(), EVIL, 0.9, Limits()))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    yield url_of(bound)
    server.should_exit = True
    thread.join()


@pytest.fixture
def opened(browser):
    """Opens a page at a width and in a theme, once it knows its prompts; what was logged before is forgotten."""

    def opens(url, width=1000, theme="light"):
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(url)
        wait(browser, "return document.querySelectorAll('#prompt option').length > 0")
        return browser

    return opens


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(script))


def shown(browser, name):
    """The words of a part of the page; None while it is hidden."""
    return browser.execute_script(
        "const part = document.getElementById(arguments[0]); return part.offsetParent ? part.innerText : null", name
    )


def score(browser, text, prompt="letter"):
    """Paste, pick, press, wait."""
    from selenium.webdriver.support.ui import Select

    browser.execute_script("document.getElementById('text').value = ''")
    browser.find_element("id", "text").send_keys(text)
    Select(browser.find_element("id", "prompt")).select_by_value(prompt)
    browser.find_element("id", "go").click()
    wait(browser, "return !document.getElementById('answer').hidden || !document.getElementById('fault').hidden")


def complaints(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def requested(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"].startswith("http:")]


def keep(browser, name):
    """A screenshot for a reader of the test's artefacts."""
    if ARTIFACTS:
        Path(ARTIFACTS).mkdir(parents=True, exist_ok=True)
        found = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (Path(ARTIFACTS) / f"{name}.png").write_bytes(base64.b64decode(found["data"]))


@pytest.mark.parametrize(("theme", "width"), [("light", 1000), ("dark", 1000), ("light", 380)])
def test_an_essay_is_pasted_and_scored(served, opened, scorer, theme, width):
    browser = opened(served.url, width, theme)
    text = "All of us walk to school by the river because the bridge is bad."
    score(browser, text, "notice")
    expected = scorer.score([text], ["notice"])
    assert shown(browser, "score") == f"{expected.score[0]:g}"
    assert shown(browser, "scale") == "on a scale of 0 to 2 in steps of 0.5"
    assert shown(browser, "prompt-words") == "Read it.\nScores go from 0 to 2 in steps of 0.5."
    assert "No interval" in shown(browser, "interval")
    assert shown(browser, "fault") is None
    assert shown(browser, "count") == "14 words."
    keep(browser, f"serve_{theme}_{width}")
    assert complaints(browser) == []
    urls = requested(browser)
    assert {url.removeprefix(served.url) for url in urls if not url.startswith("data:")} == {"/", "/health", "/score"}
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0


@pytest.mark.parametrize(
    ("coverage", "words"), [(0.9, "90"), (0.995, "99.5"), (0.29, "29"), (0.999, "99.9"), (0.9999, "99.9")]
)
def test_the_coverage_is_told_to_a_decimal(served, opened, coverage, words):
    browser = opened(served.url)
    script = "coverage = arguments[0]; show({score: 3, low: 2, high: 4}, {low: 1, high: 6, step: 1})"
    browser.execute_script(script, coverage)
    assert f"Interval: 2 to 4. For {words} of 100 essays" in shown(browser, "interval")


def test_the_keyboard_alone_is_enough(served, opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = opened(served.url)
    keys = ActionChains(browser)
    keys.send_keys(*[Keys.TAB] * 3, "n", Keys.TAB, "The bridge.", Keys.TAB, Keys.ENTER).perform()
    wait(browser, "return !document.getElementById('answer').hidden")
    assert "0 to 2" in shown(browser, "scale")
    assert browser.execute_script("return document.activeElement.id") == "answer"
    browser.find_element("id", "text").send_keys(" More.", Keys.CONTROL + Keys.ENTER)
    wait(browser, "return !document.getElementById('answer').hidden")


def test_every_field_has_a_label_and_faults_are_announced(served, opened):
    browser = opened(served.url)
    labels = browser.execute_script(
        "return ['prompt', 'text', 'file', 'table-prompt', 'format', 'keep'].map("
        "id => document.getElementById(id).labels[0].textContent)"
    )
    assert labels == [
        *("Prompt that the essay answers", "Essay", "Table", "Prompt", "Format of the scores"),
        "Keep the table\u2019s own columns behind the scores",
    ]
    browser.find_element("id", "go").click()
    assert shown(browser, "fault") == "There is no essay. Paste one into the field above."
    role, invalid, focus = browser.execute_script(
        "return [document.getElementById('fault').getAttribute('role'), "
        "document.getElementById('text').hasAttribute('aria-invalid'), document.activeElement.id]"
    )
    assert (role, invalid, focus) == ("alert", True, "text")


def test_a_refusal_is_shown_in_the_servers_words(served, opened):
    browser = opened(served.url)
    browser.execute_script("document.getElementById('text').value = 'a'.repeat(100001)")
    browser.find_element("id", "go").click()
    wait(browser, "return !document.getElementById('fault').hidden")
    assert shown(browser, "fault") == "essays[0].text has 100001 characters; 100000 at most are taken."
    assert shown(browser, "answer") is None


def test_what_tries_to_be_html_is_shown_and_not_run(evil, opened):
    from selenium.common.exceptions import NoAlertPresentException

    browser = opened(evil)
    score(browser, f"{EVIL} words", EVIL)
    assert f"Model {EVIL}" in shown(browser, "facts")
    assert EVIL in shown(browser, "prompt-words")
    assert shown(browser, "kinds") == "too short"
    assert shown(browser, "reasons") == f"It is {EVIL}."
    keep(browser, "serve_advised")
    score(browser, f"odd {EVIL}", EVIL)
    assert shown(browser, "answer-title") == "No score"
    assert shown(browser, "score") is None
    keep(browser, "serve_withheld")
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert.text
    assert browser.execute_script("return [document.scripts.length, document.images.length]") == [1, 0]
    assert complaints(browser) == []


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
        "document.createElement('img').setAttribute('onerror', 'alert(1)')",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'alert(1)'}))",
    ],
)
def test_words_cannot_become_a_script(served, opened, attempt):
    from selenium.common.exceptions import JavascriptException

    browser = opened(served.url)
    with pytest.raises(JavascriptException, match=r"requires 'Trusted(HTML|Script)' assignment"):
        browser.execute_script(attempt)


@pytest.mark.parametrize(("theme", "width"), [("light", 1000), ("dark", 1000), ("light", 380)])
def test_why_the_essay_got_its_score(served, opened, scorer, theme, width):
    browser = opened(served.url, width, theme)
    text = "All of us walk to school by the river. The bridge is bad! 🌉 It rains; we swim. Nobody likes it, we think."
    score(browser, text, "notice")
    browser.find_element("id", "ask-why").click()
    wait(browser, "return !document.getElementById('why').hidden || !document.getElementById('fault').hidden")
    assert shown(browser, "fault") is None
    marks = browser.execute_script(
        "return [...document.querySelectorAll('.marked .mark')].map(mark => [mark.firstChild.data, "
        "mark.lastChild.textContent])"
    )
    (expected,) = explain_essays(scorer, [UnscoredEssay("1", "notice", text)])
    assert [text for text, _ in marks] == [span.of(expected.text).rstrip() for span in expected.sentences]
    numbers = [float(value.replace("\u2212", "-")) for _, value in marks]
    assert numbers == pytest.approx(expected.scores[0].contributions, abs=0.0006)
    assert len(browser.find_elements("css selector", ".key .mark")) > 0
    assert shown(browser, "ask-why") is None
    browser.execute_script("document.querySelector('.marked .mark').focus()")
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector('.marked .mark small')).display")
        != "none"
    )
    keep(browser, f"serve_why_{theme}_{width}")
    assert complaints(browser) == []
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0
    score(browser, text, "notice")
    assert shown(browser, "why") is None


def test_an_explained_essay_is_text(evil, opened):
    browser = opened(evil)
    score(browser, f"An odd one {EVIL}. Another one.", EVIL)
    browser.execute_script(
        "showWhy({sentences: [{text: arguments[0]}], scores: [{trait: arguments[0], contributions: [1], raw: 1, "
        "features: {baseline: 0, groups: {[arguments[0]]: 1}}, next_point: null}]})",
        EVIL,
    )
    assert EVIL in shown(browser, "why-body")
    assert browser.execute_script("return document.querySelectorAll('#why script, #why img').length") == 0


TABLE = """essay_id,prompt_id,class,text
e1,letter,007,"The bridge, the ""old"" one."
e2,notice,8b,"We swim.
We walk."
e3,notice,8b,
<b>4</b>,letter,8b,Nobody likes it.
"""


@pytest.fixture
def upload(opened, tmp_path):
    """Opens a page, puts a file in, and scores it."""
    from selenium.webdriver.support.ui import Select

    def uploads(url, content=TABLE, name="class 8b.csv", width=1000, theme="light", **choices):
        browser = opened(url, width, theme)
        browser.find_element("id", "mode-table").click()
        path = tmp_path / name
        path.write_bytes(content.encode())
        browser.find_element("id", "file").send_keys(str(path))
        for field, value in choices.items():
            Select(browser.find_element("id", field)).select_by_value(value)
        browser.find_element("id", "go-table").click()
        done = ["table-answer", "fault"]
        wait(browser, f"return {done}.some(name => !document.getElementById(name).hidden) && !busy")
        return browser

    return uploads


def cells(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )


@pytest.mark.parametrize(("theme", "width"), [("light", 1000), ("dark", 1000), ("light", 380), ("dark", 380)])
def test_a_table_with_its_scores(served, upload, theme, width):
    browser = upload(served.url, width=width, theme=theme)
    assert shown(browser, "fault") is None
    assert shown(browser, "form") is None
    assert shown(browser, "tally") == "4 essays, 1 without a score."
    head, first, reason, *others = cells(browser)
    assert head == ["essay", "prompt", "score"]
    assert (first, reason) == (["e3", "notice", "\u2013"], ["no score: empty"])
    assert [row[:2] for row in others] == [["e1", "letter"], ["e2", "notice"], ["<b>4</b>", "letter"]]
    points = [row[2] for row in others]
    assert len({len(point.partition(".")[2]) for point in points}) == 1  # so that their points stand below each other
    assert browser.find_element("id", "save").get_attribute("download") == "class 8b-scores.csv"
    keep(browser, f"serve_table_{theme}_{width}")
    assert complaints(browser) == []
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_what_is_saved_is_what_the_server_sent(served, upload, tmp_path, form):
    import urllib.request

    from selenium.webdriver.support.ui import WebDriverWait

    browser = upload(served.url, format=form)
    place = {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", place)
    browser.find_element("id", "save").click()
    path = tmp_path / "saved" / f"class 8b-scores.{form}"
    WebDriverWait(browser, 30).until(lambda _: path.exists() and path.stat().st_size)
    kind = {"Content-Type": "text/csv"}
    asked = urllib.request.Request(f"{served.url}/score-table?format={form}", TABLE.encode(), kind)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert path.read_bytes() == answer.read()
    assert complaints(browser) == []
    if form == "parquet":
        assert shown(browser, "tally") == "The scores are ready."
        assert shown(browser, "rows") is None
    else:
        assert len(cells(browser)) == 6


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (TABLE, "essays.txt", "The file is no table that is read here. Save it as csv, tsv, jsonl, xlsx or parquet."),
        (
            TABLE.replace("letter", EVIL),
            "a.csv",
            "Essay 1 of the table: prompt_id '<script>alert(1)</script><img src=x",
        ),
        ("prompt_id,text\nletter\n", "a.csv", "Row 2 of table.csv: expected 2 values as in the header, found 1."),
    ],
)
def test_a_table_that_is_refused(served, upload, content, name, words):
    browser = upload(served.url, content, name)
    assert shown(browser, "fault").startswith(words)
    assert shown(browser, "table-answer") is None
    assert browser.execute_script("return document.getElementById('file').hasAttribute('aria-invalid')")
    keep(browser, "serve_table_refused")


def test_a_table_that_is_not_there(served, opened):
    browser = opened(served.url)
    browser.find_element("id", "mode-table").click()
    browser.find_element("id", "go-table").click()
    assert shown(browser, "fault") == "There is no table. Choose a file above."
    assert browser.execute_script("return document.activeElement.id") == "file"
    browser.find_element("id", "mode-essay").click()
    assert shown(browser, "fault") is None
    assert shown(browser, "text") is not None


def test_a_table_without_prompts_on_one_that_is_chosen(served, upload):
    browser = upload(served.url, "essay\nThe bridge.\n", "a.csv", **{"table-prompt": "notice"})
    assert [row[1] for row in cells(browser)] == ["prompt", "notice"]
    assert shown(browser, "tally") == "1 essay."


def test_traits_have_a_column_each_and_a_wide_table_says_that_it_scrolls(served, opened):
    browser = opened(served.url, 380)
    names = [f"a trait {number}" for number in range(12)]
    browser.execute_script(
        "turnTo(true); prompts.get('letter').traits = Object.fromEntries(arguments[0].map(name => [name, {}]));"
        "showTable([Object.fromEntries([['essay_id', '1'], ...arguments[0].map((name, place) => [name, place / 4])])],"
        "new Blob(), 'a.csv')",
        names,
    )
    head, row = cells(browser)
    assert head == ["essay", "prompt", *names]
    assert row[2:6] == ["0", "0.25", "0.5", "0.75"]
    assert shown(browser, "rows-hint") == "The table scrolls sideways."
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) == 0


def test_only_some_rows_of_a_long_table_are_shown_those_with_advisories_first(served, opened):
    browser = opened(served.url)
    browser.execute_script(
        "turnTo(true); showTable([...Array(50).keys()].map(place => ({essay_id: String(place), score: 3, "
        "withheld: place === 49, advisories: place > 47 ? ['too_short'] : []})), new Blob(), 'a.csv')"
    )
    assert shown(browser, "tally") == "50 essays, 1 without a score, 1 with a score to look at."
    assert shown(browser, "rows-hint") == "20 of 50 rows, those with advisories first."
    assert [row[0] for row in cells(browser)][:6] == ["essay", "48", "too short", "49", "no score: too short", "0"]
    assert len(cells(browser)) == 23


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,b\n1,"x, ""y""\nz"\n', [{"a": "1", "b": 'x, "y"\nz'}]),
        ("a,b\n,\n", [{"a": "", "b": ""}]),
        ('a\n""\n', [{"a": ""}]),
        ('a\n""""\n', [{"a": '"'}]),
    ],
)
def test_csv_is_read(served, opened, text, rows):
    assert opened(served.url).execute_script("return parsedCsv(arguments[0])", text) == rows
