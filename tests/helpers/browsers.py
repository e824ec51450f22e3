"""A real browser for tests of pages, where the machine has one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window, driven by playwright; the test is skipped where either is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the extra test)")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is on the PATH")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found)
        try:
            yield started
        finally:
            started.close()
