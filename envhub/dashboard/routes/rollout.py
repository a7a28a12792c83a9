"""One rollout: its transcript and tree, when it did what, its pictures and long texts."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from envhub.contracts.messages import Message
from envhub.contracts.store import RolloutQuery, RolloutSummary
from envhub.dashboard.records import LogLine, RolloutRecord, TreeNode
from envhub.dashboard.shared import Dashboard, Known, Shared
from envhub.dashboard.timeline import Timeline, depths_of, timeline, tree_lives
from envhub.monitor.critical_path import critical_path

TREE_LIMIT = 1_000  # rollouts of a tree in one answer
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

router = APIRouter()


@router.get("/rollouts/{rollout_id}")
async def rollout(shared: Shared, summary: Known) -> RolloutRecord:
    """One rollout, the tree it stands in, and its transcript."""
    recorded, rows = await shared.recorded(summary)
    tree, size = await _tree(shared, summary)
    started, ended = recorded.started, recorded.ended
    return RolloutRecord(
        summary=summary,
        request=started.request if started else None,
        seed=str(started.seed) if started else None,
        tree=_nodes(tree),
        tree_size=size,
        transcript=[entry.shortened() for entry in recorded.transcript(rows)],
        score=ended.score if ended else None,
        failure=ended.failure if ended else None,
        usage=ended.usage if ended else None,
        logs=[LogLine(at=log.at, message=log.message, fields=_json(log.fields)) for log in recorded.logs],
    )


@router.get("/rollouts/{rollout_id}/messages/{index}")
async def message(shared: Shared, summary: Known, index: int) -> Message:
    """One message of its transcript, however long."""
    recorded, rows = await shared.recorded(summary)
    transcript = recorded.transcript(rows)
    if not 0 <= index < len(transcript):
        count = len(transcript)
        raise HTTPException(404, f"rollout '{summary.rollout_id}' has {count} messages; there is no message {index}")
    return transcript[index].message


@router.get("/rollouts/{rollout_id}/timeline")
async def rollout_timeline(shared: Shared, summary: Known) -> Timeline:
    """When it, and every rollout of the tree that it stands in, did what."""
    tree, _ = await _tree(shared, summary)
    found = await tree_lives(shared.store, tree)
    return await run_sync(partial(timeline, tree, found, time.time()), limiter=shared.threads)


@router.get(
    "/images/{sha256}",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in PICTURES}}},
)
async def image(shared: Shared, sha256: str, type: str = PICTURES[0]) -> Response:
    """The file of a picture that a message shows; its media type is the message's word, of the four that there are."""
    data = await shared.store.file(sha256)
    if data is None:
        raise HTTPException(404, f"no picture '{sha256}' in this store; messages name theirs by their hash")
    if type not in PICTURES:
        raise HTTPException(422, f"type: '{type}' is none of {', '.join(PICTURES)}")
    return Response(data, media_type=type, headers={"Cache-Control": "private, max-age=31536000, immutable"})


async def _tree(shared: Dashboard, summary: RolloutSummary) -> tuple[Sequence[RolloutSummary], int]:
    page = await shared.store.rollouts(RolloutQuery(root=summary.root, limit=TREE_LIMIT))
    return page.rollouts, page.total


def _nodes(tree: Sequence[RolloutSummary]) -> list[TreeNode]:
    depths = depths_of(tree)
    critical = {part.rollout_id for part in critical_path(tree, time.time())}
    return [TreeNode(rollout=one, depth=depths[one.rollout_id], critical=one.rollout_id in critical) for one in tree]


def _json(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields of a log line, which a plug-in may fill with anything, as JSON."""
    return cast(dict[str, object], json.loads(json.dumps(fields, default=repr)))
