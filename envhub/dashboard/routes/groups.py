"""Groups: a list of them, and one with its members side by side."""

import re
from functools import partial
from typing import Annotated

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query
from numpy.typing import NDArray
from pydantic import Field

from envhub.contracts.ids import GroupId
from envhub.contracts.score import Score
from envhub.contracts.store import GroupSummary, RolloutQuery, RolloutSummary
from envhub.dashboard.conditions import Conditions
from envhub.dashboard.groups import (
    GroupDetail,
    GroupList,
    GroupRecord,
    GroupStory,
    MemberRecord,
    diverging,
    group_record,
)
from envhub.dashboard.records import TranscriptEntry
from envhub.dashboard.shared import Dashboard, Shared
from envhub.errors import UsageError
from envhub.monitor.rollout_pages import Selection
from envhub.monitor.rollout_table import RolloutTable

MOST_TRIES = 1_000  # of one group

router = APIRouter(prefix="/groups")


class GroupQuery(Conditions):
    """A page of the list of groups: those that have a rollout which the conditions let through."""

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str = ""


@router.get("")
async def groups(shared: Shared, query: Annotated[GroupQuery, Query()]) -> GroupList:
    """One page of groups, newest first."""
    selection, _ = await query.selection(shared.store)
    table = await shared.fresh.table()
    codes = await run_sync(partial(_groups, table, selection), limiter=shared.threads)
    start = _position(query.cursor)
    shown = codes[:start][-query.limit :] if start is not None else codes[-query.limit :]
    left = len(codes[:start]) - len(shown) if start is not None else len(codes) - len(shown)
    records = [await _record(shared, GroupId(table.names["group_id"].texts[code])) for code in shown[::-1].tolist()]
    return GroupList([one for one in records if one], f"groups-{left}" if left else "", len(codes))


@router.get("/{group_id}")
async def group(shared: Shared, group_id: GroupId) -> GroupDetail:
    """One group."""
    found = await shared.store.group(group_id)
    if found is None:
        raise HTTPException(404, f"no group '{group_id}' in this store; /api/groups lists them")
    tries = await _tries(shared, found)
    story = GroupStory.of(await shared.store.group_events(group_id))
    record = group_record(found, tries)
    return GroupDetail(
        group=record,
        request=story.request,
        members=await _members(shared, record, tries),
        deliveries=story.deliveries or [],
        dropped=story.dropped,
    )


def _groups(table: RolloutTable, selection: Selection) -> NDArray[np.int64]:
    """Their codes, oldest first: they are given in the order in which groups first started a rollout."""
    return np.unique(table["group_id"][selection.mask(table)])


def _position(cursor: str) -> int | None:
    match = re.fullmatch(r"groups-([1-9]\d{0,9})", cursor)
    if cursor and match is None:
        raise UsageError(f"cursor '{cursor}' is of no page of groups; take `next_cursor` of the page before")
    return int(match[1]) if match else None


async def _record(shared: Dashboard, group_id: GroupId) -> GroupRecord | None:
    found = await shared.store.group(group_id)
    return group_record(found, await _tries(shared, found)) if found else None


async def _tries(shared: Dashboard, group: GroupSummary) -> list[RolloutSummary]:
    """Of its members, in the order in which they started."""
    page = await shared.store.rollouts(RolloutQuery(group_id=group.group_id, roots_only=True, limit=MOST_TRIES))
    return [one for one in reversed(page.rollouts) if one.is_try]


async def _members(shared: Dashboard, record: GroupRecord, tries: list[RolloutSummary]) -> list[MemberRecord]:
    last = {one.member: one for one in tries}
    told = {member: await _told(shared, one) for member, one in last.items()}
    common = diverging([transcript for transcript, _, _ in told.values()])
    members = []
    for member, state in enumerate(record.group.members):
        transcript, score, response = told.get(member, ([], None, ""))
        reward = record.rewards[member]
        members.append(
            MemberRecord(
                member=member,
                state=state,
                rollout=last.get(member),
                tries=[one.rollout_id for one in tries if one.member == member],
                score=score,
                advantage=None if reward is None or record.mean is None else reward - record.mean,
                response=response,
                transcript=transcript,
                diverges_at=min(common, len(transcript)),
            )
        )
    return members


async def _told(shared: Dashboard, one: RolloutSummary) -> tuple[list[TranscriptEntry], Score | None, str]:
    recorded, rows = await shared.recorded(one)
    ended = recorded.ended
    transcript = [entry.shortened() for entry in recorded.transcript(rows)]
    return transcript, ended.score if ended else None, ended.response if ended else ""
