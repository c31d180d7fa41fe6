"""A page in headless Chromium: what it complains of, asks for, does not show or lets run over the edge is a failure.

Not a test by itself: `check_page` is for tests, which are skipped where Chromium, its driver or selenium is absent.
"""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
OWN_SCHEMES = ("file:", "data:", "blob:")
_HEIGHT = 900
_SHEET = 688  # pixels of the 182 mm that margins of 14 mm leave of A4
_TALLEST = 16_000  # pixels of a screenshot; what is longer comes in several


def check_page(path: Path, widths: Sequence[int] = (1280, 390), screenshots: Path | None = None) -> None:
    """Open a file at each width (pixels) and assert that it is whole.

    No message in the browser's log, no request but for `file:` and `data:`, every image decoded and with an
    alternative text, nothing wider than the window, also when everything is unfolded, and nothing wider than a sheet of
    paper in print. Screenshots of the full page go to `screenshots`, if given, as `<stem>_<width>.png` and
    `<stem>_print.png`. Skips the test where the browser is absent.
    """
    assert path.is_file(), path
    for width in widths:
        with TemporaryDirectory(ignore_cleanup_errors=True) as profile, _browser(profile) as driver:
            _resize(driver, width, _HEIGHT)
            driver.get(path.absolute().as_uri())
            _wait_for_images(driver)
            if screenshots is not None:
                _photograph(driver, width, Path(screenshots) / f"{path.stem}_{width}")
            _check_images(driver)
            _check_edges(driver, width)
            driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
            _check_edges(driver, width)
            asked = _requests(driver)
            assert any(url == path.absolute().as_uri() for url in asked), asked
            strangers = [url[:200] for url in asked if not url.startswith(OWN_SCHEMES)]
            assert not strangers, strangers
            _check_print(driver, width, None if screenshots is None else Path(screenshots) / f"{path.stem}_print")
            complaints = driver.get_log("browser")
            assert not complaints, complaints


@contextmanager
def _browser(profile: str) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_program = shutil.which("chromedriver")
    if chromium is None or driver_program is None:
        pytest.skip("Chromium or its driver is not installed (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_program)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(60)
        driver.execute_cdp_cmd("Network.enable", {})
        driver.get("about:blank")
        for log in ("performance", "browser"):
            driver.get_log(log)  # what the browser asked for to show its own first page
        yield driver
    finally:
        driver.quit()


def _resize(driver: Any, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _wait_for_images(driver: Any) -> None:
    driver.execute_async_script(
        "const done = arguments[0];"
        "Promise.all(Array.from(document.images).map(i => i.decode().catch(() => null))).then(() => done());"
    )


def _check_images(driver: Any) -> None:
    broken = driver.execute_script(
        "return Array.from(document.images).filter(i => !i.complete || i.naturalWidth == 0 || !i.alt.trim())"
        ".map(i => i.alt + ' ' + i.src.slice(0, 60));"
    )
    assert not broken, broken


def _check_edges(driver: Any, width: int) -> None:
    """What scrolls within itself may be as wide as it likes; everything else ends at the window's edge."""
    assert driver.execute_script("return window.innerWidth") == width, "something is wider than the window"
    found = driver.execute_script("return document.documentElement.scrollWidth")
    wide = driver.execute_script(
        "return Array.from(document.body.querySelectorAll('*'))"
        ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1 && !e.closest('.scroll, pre'))"
        ".slice(0, 5).map(e => e.outerHTML.slice(0, 120));"
    )
    assert found <= width, (found, wide)
    assert not wide, wide


def _check_print(driver: Any, width: int, stem: Path | None) -> None:
    """Lay the page out as for a sheet of A4, on which nothing is scrolled or unfolded: all has to be there."""
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = false)")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    _resize(driver, _SHEET, _HEIGHT)
    if stem is not None:
        _photograph(driver, _SHEET, stem)
    wide = driver.execute_script(
        "return Array.from(document.body.querySelectorAll('*')).filter(e => e.getBoundingClientRect().right > "
        "window.innerWidth + 1).slice(0, 5).map(e => e.outerHTML.slice(0, 120));"
    )
    assert not wide, wide
    hidden = driver.execute_script(
        "return Array.from(document.querySelectorAll('details > :not(summary), details tr')).filter(e => "
        "!e.checkVisibility() || e.getBoundingClientRect().height < 1).slice(0, 5).map(e => e.outerHTML.slice(0, 120));"
    )
    assert not hidden, hidden
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    _resize(driver, width, _HEIGHT)


def _requests(driver: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def _photograph(driver: Any, width: int, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    for old in stem.parent.glob(f"{stem.name}*.png"):
        if re.fullmatch(r"(_\d+)?", old.stem.removeprefix(stem.name)):
            old.unlink()
    height = driver.execute_script("return document.documentElement.scrollHeight")
    for number, top in enumerate(range(0, height, _TALLEST)):
        clip = {"x": 0, "y": top, "width": width, "height": min(_TALLEST, height - top), "scale": 1}
        asked = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]
        name = f"{stem.name}.png" if number == 0 else f"{stem.name}_{number}.png"
        (stem.parent / name).write_bytes(b64decode(picture))
