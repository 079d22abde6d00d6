"""A picture of a page as Chromium shows it, from its top.

python recipes/page_picture.py runs/monitor/monitor.html --down-to '#scores' -o monitor.png

Needs selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import base64
import shutil
from pathlib import Path

WIDTH, MOST = 950, 3000


def picture(page: Path, height: int = MOST, *, focus: str | None = None, down_to: str | None = None) -> bytes:
    """The top of a page, as a png.

    Args:
        page: An html file.
        height: Pixels of the window.
        focus: Selector of an element to focus.
        down_to: Selector of an element above which the picture ends; None: where the window does.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        screen = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(page.absolute().as_uri())
        if focus is not None:
            driver.execute_script("document.querySelector(arguments[0]).focus(); scrollTo(0, 0)", focus)
        if down_to is not None:
            top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
            height = driver.execute_script(top, down_to)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        return base64.b64decode(shot["data"])
    finally:
        driver.quit()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="an html file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the png")
    parser.add_argument("--down-to", help="selector of an element above which the picture ends")
    options = parser.parse_args()
    options.output.write_bytes(picture(options.page, down_to=options.down_to))


if __name__ == "__main__":
    main()
