"""Headless Chromium for tests of pages: skipped where there is none, unless AES_DYNLOSS_BROWSER=1 wants it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
REQUIRED = os.environ.get("AES_DYNLOSS_BROWSER") == "1"
# A folder for screenshots.
ARTIFACTS = os.environ.get("AES_DYNLOSS_ARTIFACTS")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


def skip_without() -> None:
    """Skip a module of tests where no browser is and none is required."""
    if not REQUIRED:
        pytest.importorskip("selenium")
        if CHROMIUM is None or DRIVER is None:
            pytest.skip("no chromium or no chromedriver", allow_module_level=True)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser that keeps its console's and its network's log; dialogs stay open, so that a script's alert shows."""
    from selenium import webdriver

    assert CHROMIUM, "AES_DYNLOSS_BROWSER=1, but there is no chromium."
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
