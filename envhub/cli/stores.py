"""`envhub store`: what a database holds, and the removal of what nobody needs any more."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import anyio
import typer

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, facts, note, out, print_json, table
from envhub.contracts.ids import RunId
from envhub.errors import UnknownName, UsageError
from envhub.store import retention
from envhub.store.address import address_of, shown
from envhub.store.database import Database
from envhub.store.opening import opening
from envhub.store.payloads import garbage as waste
from envhub.store.payloads.garbage import Garbage, Heap
from envhub.store.payloads.moving import move
from envhub.store.payloads.place import open_payloads
from envhub.store.retention import OldRun
from envhub.store.sizes import Sizes, sizes

UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+)([mhdw])")

store = typer.Typer(help="See what a database holds, and remove what is old or unused.", no_args_is_help=True)

Apply = Annotated[bool, typer.Option("--apply", help="Do it; else it is only shown what would be done.")]


@store.command("info")
def info(database: options.Database = "envhub.db", as_json: options.AsJson = False) -> None:
    """Show how large a database is, what lies where, and its runs, the oldest first."""
    anyio.run(_info, database, as_json, backend_options=LOOP)


@store.command("gc")
def collect(apply: Apply = False, database: options.Database = "envhub.db", as_json: options.AsJson = False) -> None:
    """Remove payloads that no run uses any more, also while runs write.

    What somebody wanted to write within the last day stays. Exit code: 1 where payloads that runs use are missing.
    """
    found = anyio.run(_collect, database, apply, backend_options=LOOP)
    if as_json:
        print_json(asdict(found))
    else:
        _show_garbage(found, apply)
    if found.missing:
        raise typer.Exit(1)


@store.command("prune")
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Runs without an event for as long, like 12h, 30d or 8w.", show_default=False
        ),
    ] = "",
    runs: Annotated[
        list[str] | None, typer.Option("--run", metavar="RUN", help="This run; may be repeated.", show_default=False)
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also runs that `envhub run --resume` could go on with.")
    ] = False,
    apply: Apply = False,
    database: options.Database = "envhub.db",
) -> None:
    """Remove whole runs: their rollouts, tokens and events. `envhub store gc` then removes their payloads.

    A run that a process holds stays, and so does the newest one.
    """
    if bool(older_than) == bool(runs):
        raise UsageError("say which runs: --older-than TIME, or --run RUN")
    age_s = span(older_than) if older_than else 0.0
    anyio.run(_prune, database, age_s, [RunId(run) for run in runs or ()], unfinished, apply, backend_options=LOOP)


@store.command("migrate")
def migrate(database: options.Database = "envhub.db") -> None:
    """Bring a database to the revision of this envhub, which every `envhub run` does, too."""
    revision = anyio.run(_migrate, database, backend_options=LOOP)
    note(f"{shown(database)} is of revision {revision}")


@store.command("move")
def move_payloads(
    to: Annotated[str, typer.Argument(metavar="FOLDER|URL", help="Where they shall be.")],
    database: options.Database = "envhub.db",
) -> None:
    """Copy payloads to another place, check them, and use that from then on. The old ones are left to you.

    A run that still writes to the old place ends with an error and can be gone on with.
    """
    moved = anyio.run(_move, database, to, backend_options=LOOP)
    note(f"copied {_heap(moved)}; the database says that they are in {to}")


def span(given: str) -> float:
    """Seconds.

    Raises:
        UsageError: it does not read like 12h.
    """
    match = _SPAN.fullmatch(given)
    if match is None:
        raise UsageError(f"'{given}' is no span of time; give a number and m, h, d or w, like 12h or 30d")
    return int(match[1]) * UNITS[match[2]]


@asynccontextmanager
async def _opened(database: str, *, read_only: bool) -> AsyncIterator[Database]:
    address = address_of(database)
    if isinstance(address, Path) and not await anyio.Path(address).exists():
        raise UsageError(f"no database '{database}'; `envhub run` makes one, --database names another")
    async with opening(database, read_only=read_only) as opened:
        try:
            yield opened
        finally:
            await opened.close()


async def _info(database: str, as_json: bool) -> None:
    async with _opened(database, read_only=True) as opened:
        found, runs = await opened.read(sizes), await retention.runs_by_age(opened)
    if as_json:
        print_json({**asdict(found), "run_list": [asdict(run) for run in runs]})
        return
    _show_sizes(shown(database), found)
    if runs:
        out.print()
        _show_runs([(run, run.members.equation()) for run in runs], "members")


async def _collect(database: str, apply: bool) -> Garbage:
    async with _opened(database, read_only=not apply) as opened:
        payloads = await open_payloads(opened, "", read_only=not apply)
        return await (waste.collect if apply else waste.garbage)(opened, payloads)


async def _prune(database: str, age_s: float, named: Sequence[RunId], unfinished: bool, apply: bool) -> None:
    async with _opened(database, read_only=not apply) as opened:
        runs = await retention.runs_by_age(opened)
        for name in named:
            if name not in {run.run_id for run in runs}:
                raise UnknownName.of("run", name, [run.run_id for run in runs])
        old = [run for run in runs if run.run_id in named or (not named and run.age_s > age_s)]
        fates = [(run, await _fate(opened, run, unfinished, apply)) for run in old]
        if apply and (left := await retention.prune_leftovers(opened)):
            note(f"removed what was left of {count(left, 'run')}, whose removal was cut off")
    if not old:
        note("no run is as old")
        return
    _show_runs(fates, "removed" if apply else "would be removed")
    note("`envhub store gc` removes their payloads" if apply else "nothing was removed; --apply does it")


async def _fate(database: Database, run: OldRun, unfinished: bool, apply: bool) -> str:
    if why := run.kept_because(unfinished=unfinished):
        return f"no: {why}"
    if apply:
        try:
            await retention.prune(database, run.run_id)
        except UsageError as held:
            return f"no: {held}"
    return "yes"


async def _migrate(database: str) -> str:
    async with _opened(database, read_only=False) as opened:
        return (await opened.read(sizes)).revision


async def _move(database: str, to: str) -> Heap:
    async with _opened(database, read_only=False) as opened:
        return await move(opened, to)


def _show_sizes(name: str, found: Sizes) -> None:
    free = f", {size(found.free_bytes)} of it free for what comes next" if found.free_bytes else ""
    place = f"{_heap(found.payloads)} in {found.place}" if found.place else "in the database, however large"
    rows = [
        ("[bold]database[/]", f"{name}, revision {found.revision}, {size(found.size_bytes)}{free}"),
        (
            "[bold]log[/]",
            f"{count(found.runs, 'run')}, {count(found.rollouts, 'rollout')}, {count(found.events, 'event')}",
        ),
        ("[bold]files[/]", f"{_heap(found.files)} in the database"),
        ("[bold]payloads[/]", place),
    ]
    out.print(facts(rows))


def _show_runs(rows: Sequence[tuple[OldRun, str]], last: str) -> None:
    columns = ("run", "started", "last event", "events", "size", last)
    cells = [
        (
            run.run_id,
            _time(run.started_at),
            f"{run.age_s / 86_400:.1f} d ago",
            f"{run.events:,}",
            size(run.size_bytes),
            fate,
        )
        for run, fate in rows
    ]
    out.print(table(columns, cells, right=("events", "size")))


def _show_garbage(found: Garbage, apply: bool) -> None:
    what = [
        ("files in the database that no run uses", found.files),
        ("payloads that no run uses", found.payloads),
        ("strays: left by processes that died, or by a database brought back from a copy", found.strays),
    ]
    rows = [(f"{heap.count:,}", size(heap.size_bytes), name) for name, heap in what]
    out.print(table(("count", "size", "removed" if apply else "would be removed"), rows, right=("count", "size")))
    for sha256 in found.missing:
        out.print(f"[bold red]missing[/]  {sha256}, which a run uses: bring it back from a copy", soft_wrap=True)
    if not apply:
        note("nothing was removed; --apply does it")


def _heap(heap: Heap) -> str:
    return f"{heap.count:,} of {size(heap.size_bytes)}"


def size(size_bytes: float) -> str:
    """For a person: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:,.0f} {unit}" if unit == "B" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:,.1f} TiB"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
