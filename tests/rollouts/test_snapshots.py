"""A rollout whose environment resumes from snapshots goes on with the files that its last recorded step left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from envhub.contracts.events import Event, RolloutEnded, RolloutResumed, SnapshotTaken, StepRecorded
from envhub.contracts.ids import RunId
from envhub.contracts.outcome import Status
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.store import TraceStore
from envhub.errors import Boundary, StoreError
from envhub.rollouts.rollout_files import folder_of_run
from envhub.store.memory_store import MemoryTraceStore
from envhub.store.sql_store import open_store
from envhub.testing import virtual_time
from envhub.testing.cut_store import CutStore
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import open_scripted_run, request
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool
from sandboxes.process.backend import ProcessBackend
from tests.rollouts.drawers import ID, PLAN, added, answer
from tests.rollouts.fill_drawers import JOB, filling
from tests.rollouts.test_every_write import check, events_of, trace

ROOT = Path(__file__).parents[2]


async def play(
    store: TraceStore, folder: Path, groups: list[GroupRequest], make: Callable[[], SandboxBackend], *, resume: bool
) -> None:
    """Plays the groups with sandboxes of their own, of which nothing outlives this."""
    backend = make()
    try:
        async with (
            open_pool(backend, PoolLimits()) as pool,
            open_scripted_run(answer, store=store, resume=resume, sandboxes=pool, snapshots=folder) as run,
        ):
            for group in groups[run.submitted :]:
                await run.manager.start(group)
            await run.manager.finish()
    finally:
        with anyio.CancelScope(shield=True):
            await backend.aclose()


async def dies_and_goes_on(
    folder: Path, groups: list[GroupRequest], make: Callable[[], SandboxBackend], writes: int
) -> list[Event]:
    """Every second time the last write is durable, and its writer never knew."""
    added.clear()
    store = MemoryTraceStore()
    cut = CutStore(store, writes, after_commit=bool(writes % 2))
    try:
        await play(cut, folder, groups, make, resume=False)
    except* StoreError:
        pass
    assert cut.is_dead
    check_there(folder, await events_of(store))
    with folder_of_run(folder):
        await play(store, folder, groups, make, resume=True)
    await check(store)
    return await events_of(store)


def check_there(folder: Path, events: list[Event]) -> None:
    """What is saved of rollouts that run is there, for the last of their recorded steps."""
    ended = {event.rollout_id for event in events if isinstance(event, RolloutEnded)}
    steps = {event.rollout_id: event.step.index for event in events if isinstance(event, StepRecorded)}
    needed = {
        event.rollout_id: event.file
        for event in events
        if isinstance(event, SnapshotTaken) and event.step <= steps.get(event.rollout_id, -1)
    }
    missing = [id for id, file in needed.items() if id not in ended and not (folder / id / file).exists()]
    assert missing == []


def check_went_on(events: list[Event], writes: int) -> None:
    """Every rollout ended with a full drawer, and no step that was recorded was taken again."""
    ended = [event for event in events if isinstance(event, RolloutEnded)]
    assert [event.score and event.score.explanation for event in ended] == ["none one two three"] * len(ended)
    recorded = {
        (event.rollout_id, str(call.arguments["word"]))
        for event in events[:writes]
        if isinstance(event, StepRecorded)
        for call in event.step.action.tool_calls
        if call.name == "add"
    }
    assert [word for word in recorded if added[word] != 1] == []


def told(events: list[Event]) -> object:
    """What is the same whenever it dies: a step that was lost saved its files in vain."""
    return trace([event for event in events if not isinstance(event, SnapshotTaken)])


def test_a_run_that_dies_at_any_write_goes_on_with_the_files_of_its_last_step(tmp_path: Path) -> None:
    groups, folder = [request(ID, k=2)], tmp_path / "run"
    whole = MemoryTraceStore()
    virtual_time.run(partial(play, resume=False), whole, folder, groups, FakeBackend)
    assert list(folder.iterdir()) == [], "files of rollouts that have ended are left"
    undisturbed = virtual_time.run(events_of, whole)
    assert sum(isinstance(event, SnapshotTaken) for event in undisturbed) == 2 * sum(map(bool, PLAN))
    for writes in range(1, len(undisturbed)):
        events = virtual_time.run(dies_and_goes_on, folder, groups, FakeBackend, writes)
        check_went_on(events, writes)
        assert told(events) == told(undisturbed), f"killed at write {writes}"
        assert not folder.exists()


@pytest.mark.anyio
async def test_real_sandboxes_go_on_like_those_in_memory(tmp_path: Path) -> None:
    groups = [request(ID, k=1)]
    for writes in range(2, 15, 3):
        events = await dies_and_goes_on(tmp_path / "run", groups, ProcessBackend, writes)
        check_went_on(events, writes)
        assert any(isinstance(event, RolloutResumed) for event in events) == (writes > 2)


@pytest.mark.anyio
async def test_files_that_are_gone_cost_the_try_and_are_no_reward(tmp_path: Path) -> None:
    store, groups = MemoryTraceStore(), [request(ID, k=1)]
    cut = CutStore(store, 8, after_commit=False)
    try:
        await play(cut, tmp_path, groups, FakeBackend, resume=False)
    except* StoreError:
        pass
    (folder,) = [path async for path in anyio.Path(tmp_path).iterdir()]
    for file in [path async for path in folder.iterdir()]:
        await file.write_bytes(b"damaged")
    await play(store, tmp_path, groups, FakeBackend, resume=True)
    (ended,) = [event for event in await events_of(store) if isinstance(event, RolloutEnded)]
    assert (ended.status, ended.score) == (Status.FAILED, None)
    assert ended.failure is not None
    assert (ended.failure.boundary, ended.failure.retryable) == (Boundary.OPERATOR, True)
    assert "gone or damaged" in ended.failure.message


@pytest.mark.anyio
async def test_without_a_folder_for_them_the_rollout_fails_and_says_so() -> None:
    async with (
        open_pool(FakeBackend(), PoolLimits()) as pool,
        open_scripted_run(answer, sandboxes=pool) as run,
    ):
        (outcome,) = await run.play(request(ID, k=1))
    assert outcome.failure is not None
    assert "no folder for snapshots" in outcome.failure.message


def kill_after(steps: int, database: Path) -> None:
    """Lets a process play until so many steps are saved, and kills it."""
    process = subprocess.Popen([sys.executable, "-m", "tests.rollouts.fill_drawers", str(database)], cwd=ROOT)
    try:
        while saved_steps(database) < steps and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()


def saved_steps(database: Path) -> int:
    return len(list(Path(f"{database}.files", "drawers").glob("*/*-0")))


async def check_full(database: Path) -> list[Event]:
    """Every drawer of the run is full, and nothing is left beside its database."""
    store = await open_store(str(database))
    await check(store)
    events = [event async for event in store.events(RunId("drawers"))]
    await store.close()
    ended = [event for event in events if isinstance(event, RolloutEnded)]
    assert [event.score and event.score.explanation for event in ended] == ["none one two three"] * (JOB.groups * JOB.k)
    assert not await anyio.Path(f"{database}.files").exists()
    return events


def a_worker() -> int:
    """The id of a worker process of ours."""
    children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    return next(int(pid) for pid in children if b"envhub.rollouts.worker" in Path("/proc", pid, "cmdline").read_bytes())


@pytest.mark.anyio
async def test_a_killed_run_goes_on_with_the_files_of_its_sandboxes(tmp_path: Path) -> None:
    database = tmp_path / "killed.db"
    await anyio.to_thread.run_sync(kill_after, 3, database)
    async with filling(str(database), resume=True) as run:
        await run.play()
    events = await check_full(database)
    assert any(isinstance(event, RolloutResumed) for event in events)


@pytest.mark.anyio
async def test_rollouts_of_a_worker_that_died_go_on_in_another_with_their_files(
    tmp_path: Path,
) -> None:
    database = tmp_path / "workers.db"
    async with filling(str(database), workers=2) as run, anyio.create_task_group() as tasks:
        tasks.start_soon(run.play)
        with anyio.fail_after(30):
            while saved_steps(database) < 3:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.02)
        os.kill(await anyio.to_thread.run_sync(a_worker), signal.SIGKILL)
    events = await check_full(database)
    assert any(isinstance(event, RolloutResumed) for event in events)
