"""The top of a monitor's page, down to its charts, as Chromium shows it.

python recipes/programme/picture.py runs/programme/2026/monitor/monitor.html     # monitor.png; needs selenium, chromium
"""

from __future__ import annotations

import argparse
import base64
import shutil
from pathlib import Path

OUTPUT = Path(__file__).parent / "monitor.png"
WIDTH, MOST = 950, 3000


def picture(page: Path) -> bytes:
    """A page from its top to the section behind its charts, as a png."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        screen = {"width": WIDTH, "height": MOST, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(page.absolute().as_uri())
        end = driver.execute_script("return document.querySelector('#scores').getBoundingClientRect().top")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": end, "scale": 1}
        return base64.b64decode(
            driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})["data"]
        )
    finally:
        driver.quit()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="monitor.html")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.output.write_bytes(picture(options.page))


if __name__ == "__main__":
    main()
