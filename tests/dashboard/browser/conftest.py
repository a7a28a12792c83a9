"""A real Chromium before a store of all kinds of rollouts; for what depends on their number, of 100,000."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from envhub.contracts.store import BrowsableStore
from envhub.dashboard.api import create_app
from envhub.dashboard.decoder import Decoder
from envhub.dashboard.page import STATIC
from envhub.store.sql_store import open_store
from envhub.testing.showcase import Showcase, record
from envhub.testing.showcase.run import MODEL
from tests.dashboard.browser.site import Site, serve

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
playwright.expect.set_options(timeout=20_000)

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
ROLLOUTS = 2_000
MANY = int(os.environ.get("ENVHUB_SHOWCASE", "100000"))


@pytest.fixture(scope="session")
def chromium() -> str:
    """Its program. Where it or the built page is missing, tests skip, or fail if ENVHUB_REQUIRE_BROWSER=1."""
    program = next(filter(None, map(shutil.which, NAMES)), "")
    missing = "" if program else "no Chromium is installed"
    missing = missing or ("" if (STATIC / "index.html").is_file() else "the page is not built; `make web` does it")
    if missing and os.environ.get("ENVHUB_REQUIRE_BROWSER") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return program


@pytest.fixture(scope="module")  # no longer: while it lives a loop runs in this thread, and async tests can't
def browser(chromium: str) -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def showcase() -> Showcase:
    return Showcase(now=time.time(), rollouts=ROLLOUTS)


@pytest.fixture(scope="session")
def site(chromium: str, showcase: Showcase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Written once for all tests; they must not add to it."""
    with recorded(showcase, tmp_path_factory.mktemp("showcase")) as site:
        yield site


@pytest.fixture(scope="session")
def crowded(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same with 100,000 rollouts, which take a while to write."""
    with recorded(Showcase(now=time.time(), rollouts=MANY), tmp_path_factory.mktemp("crowded")) as site:
        yield site


@contextmanager
def recorded(showcase: Showcase, folder: Path) -> Iterator[Site]:
    async def written() -> BrowsableStore:
        store = await open_store(str(folder / "showcase.db"))
        await record(store, showcase)
        return store

    def app(store: BrowsableStore) -> FastAPI:
        return create_app(store, Decoder(MODEL, showcase.vocabulary.decode))

    with serve(written, app) as site:
        yield site


@pytest.fixture
def page(browser: "playwright.Browser") -> Iterator["playwright.Page"]:
    """A page in a fresh profile. What it complains of on its console fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(20_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.complaints = complaints  # type: ignore[attr-defined]
    yield page
    context.close()
    assert complaints == []
