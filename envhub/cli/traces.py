"""`envhub trace`: the rollouts of a database, one of them in full, or all rows of a run for another program."""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import anyio
import typer

from envhub.app import LOOP, open_traces
from envhub.cli import options
from envhub.cli.export import Format, destination, export
from envhub.cli.output import count, note, number, out, print_json, table
from envhub.cli.recorded import recorded_rollout
from envhub.contracts.events import OperatorActed
from envhub.contracts.ids import EnvironmentId, RolloutId, RunId
from envhub.contracts.outcome import Status
from envhub.contracts.store import BrowsableStore, RolloutQuery, RolloutSummary, TraceStore
from envhub.errors import UnknownName, UsageError
from envhub.trainers.datasets import Chooser

trace = typer.Typer(help="Look at recorded rollouts, or export them.", no_args_is_help=True)


@trace.command("list")
def list_rollouts(
    run: options.RunFilter = "",
    environment: Annotated[
        str, typer.Option(metavar="ENVIRONMENT", help="Only this environment.", show_default=False)
    ] = "",
    status: Annotated[
        str,
        typer.Option(metavar="STATUS", help="Only completed, truncated, failed or cancelled ones.", show_default=False),
    ] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="Rollouts on a page.")] = 20,
    cursor: Annotated[
        str, typer.Option(metavar="CURSOR", help="The next page, as the page before names it.", show_default=False)
    ] = "",
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """List rollouts, newest first, a page at a time."""
    query = RolloutQuery(
        run_id=RunId(run) if run else None,
        environment=EnvironmentId(environment) if environment else None,
        status=_status(status),
        limit=limit,
        cursor=cursor,
    )
    anyio.run(_list, database, query, as_json, backend_options=LOOP)


@trace.command("show")
def show_rollout(
    rollout: Annotated[str, typer.Argument(metavar="ROLLOUT", help="An id, as `envhub trace list` shows it.")],
    tokens: Annotated[bool, typer.Option("--tokens", help="Every sampled token too, as ID:LOGPROB.")] = False,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Show one rollout: what was said, what it was worth, and the rollouts that it started."""
    anyio.run(_show, database, RolloutId(rollout), tokens, as_json, backend_options=LOOP)


@trace.command("export")
def export_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id: what ids of rollouts begin with.")],
    file: Annotated[
        str,
        typer.Option("--file", "-f", metavar="FILE|URL", help="Where to write, like s3://BUCKET/PATH; - is stdout."),
    ] = "-",
    format: Annotated[Format, typer.Option(help="rows, tokens and chat are JSON lines.")] = Format.ROWS,
    min_reward: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Of tokens and chat: only rollouts worth as much.")
    ] = None,
    unique: Annotated[bool, typer.Option("--unique", help="Of tokens and chat: each example only once.")] = False,
    database: options.Database = "envhub.db",
) -> None:
    """Export a run for another program.

    rows: token ids, log probabilities, masks of what was sampled and what trains, and the reward, of every branch of a
    scored rollout. tokens, chat: the same branches as a dataset for supervised training. parquet: the closed groups as
    the feed delivers them.
    """
    if not format.is_dataset and (min_reward is not None or unique):
        raise UsageError(
            f"--min-reward and --unique are of datasets; {format} keeps all: choose --format tokens or chat"
        )
    chooser = Chooser(min_reward=-math.inf if min_reward is None else min_reward, unique=unique)
    anyio.run(_export, database, RunId(run), file, format, chooser, backend_options=LOOP)


@trace.command("acts")
def show_acts(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Show who steered a run by hand, or would have: from the dashboard, the feed, the gateway or by a signal."""
    anyio.run(_acts, database, RunId(run), as_json, backend_options=LOOP)


@asynccontextmanager
async def existing_store(database: str) -> AsyncIterator[BrowsableStore]:
    """The store in a file that is there already, to read.

    Raises:
        UsageError: no such file, or not one of ours.
    """
    store = await open_traces(database, existing=True, read_only=True)
    try:
        yield store
    finally:
        await store.close()


def _status(name: str) -> Status | None:
    if name and name not in list(Status):
        raise UnknownName.of("status", name, list(Status))
    return Status(name) if name else None


async def _show(database: str, id: RolloutId, tokens: bool, as_json: bool) -> None:
    async with existing_store(database) as store:
        rollout = await recorded_rollout(store, id)
    if as_json:
        print_json(rollout.as_json())
    else:
        rollout.show(tokens=tokens)


async def _export(database: str, run_id: RunId, file: str, format: Format, chooser: Chooser) -> None:
    async with existing_store(database) as store:
        await _check_run(store, run_id)
        with destination(file) as path:
            written = await export(store, run_id, path, format, chooser)
    noun = {Format.ROWS: "row", Format.PARQUET: "group"}.get(format, "example")
    note(f"{count(written, noun)} of run {run_id}")


async def _acts(database: str, run_id: RunId, as_json: bool) -> None:
    async with existing_store(database) as store:
        await _check_run(store, run_id)
        acts = [event for event in await store.run_events(run_id) if isinstance(event, OperatorActed)]
    if as_json:
        print_json({"acts": [asdict(act) for act in acts]})
    elif acts:
        out.print(
            table(("time", "who", "role", "from", "via", "act", "with", "refused"), [_act_cells(act) for act in acts])
        )
    else:
        note(f"nobody steered run {run_id} by hand")


def _act_cells(act: OperatorActed) -> tuple[str, ...]:
    at = datetime.fromtimestamp(act.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    detail = json.dumps(act.detail) if act.detail else ""
    return at, act.operator, act.role, act.address, act.via, act.action, detail, act.refused


async def _check_run(store: TraceStore, run_id: RunId) -> None:
    runs = [run.run_id for run in await store.runs()]
    if run_id not in runs:
        raise UnknownName.of("run", run_id, runs)


async def _list(database: str, query: RolloutQuery, as_json: bool) -> None:
    async with existing_store(database) as store:
        if query.run_id is not None:
            await _check_run(store, query.run_id)
        page = await store.rollouts(query)
    if as_json:
        rows = [{field: getattr(row, field) for field in row.__slots__} for row in page.rollouts]
        print_json({"rollouts": rows, "next_cursor": page.next_cursor, "total": page.total})
        return
    if not page.rollouts:
        note("no rollout matches")
        return
    columns = ("rollout", "environment", "task", "reward", "tokens", "status")
    out.print(table(columns, [_cells(row) for row in page.rollouts], right=("reward", "tokens")))
    if page.next_cursor:
        note(f"{len(page.rollouts)} of {page.total}; the next page: --cursor {page.next_cursor}")


def _cells(row: RolloutSummary) -> tuple[str, ...]:
    status = "running" if row.status is None else str(row.status)
    cause = f" ({row.failure or row.truncated_by})" if row.failure or row.truncated_by else ""
    tokens = f"{row.sampled_tokens:,}"
    return row.rollout_id, row.environment, row.task_id, number(row.reward), tokens, status + cause
