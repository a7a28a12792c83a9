"""A process that dies at any of its writes loses nothing durable, and does nothing again that need not be."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envhub.contracts.environment import Resume
from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupClosed,
    GroupDropped,
    RolloutEnded,
    RolloutResumed,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import GroupId, RolloutId, RunId
from envhub.contracts.rollout import FilterRef, GroupRequest
from envhub.contracts.store import TraceStore
from envhub.errors import StoreError
from envhub.monitor.verify import verify
from envhub.store.memory_store import MemoryTraceStore
from envhub.store.sql_store import open_store
from envhub.testing import virtual_time
from envhub.testing.cut_store import CutStore
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.durable_worlds import answer, looks, name_of
from tests.rollouts.worlds import STEP, THREE
from tests.test_simulation import plain

RUN = RunId("test")


async def play(store: TraceStore, groups: list[GroupRequest], *, resume: bool = False) -> None:
    """Plays the groups that are not submitted yet, and all that is left of the others."""
    async with open_scripted_run(answer, store=store, resume=resume, max_running=3) as run:
        for group in groups[run.submitted :]:
            await run.manager.start(group)
        await run.manager.finish()


async def play_until_cut(store: TraceStore, groups: list[GroupRequest], writes: int, *, after_commit: bool) -> None:
    cut = CutStore(store, writes, after_commit=after_commit)
    try:
        await play(cut, groups)
    except* StoreError:
        pass
    assert cut.is_dead


async def events_of(store: TraceStore) -> list[Event]:
    return [event async for event in store.events(RUN)]


def trace(events: list[Event]) -> Mapping[RolloutId | GroupId, list[str]]:
    """What is recorded of each rollout and each group, but for timings."""
    lines: dict[RolloutId | GroupId, list[str]] = defaultdict(list)
    for event in events:
        if not isinstance(event, RolloutResumed):
            id = getattr(event, "rollout_id", None) or getattr(event, "group_id", GroupId(""))
            lines[id].append(plain(event))
    return lines


def check_once(events: list[Event]) -> None:
    """Nothing is recorded twice, and every rollout that started has ended."""
    of = Counter(
        (event.rollout_id, type(event).__name__, index(event))
        for event in events
        if isinstance(event, RolloutStarted | TurnRecorded | StepRecorded | RolloutEnded)
    )
    assert [record for record, times in of.items() if times > 1] == []
    started = {event.rollout_id for event in events if isinstance(event, RolloutStarted)}
    assert started == {event.rollout_id for event in events if isinstance(event, RolloutEnded)}
    acked = Counter(event.group_id for event in events if isinstance(event, GroupAcked))
    assert set(acked.values()) <= {1}


def index(event: Event) -> int:
    match event:
        case TurnRecorded():
            return event.turn.index
        case StepRecorded():
            return event.step.index
    return 0


async def check(store: TraceStore) -> None:
    assert (await verify(store)).findings == ()
    (summary,) = await store.runs()
    assert summary.members.drained
    check_once(await events_of(store))


def group_of(resume: Resume) -> list[GroupRequest]:
    return [request(name_of(resume), k=2, max_tries=2)]


@pytest.mark.parametrize("resume", list(Resume))
def test_a_run_that_dies_at_any_write_ends_like_one_that_never_died(resume: Resume) -> None:
    groups = group_of(resume)
    whole = MemoryTraceStore()
    virtual_time.run(play, whole, groups)
    undisturbed = virtual_time.run(events_of, whole)
    for writes in range(1, len(undisturbed)):
        events = virtual_time.run(dies_and_goes_on, groups, writes)
        if resume is Resume.RESTART:
            assert not any(isinstance(event, RolloutResumed) for event in events)
        else:
            assert trace(events) == trace(undisturbed), f"killed at write {writes}"
            check_looks(events, writes, resume)


async def dies_and_goes_on(groups: list[GroupRequest], writes: int) -> list[Event]:
    """Every second time the last write is durable, and its writer never knew."""
    looks.clear()
    store = MemoryTraceStore()
    await play_until_cut(store, groups, writes, after_commit=bool(writes % 2))
    assert len(await events_of(store)) == writes
    await play(store, groups, resume=True)
    await check(store)
    return await events_of(store)


def check_looks(events: list[Event], writes: int, resume: Resume) -> None:
    """What was really done: from records, nothing that was recorded is done again."""
    recorded = {
        (event.rollout_id, str(call.arguments["place"]))
        for event in events[:writes]
        if isinstance(event, StepRecorded)
        for call in event.step.action.tool_calls
        if call.name == "look"
    }
    again = {look for look, times in looks.items() if times > 1}
    if resume is Resume.RECORDS:
        assert not again & recorded


class Trainer:
    """Leases, trains and acks; refuses each group once."""

    def __init__(self) -> None:
        self.trained: Counter[GroupId] = Counter()  # acks that were confirmed
        self._refused: set[GroupId] = set()

    async def consume(self, run: ScriptedRun) -> None:
        while (delivery := await run.feed.lease("trainer")) is not None:
            group = delivery.group.group_id
            if group not in self._refused:
                self._refused.add(group)
                await run.feed.nack(delivery.lease_id, "not now")
                continue
            await run.feed.ack(delivery.lease_id)
            self.trained[group] += 1


def many_groups() -> list[GroupRequest]:
    """With more members than they need, filters, refills and members that fail; over restarts and resumptions."""
    tree = replace(request("test/branching-v0"), k=1, extra=2)
    restarted = replace(request(name_of(Resume.RESTART)), k=1, extra=1)
    flat = replace(request("test/walk-v0", task=THREE), k=2, filters=(FilterRef("varied"),))
    failing = replace(request("test/walk-v0", task=STEP), k=1, refills=1)
    return [tree, flat, failing, restarted]


async def train(store: TraceStore, groups: list[GroupRequest], trainer: Trainer, *, resume: bool = False) -> None:
    async with (
        open_scripted_run(answer, store=store, resume=resume, max_running=3, lease_s=60.0) as run,
        anyio.create_task_group() as consumers,
    ):
        consumers.start_soon(trainer.consume, run)
        for group in groups[run.submitted :]:
            await run.manager.start(group)
        await run.manager.finish()
        await run.feed.drained()


async def train_until_cut(writes: int) -> bool:
    """Whether the run had that many writes."""
    store, groups, trainer = MemoryTraceStore(), many_groups(), Trainer()
    cut = CutStore(store, writes, after_commit=bool(writes % 2))
    try:
        await train(cut, groups, trainer)
    except* StoreError:
        pass
    confirmed = set(trainer.trained)
    assert confirmed <= {event.group_id for event in await events_of(store) if isinstance(event, GroupAcked)}
    await train(store, groups, trainer, resume=True)
    await check(store)
    events = await events_of(store)
    acked = {event.group_id for event in events if isinstance(event, GroupAcked)}
    closed = {event.group_id for event in events if isinstance(event, GroupClosed) and event.members}
    dropped = {event.group_id for event in events if isinstance(event, GroupDropped)}
    assert acked == closed - dropped
    assert [event.group_id for event in events if isinstance(event, GroupDropped)] == ["test-1"]
    return cut.is_dead


def test_whatever_write_a_run_dies_at_each_group_is_trained_on_or_dropped() -> None:
    writes = 1
    while virtual_time.run(train_until_cut, writes, seed=writes):
        writes += 1
    assert writes > 40


@pytest.mark.anyio
@pytest.mark.parametrize("resume", list(Resume))
async def test_a_run_in_a_file_survives_like_one_in_memory(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envhub.rollouts.tries.BACKOFF_S", 0.0)
    groups = group_of(resume)
    for writes in range(2, 74, 13):
        path = str(tmp_path / f"{writes}.db")
        store = await open_store(path)
        await play_until_cut(store, groups, writes, after_commit=bool(writes % 2))
        await store.close()
        store = await open_store(path)
        await play(store, groups, resume=True)
        await check(store)
        await store.close()
