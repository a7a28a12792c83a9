"""Taking things along: a rollout as one HTML file or as its events, a list of rollouts as JSON lines or Parquet."""

import io
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import msgspec
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from envhub.contracts.store import RolloutQuery, RolloutSummary
from envhub.dashboard.conditions import Conditions
from envhub.dashboard.html_export import html_page
from envhub.dashboard.shared import Dashboard, Known, Shared
from envhub.dashboard.timeline import timeline, tree_lives
from envhub.errors import UsageError

CHUNK = 500  # rollouts read at once
LINES, HTML, PARQUET = "application/jsonl", "text/html", "application/vnd.apache.parquet"
MOST_IN_PARQUET = 1_000_000  # it is made in memory

router = APIRouter()


@router.get("/rollouts/export.jsonl", response_class=StreamingResponse, responses={200: {"content": {LINES: {}}}})
async def rollouts_lines(shared: Shared, conditions: Annotated[Conditions, Query()]) -> StreamingResponse:
    """The rollouts that the conditions let through, oldest first, one JSON object a line."""
    places = await _places(shared, conditions)
    return StreamingResponse(_lines(shared, places), media_type=LINES, headers=_saved("rollouts.jsonl"))


@router.get("/rollouts/export.parquet", response_class=Response, responses={200: {"content": {PARQUET: {}}}})
async def rollouts_parquet(shared: Shared, conditions: Annotated[Conditions, Query()]) -> Response:
    """The same as Parquet, a column a fact."""
    places = await _places(shared, conditions)
    if len(places) > MOST_IN_PARQUET:
        raise UsageError(f"{len(places):,} rollouts match, and Parquet takes {MOST_IN_PARQUET:,}; filter, or use JSONL")
    found = [
        one for at in range(0, len(places), CHUNK) for one in await shared.store.rollouts_at(places[at : at + CHUNK])
    ]
    data = await run_sync(_parquet, found, limiter=shared.threads)
    return Response(data, media_type=PARQUET, headers=_saved("rollouts.parquet"))


@router.get("/rollouts/{rollout_id}/export.html", response_class=Response, responses={200: {"content": {HTML: {}}}})
async def rollout_html(shared: Shared, summary: Known) -> Response:
    """The rollout as a file that needs nothing else, its pictures inside."""
    recorded, rows = await shared.recorded(summary)
    tree = (await shared.store.rollouts(RolloutQuery(root=summary.root, limit=1_000))).rollouts
    times = timeline(tree, await tree_lives(shared.store, tree), time.time())
    transcript = recorded.transcript(rows)
    hashes = {image.sha256 for entry in transcript for image in entry.message.images}
    pictures = {sha256: data for sha256 in hashes if (data := await shared.store.file(sha256)) is not None}
    score = recorded.ended.score if recorded.ended else None
    page = await run_sync(partial(html_page, summary, transcript, score, times, pictures), limiter=shared.threads)
    return Response(page, media_type=f"{HTML}; charset=utf-8", headers=_saved(f"{summary.rollout_id}.html"))


@router.get(
    "/rollouts/{rollout_id}/export.jsonl", response_class=StreamingResponse, responses={200: {"content": {LINES: {}}}}
)
async def rollout_lines(shared: Shared, summary: Known) -> StreamingResponse:
    """All its events, one JSON object a line; arrays are lists."""
    return StreamingResponse(_events(shared, summary), media_type=LINES, headers=_saved(f"{summary.rollout_id}.jsonl"))


async def _places(shared: Dashboard, conditions: Conditions) -> list[int]:
    selection, _ = await conditions.selection(shared.store)
    table = await shared.fresh.table()
    places: list[int] = table["place"][selection.rows(table)].tolist()
    return places


async def _lines(shared: Dashboard, places: list[int]) -> AsyncIterator[bytes]:
    for at in range(0, len(places), CHUNK):
        found = await shared.store.rollouts_at(places[at : at + CHUNK])
        yield b"".join(msgspec.json.encode(one) + b"\n" for one in found)


async def _events(shared: Dashboard, summary: RolloutSummary) -> AsyncIterator[bytes]:
    async for event in shared.store.events(summary.run_id, summary.rollout_id):
        fields = msgspec.to_builtins(event, enc_hook=_as_json)
        yield msgspec.json.encode({"event": type(event).__name__, **fields}) + b"\n"


def _as_json(value: object) -> object:
    tolist = getattr(value, "tolist", None)
    return tolist() if tolist else repr(value)


def _parquet(rollouts: list[RolloutSummary]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow; `pip install envhub-rl[parquet]`, or take JSONL") from error
    table = pyarrow.Table.from_pylist([msgspec.to_builtins(one) for one in rollouts])
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def _saved(name: str) -> dict[str, str]:
    """A browser saves it under that name, and shows it under no origin of ours."""
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "_" for letter in name)
    return {"Content-Disposition": f'attachment; filename="{safe}"'}
