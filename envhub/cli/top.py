"""`envhub top`: how a run goes, in the terminal, live."""

import json
import math
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import anyio
import typer
from anyio.to_thread import run_sync
from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.curves import sparkline
from envhub.cli.interrupt import interruptible
from envhub.cli.output import facts, number, out, print_json, table
from envhub.cli.traces import existing_store
from envhub.dashboard.api import create_app
from envhub.dashboard.overview import Overview, overview
from envhub.errors import UsageError

WINDOW_S = 120
ASK_S = 10.0
SLOW = 5

Figures: TypeAlias = Mapping[str, Any]  # the JSON of an Overview
Look: TypeAlias = Callable[[], Awaitable[Figures]]
_AS_DATA = TypeAdapter(Overview)


def top(
    run: options.RunFilter = "",
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="A dashboard to ask, which also knows its loop, places and servers; ENVHUB_TOKEN has its token.",
        ),
    ] = "",
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Show a run as it goes: what it waits for, rates, rewards over versions, failures, slow rollouts. Ctrl-C ends it.

    It reads the database, or asks a dashboard.
    """
    token = os.environ.get("ENVHUB_TOKEN", "")
    anyio.run(_top, run, url, token, database, interval, once or as_json, as_json, backend_options=LOOP)


async def _top(run: str, url: str, token: str, database: str, interval: float, once: bool, as_json: bool) -> None:
    async with interruptible(), _looking(run, url, token, database) as look:
        if once:
            found = await look()
            print_json(found) if as_json else out.print(view(found))
            return
        with Live(console=out, screen=sys.stdout.isatty(), auto_refresh=False) as live:
            while True:
                live.update(view(await look()), refresh=True)
                await anyio.sleep(interval)


@asynccontextmanager
async def _looking(run: str, url: str, token: str, database: str) -> AsyncIterator[Look]:
    if url:
        address = f"{url.rstrip('/')}/api/overview?{urlencode({'run': run, 'window_s': WINDOW_S})}"

        async def ask() -> Figures:
            return await run_sync(_asked, address, token, abandon_on_cancel=True)

        yield ask
        return
    async with existing_store(database) as store:
        shared = create_app(store, None).state.dashboard

        async def look() -> Figures:
            found: Figures = _AS_DATA.dump_python(await overview(shared, run, WINDOW_S), mode="json")
            return found

        yield look


def _asked(address: str, token: str) -> Figures:
    """
    Raises:
        UsageError: no dashboard answers there, or it refuses.
    """
    request = Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urlopen(request, timeout=ASK_S) as response:
            found: Figures = json.load(response)
            return found
    except HTTPError as error:
        raise UsageError(
            f"'{address}' refused with {error.code}; put its token into the variable ENVHUB_TOKEN"
        ) from error
    except (URLError, TimeoutError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise UsageError(f"no dashboard answers at '{address}' ({why}); `envhub serve` starts one") from error


def view(found: Figures) -> RenderableType:
    """Everything on one screen."""
    members = ", ".join(f"{count:,} {state}" for state, count in found["members"].items())
    waiting = ", ".join(f"{count:,} {what}" for what, count in found["waiting"].items()) or "–"
    rates = found["rate"]
    rows = [
        ("[bold]members[/]", f"{found['submitted']:,} submitted: {members or 'none'}"),
        ("[bold]running[/]", f"{found['running']:,} rollouts, waiting for: {waiting}"),
        ("[bold]rollouts/s[/]", _rate(found["rollouts_per_s"], [point["rollouts"] for point in rates])),
        ("[bold]tokens/s[/]", _rate(found["tokens_per_s"], [point["tokens"] for point in rates])),
        ("[bold]ended[/]", _counts(found["outcomes"])),
        ("[bold]failures[/]", _counts(found["boundaries"]) or "none"),
    ]
    versions = found["versions"]
    if versions:
        rows += [
            ("[bold]reward[/]", _curve(versions, "mean_reward", 3)),
            ("[bold]passes[/]", _curve(versions, "pass_rate", 3)),
            ("[bold]tokens[/]", _curve(versions, "mean_tokens", 0)),
        ]
    rows += _live(found["live"])
    parts: list[RenderableType] = [facts(rows)]
    if found["slow"]:
        parts += [Text(), _slow(found["slow"][:SLOW])]
    return Group(*parts)


def _rate(now: float, values: Sequence[float]) -> str:
    return f"{number(now, 1):>12}  {sparkline(values)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {escape(name)}" for name, count in counts.items())


def _curve(points: Sequence[Mapping[str, Any]], name: str, digits: int) -> str:
    values = [math.nan if point[name] is None else point[name] for point in points]
    newest = next((value for value in reversed(values) if not math.isnan(value)), None)
    return f"{number(newest, digits):>12}  {sparkline(values)}  [dim]version {points[-1]['version']}[/]"


def _live(live: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What only the process itself knows."""
    if live is None:
        return []
    lag, slots, sandboxes, feed = live["loop_lag"], live["slots"], live["sandboxes"], live["feed"]
    held = f", worst {lag['worst']['seconds']:.1f} s in {lag['worst']['culprit']}" if lag["worst"] else ""
    rows = [("[bold]loop lag[/]", f"p99 {lag['p99_s'] * 1000:.0f} ms, max {lag['max_s'] * 1000:.0f} ms{escape(held)}")]
    if slots:
        rows.append(("[bold]slots[/]", f"{slots['held']:,} of {slots['limit']:,} held, {slots['waiting']:,} wait"))
    if sandboxes:
        some = f"{sandboxes['leased']} leased, {sandboxes['warm']} warm, {sandboxes['waiting']} wait"
        rows.append(("[bold]sandboxes[/]", some))
    for engine in live["engines"]:
        out_of = "".join(f"; {name} is out: {why}" for name, why in engine["outages"].items())
        rows.append(("[bold]engine[/]", escape(f"{engine['policy_id']}: {engine['model']}{out_of}")))
    if feed:
        consumers = _counts(feed["waiting"]) or "nobody"
        rows.append(("[bold]feed[/]", f"{feed['ready']} ready, {feed['leased']} leased; waiting: {consumers}"))
    return rows


def _slow(slow: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = [
        (
            one["rollout"]["rollout_id"],
            f"{one['seconds']:,.0f}",
            number(one["typical_s"], 0),
            "stuck" if one["stuck"] else "",
            one["waiting"] or "",
            one["rollout"]["environment"],
        )
        for one in slow
    ]
    columns = ("longest running", "seconds", "typical", "", "waits for", "environment")
    return table(columns, rows, right=columns[1:3])
