"""`envhub trace`: the rollouts of a database, one of them in full, or all rows of a run for another program."""

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import note, number, out, print_json, table
from envhub.contracts.events import Event, RolloutEnded, RolloutStarted, StepRecorded, TurnRecorded
from envhub.contracts.ids import EnvironmentId, RolloutId, RunId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Status
from envhub.contracts.store import RolloutQuery, RolloutSummary, TraceStore
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import Turn
from envhub.errors import UnknownName, UsageError
from envhub.store.sql_store import open_store
from envhub.tokens.rows import trajectory

trace = typer.Typer(help="Look at recorded rollouts, or export them.", no_args_is_help=True)
RunOption = Annotated[str, typer.Option("--run", help="Only this run.")]


@trace.command("list")
def list_rollouts(
    run: RunOption = "",
    environment: Annotated[str, typer.Option(help="Only this environment.")] = "",
    status: Annotated[str, typer.Option(help="Only completed, truncated, failed or cancelled ones.")] = "",
    limit: Annotated[int, typer.Option(help="Rollouts on a page.")] = 20,
    cursor: Annotated[str, typer.Option(help="Of the next page, as the page before printed it.")] = "",
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Rollouts, newest first, a page at a time."""
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
    rollout: str,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also every sampled token with its log probability.")
    ] = False,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """One rollout: what was said, what it was worth, and where its tokens are."""
    anyio.run(_show, database, RolloutId(rollout), tokens, as_json, backend_options=LOOP)


@trace.command("export")
def export_run(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write; - is stdout.")] = Path("-"),
    database: options.Database = "envhub.db",
) -> None:
    """The rows of all scored rollouts of a run as JSON lines: token ids, log probabilities, masks, reward."""
    anyio.run(_export, database, RunId(run), file, backend_options=LOOP)


@asynccontextmanager
async def existing_store(database: str) -> AsyncIterator[TraceStore]:
    """The store in a file that is there already.

    Raises:
        UsageError: no such file.
    """
    if not await anyio.Path(database).exists():
        raise UsageError(f"no database '{database}'; `envhub run` makes one, --database names another")
    store = await open_store(database)
    try:
        yield store
    finally:
        await store.close()


def _status(name: str) -> Status | None:
    if name and name not in list(Status):
        raise UnknownName.of("status", name, list(Status))
    return Status(name) if name else None


async def _list(database: str, query: RolloutQuery, as_json: bool) -> None:
    async with existing_store(database) as store:
        page = await store.rollouts(query)
    if as_json:
        rows = [{field: getattr(row, field) for field in row.__slots__} for row in page.rollouts]
        print_json({"rollouts": rows, "next_cursor": page.next_cursor, "total": page.total})
        return
    columns = ("rollout", "environment", "task", "status", "reward", "turns", "tokens")
    out.print(table(columns, [_cells(row) for row in page.rollouts], right=("reward", "turns", "tokens")))
    if page.next_cursor:
        note(f"{len(page.rollouts)} of {page.total}; the next page: --cursor {page.next_cursor}")


def _cells(row: RolloutSummary) -> tuple[str, ...]:
    status = "running" if row.status is None else str(row.status)
    cause = f" ({row.failure or row.truncated_by})" if row.failure or row.truncated_by else ""
    tokens = f"{row.sampled_tokens:,}"
    return row.rollout_id, row.environment, row.task_id, status + cause, number(row.reward), str(row.turns), tokens


async def _show(database: str, id: RolloutId, tokens: bool, as_json: bool) -> None:
    async with existing_store(database) as store:
        summary = await store.rollout(id)
        if summary is None:
            raise UsageError(f"no rollout '{id}' in {database}; `envhub trace list` shows them")
        events = [event async for event in store.events(summary.run_id, id)]
    turns = [event.turn for event in events if isinstance(event, TurnRecorded)]
    if as_json:
        print_json({**_ending(events), "rollout_id": id, "rows": [_row_json(row) for row in trajectory(turns).rows]})
        return
    out.print(f"[bold]{escape(id)}[/]  {escape(summary.environment)}  task {escape(summary.task_id)}")
    for turn in turns:
        _print_turn(turn, tokens)
    steps = [event.step for event in events if isinstance(event, StepRecorded)]
    if steps and not any(steps[-1].observation == turn.messages for turn in turns):
        _print_messages(steps[-1].observation)
    _print_ending(summary, events)


def _print_turn(turn: Turn, tokens: bool) -> None:
    _print_messages(turn.messages)
    text = turn.response.content or " ".join(
        f"{call.name}({dict(call.arguments)})" for call in turn.response.tool_calls
    )
    versions = ", ".join(sorted({str(span.policy_version) for span in turn.spans}))
    facts = (
        f"turn {turn.index}: {len(turn.delta_ids)} + {len(turn.output_ids)} tokens, policy {versions}, {turn.finish}"
    )
    out.print(f"  [green]assistant[/]  {escape(text)}  [dim]{escape(facts)}[/]")
    if tokens:
        pairs = zip(turn.output_ids.tolist(), turn.logprobs.tolist(), strict=True)
        out.print("    [dim]" + "  ".join(f"{id}:{logprob:.3f}" for id, logprob in pairs) + "[/]")


def _print_messages(messages: tuple[Message, ...]) -> None:
    for message in messages:
        out.print(f"  [cyan]{message.role:9}[/]  {escape(message.content)}")


def _print_ending(summary: RolloutSummary, events: Sequence[Event]) -> None:
    ending = _ending(events)
    status = summary.status or "running"
    out.print(f"[bold]{status}[/]  reward {number(summary.reward)}  {escape(str(ending.get('failure') or ''))}")
    if ending.get("explanation"):
        out.print(f"  [dim]{escape(str(ending['explanation']))}[/]")


def _ending(events: Sequence[Event]) -> dict[str, object]:
    for event in reversed(events):
        if isinstance(event, RolloutEnded):
            score, failure = event.score, event.failure
            return {
                "status": event.status,
                "truncated_by": event.truncated_by,
                "reward": score and score.scalar,
                "components": dict(score.components) if score else {},
                "explanation": score.explanation if score else "",
                "failure": f"{failure.boundary}: {failure.message}" if failure else None,
            }
    return {"status": None}


def _row_json(row: Row) -> dict[str, object]:
    return {
        "ids": row.ids.tolist(),
        "logprobs": [round(value, 7) for value in row.logprobs.tolist()],
        "sampled": row.mask(trainable=False).astype(int).tolist(),
        "trainable": row.mask(trainable=True).astype(int).tolist(),
    }


async def _export(database: str, run_id: RunId, file: Path) -> None:
    count = 0
    async with existing_store(database) as store:
        if run_id not in {run.run_id for run in await store.runs()}:
            raise UnknownName.of("run", run_id, [run.run_id for run in await store.runs()])
        with sys.stdout if str(file) == "-" else file.open("w", encoding="utf-8") as target:
            async for line in _export_lines(store, run_id):
                target.write(line + "\n")
                count += 1
    note(f"{count} rows")


async def _export_lines(store: TraceStore, run_id: RunId) -> AsyncIterator[str]:
    started: dict[RolloutId, RolloutStarted] = {}
    turns: dict[RolloutId, list[Turn]] = {}
    async for event in store.events(run_id):
        match event:
            case RolloutStarted():
                started[event.rollout_id] = event
            case TurnRecorded():
                turns.setdefault(event.rollout_id, []).append(event.turn)
            case RolloutEnded():
                start, own = started.pop(event.rollout_id), turns.pop(event.rollout_id, [])
                if event.score is not None:
                    for row in trajectory(own).rows:
                        yield json.dumps({**_origin(start), "reward": event.score.scalar, **_row_json(row)})


def _origin(start: RolloutStarted) -> dict[str, object]:
    return {
        "rollout_id": start.rollout_id,
        "group_id": start.group_id,
        "member": start.member,
        "parent": start.parent,
        "environment": start.request.environment.id,
        "task_id": start.request.task.id,
    }
