"""kill -9 loses no member: what was finished is delivered, what was running goes on, and the counts add up."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envhub.app import Settings, open_run
from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import GroupAcked, GroupLeased, GroupReturned, RolloutEnded, RolloutResumed
from envhub.contracts.ids import GroupId, LeaseId, RunId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.store import TraceStore
from envhub.errors import UsageError
from envhub.monitor.verify import verify
from envhub.rollouts.job import Job
from envhub.rollouts.replay import ENDED_EARLY
from envhub.rollouts.resume import leftover
from envhub.store.memory_store import MemoryTraceStore
from envhub.store.sql_store import open_store
from envhub.testing.runs import open_scripted_run, request
from tests.rollouts.play_until_killed import JOB, play
from tests.rollouts.test_every_write import check_once
from tests.rollouts.worlds import THREE, branching_task

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
MEMBERS = len(JOB.environments) * JOB.groups * JOB.k


def has_begun(database: Path) -> bool:
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
    ):
        return bool(connection.execute("SELECT 1 FROM runs").fetchall())
    return False


def kill_after(seconds: float, database: Path) -> None:
    """Runs it, and kills it so long after its run has begun."""
    command = [sys.executable, "-m", "tests.rollouts.play_until_killed", str(database), "killed"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        while not has_begun(database) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
    finally:
        process.kill()
        process.wait()


async def counts(store: TraceStore) -> MemberCounts:
    (summary,) = await store.runs()
    return summary.members


@pytest.mark.parametrize("seed", range(4))
async def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, seed: int) -> None:
    database = tmp_path / "killed.db"
    await anyio.to_thread.run_sync(kill_after, 0.6 + random.Random(seed).random() * 0.8, database)

    store = await open_store(str(database))
    before = await counts(store)
    assert before.conserved
    acked = {event.group_id async for event in store.events(RunId("killed")) if isinstance(event, GroupAcked)}
    await store.close()

    await play(str(database), "killed", resume=True)

    store = await open_store(str(database))
    after = await counts(store)
    events = [event async for event in store.events(RunId("killed"))]
    report = await verify(store)
    await store.close()
    assert after.submitted == MEMBERS
    assert after.drained
    assert not report.findings
    acks = [event.group_id for event in events if isinstance(event, GroupAcked)]
    assert len(acks) == len(set(acks))  # none twice
    assert acked <= set(acks)
    check_once(events)
    new_tries = sum(isinstance(event, RolloutEnded) and event.failure == ENDED_EARLY for event in events)
    assert new_tries + sum(isinstance(event, RolloutResumed) for event in events) >= before.of(MemberState.RUNNING)


async def test_what_was_finished_is_kept_and_what_was_running_is_left_to_do() -> None:
    left_behind = MemoryTraceStore()
    async with open_scripted_run(lambda asked: "step", max_running=1) as run:
        group = await run.manager.start(request("test/walk-v0", k=2))
        await group.handed_on.wait()
        unfinished = await run.manager.start(request("test/walk-v0", k=2, task=THREE))
        while 0 not in unfinished.outcomes:
            await anyio.lowlevel.checkpoint()
        await left_behind.append(await run.events())  # the process dies here
        rest = await leftover(left_behind, run.id)
        await run.manager.cancel(unfinished.id)

    assert rest.submitted == 2
    assert not rest.undelivered  # the first group was acked
    (running,) = rest.running
    assert running.number == 1
    assert {member: outcome.reward for member, outcome in running.outcomes.items()} == {0: 3.0}
    assert len(running.outcomes[0].trajectory.rows) == 1
    assert all(isinstance(event, RolloutEnded) and event.requeued for event in rest.opening)


async def test_a_closed_group_that_nobody_acked_is_delivered_again_with_its_count() -> None:
    class Nobody:
        async def put(self, group: ClosedGroup) -> None: ...

        def close(self) -> None: ...

    async with open_scripted_run(lambda asked: "step", outlet=Nobody()) as run:
        await run.play(request("test/walk-v0", k=2))
        lease = GroupLeased(run.id, 0.0, GroupId("test-0"), LeaseId("test-0@1"), "trainer", 1, 60.0)
        await run.store.append([lease])
        rest = await leftover(run.store, run.id)
        (stored,) = rest.undelivered
        closed = await stored.read()
    assert [outcome.reward for outcome in closed.outcomes] == [1.0, 1.0]
    assert (stored.deliveries, stored.failed) == (1, 0)
    assert [type(event) for event in rest.opening] == [GroupReturned]


async def test_a_run_that_is_still_running_cannot_be_gone_on_with(tmp_path: Path) -> None:
    database = str(tmp_path / "live.db")
    await anyio.to_thread.run_sync(kill_after, 0.3, Path(database))
    store = await open_store(database)
    async with store.hold(RunId("killed")):
        with pytest.raises(UsageError, match="still running, in process"):
            await play(database, "killed", resume=True)
    await store.close()
    await play(database, "killed", resume=True)
    assert not await anyio.to_thread.run_sync(lambda: list(tmp_path.glob("*.lock")))


async def test_groups_for_trainers_are_not_acked_by_a_resume_without_a_feed(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path / "fed.db"), "fed", engine="scripted", feed="127.0.0.1:0")
    with anyio.move_on_after(5) as leaving:
        async with open_run(settings, Job(("test/stroll-v0",), k=1), None) as run:
            await run.play()
            leaving.cancel()
    with pytest.raises(UsageError, match="are for trainers"):
        async with open_run(replace(settings, resume=True, feed=""), None, None):
            pass
    store = await open_store(settings.database)
    assert (await counts(store)).of(MemberState.ACKED) == 0
    await store.close()


async def test_a_resumed_group_is_the_group_that_was_live() -> None:
    kept: list[ClosedGroup] = []

    class Keep:
        async def put(self, group: ClosedGroup) -> None:
            kept.append(group)

        def close(self) -> None: ...

    tree = request("test/branching-v0", k=2)
    task = branching_task([((),), (), ((), ())])
    async with open_scripted_run(lambda asked: "step", outlet=Keep(), latency_s=0.001) as run:
        await run.play(replace(tree, rollout=replace(tree.rollout, task=task)))
        (stored,) = (await leftover(run.store, run.id)).undelivered
        resumed = await stored.read()
    for live, again in zip(kept[0].outcomes, resumed.outcomes, strict=True):
        assert [outcome.rollout_id for outcome in live.tree()] == [outcome.rollout_id for outcome in again.tree()]
        assert [outcome.usage for outcome in live.tree()] == [outcome.usage for outcome in again.tree()]
        for one, other in zip(live.tree(), again.tree(), strict=True):
            assert [row.ids.tolist() for row in one.trajectory.rows] == [
                row.ids.tolist() for row in other.trajectory.rows
            ]


async def test_a_run_that_is_not_there_cannot_go_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no database"):
        await play(str(tmp_path / "empty.db"), "killed", resume=True)
