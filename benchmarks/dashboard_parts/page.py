"""The dashboard's page in a real Chromium: how soon lists and a row of 200,000 tokens are there, what scrolling costs.

The floor beside it is the same text in one <pre>: what the browser itself needs to scroll it. CPU is the main thread's.
"""

import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from anyio.from_thread import start_blocking_portal

from envhub.dashboard.api import create_app
from envhub.dashboard.decoder import Decoder
from envhub.dashboard.page import STATIC
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.showcase import Showcase, record
from envhub.testing.showcase.run import MODEL

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
ROLLOUTS, QUICK_ROLLOUTS = 100_000, 8_000
OPENED = 5  # times, each page
FRAMES, PASSES = 120, 5

SCROLL = """async ([element, frames]) => {
    const scroller = document.querySelector(element)
    const took = []
    scroller.scrollTop = 0
    let last = performance.now()
    for (let frame = 0; frame < frames; frame++) {
        await new Promise(requestAnimationFrame)
        const now = performance.now()
        took.push(now - last)
        last = now
        scroller.scrollTop += scroller.clientHeight
    }
    return took.slice(1)
}"""


# To the frame that shows the element, by the page's own clock: from outside it is seen up to half a second late.
SHOWN = """async element => {
    while (document.querySelector(element) === null) await new Promise(requestAnimationFrame)
    await new Promise(requestAnimationFrame)
    return performance.now()
}"""


@dataclass(frozen=True, slots=True)
class Scrolled:
    """A screenful a frame, several times: what else the machine does lengthens a frame of some of them."""

    worst_ms: float  # between one frame and the next, by the clock: the longest of a pass, the median of all passes
    cpu_ms: float  # of the main thread, a frame
    elements: int


def measured(quick: bool) -> list[dict[str, object]]:
    """Figures; none where there is nothing to measure with, which is said on stderr."""
    showcase = Showcase(now=time.time(), rollouts=QUICK_ROLLOUTS if quick else ROLLOUTS)
    with browser() as chromium:
        if chromium is None:
            return []
        print(f"page: writing {showcase.rollouts:,} rollouts", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder, _served(showcase, Path(folder)) as url:
            return _figures(chromium, url, showcase)


@contextmanager
def browser() -> Iterator["Browser | None"]:
    """Chromium; None: it, or the page, is missing, which is said on stderr."""
    if missing := _missing():
        print(f"page: {missing}; not measured", file=sys.stderr)
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        program = next(filter(None, map(shutil.which, NAMES)))
        chromium = started.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


def _missing() -> str:
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "Playwright is not installed"
    if not any(map(shutil.which, NAMES)):
        return "no Chromium is installed"
    return "" if (STATIC / "index.html").is_file() else "the page is not built; `make web` does it"


def _figures(browser: "Browser", url: str, showcase: Showcase) -> list[dict[str, object]]:
    print("page: opening", file=sys.stderr)
    tokens = f"{url}/rollouts/{showcase.rollout('long')}/tokens"
    rollouts = _opened(browser, f"{url}/rollouts", "table.rollouts tbody tr")
    visible = _opened(browser, tokens, ".token-scroll .line")
    print("page: scrolling", file=sys.stderr)
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(tokens)
    page.locator(".token-scroll .line").first.wait_for()
    page.get_by_text("loaded").wait_for(state="detached")
    ours = _scrolled(page, ".token-scroll")
    floor = _scrolled(_plain(page, url, showcase), "pre")
    return [
        _figure(f"list_visible_ms_of_{showcase.rollouts}", rollouts, "ms", 1000),
        _figure("tokens_visible_ms", visible, "ms", 1500),
        _figure("tokens_elements", ours.elements, "elements", 5000),
        _figure("tokens_worst_frame_ms", ours.worst_ms, "ms", 100) | {"floor": round(floor.worst_ms, 1)},
        {
            "name": "tokens_scroll_cpu_ms_per_frame",
            "value": round(ours.cpu_ms, 1),
            "unit": "ms",
            "floor": round(floor.cpu_ms, 1),
            "ratio": round(ours.cpu_ms / floor.cpu_ms, 1),
        },
    ]


def _figure(name: str, value: float, unit: str, goal: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 1), "unit": unit, "goal": f"<= {goal:g}", "ok": value <= goal}


def _opened(browser: "Browser", url: str, element: str) -> float:
    """Milliseconds from asking for the page until it shows the element, in a fresh profile each time."""
    times = []
    for _ in range(OPENED):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(url, wait_until="commit")
        times.append(page.evaluate(SHOWN, element))
        context.close()
    return statistics.median(times)


def _scrolled(page: "Page", element: str) -> Scrolled:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy_s(session.send("Performance.getMetrics"))
    worst = [max(page.evaluate(SCROLL, [element, FRAMES])) for _ in range(PASSES)]
    busy = _busy_s(session.send("Performance.getMetrics")) - before
    elements = page.evaluate("document.querySelectorAll('*').length")
    return Scrolled(statistics.median(worst), 1000 * busy / (PASSES * FRAMES), elements)


def _busy_s(answer: dict[str, list[dict[str, Any]]]) -> float:  # Any: DevTools' answers have no types
    return float(next(one["value"] for one in answer["metrics"] if one["name"] == "TaskDuration"))


def _plain(page: "Page", url: str, showcase: Showcase) -> "Page":
    """The row's text and nothing else."""
    base = f"{url}/api/rollouts/{showcase.rollout('long')}/rows/0/tokens"
    pieces: list[str] = []
    while len(pieces) < showcase.long_tokens:
        pieces += page.request.get(base, params={"offset": len(pieces), "limit": 65_536}).json()["pieces"]
    page.goto("about:blank")
    page.evaluate(
        """text => {
            const pre = document.body.appendChild(document.createElement('pre'))
            pre.style = 'height: 540px; overflow: auto; white-space: pre-wrap; font: 13px/24px monospace'
            pre.textContent = text
        }""",
        "".join(pieces),
    )
    return page


@contextmanager
def _served(showcase: Showcase, folder: Path) -> Iterator[str]:
    """The dashboard over the showcase, in a thread of its own."""

    async def written() -> SqlTraceStore:
        store = await open_store(str(folder / "page.db"))
        await record(store, showcase)
        return store

    async def server_of(store: SqlTraceStore) -> uvicorn.Server:
        app = create_app(store, Decoder(MODEL, showcase.vocabulary.decode))
        return uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))

    with socket.create_server(("127.0.0.1", 0)) as listener, start_blocking_portal() as portal:
        store = portal.call(written)
        server = portal.call(server_of, store)
        running = portal.start_task_soon(server.serve, [listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            running.result()
            portal.call(store.close)
