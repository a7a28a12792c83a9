"""A CPU profile says who computed on the loop, while it runs, at little cost."""

import sys
import time
from pathlib import Path

import anyio
import pytest

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.monitor.cpu_profile import CpuProfiler, profile_file, read_cpu_profile
from envhub.store import codec
from envhub.testing.traces import SampleRun, sample_turn

pytestmark = pytest.mark.anyio
RUN = RunId("r/1")
SECONDS = 0.5


async def busy(stop: anyio.Event) -> None:
    """A room of the platform computes two thirds of the time."""
    run = SampleRun(RUN)
    event = run.turn(run.start(0, 0), sample_turn(0, output=50_000))
    while not stop.is_set():
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            codec.decode("turn_recorded", codec.encode(event))
        await anyio.sleep(0.01)


async def test_cpu_time_is_booked_on_the_room_that_computed(tmp_path: Path):
    file = profile_file(tmp_path / "envhub.db", RUN)
    profiler, stop, usual = CpuProfiler(RUN, file), anyio.Event(), sys.getswitchinterval()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy, stop)
        found = await profiler.take(SECONDS)
        stop.set()
    assert found == read_cpu_profile(file)
    assert found.wall_s >= SECONDS
    assert 0 < found.cpu_s < found.wall_s
    assert sum(line.cpu_s for line in found.lines) == pytest.approx(found.cpu_s)
    assert sys.getswitchinterval() == usual
    most = found.lines[0]
    assert (most.who, most.mostly[:19]) == ("envhub.store", "envhub.store.codec.")
    assert most.share > 0.5
    assert found.overhead_s < 0.1 * found.wall_s


async def test_an_idle_loop_costs_no_cpu(tmp_path: Path):
    found = await CpuProfiler(RUN, tmp_path / "p").take(0.2)
    assert found.cpu_s < 0.1
    assert found.looks >= 2
    assert found.lines == ()


async def test_one_profile_is_taken_at_a_time_and_none_is_kept_of_a_cancelled_one(tmp_path: Path):
    profiler = CpuProfiler(RUN, tmp_path / "p")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(profiler.take, 60.0)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(UsageError, match="taken already"):
            await profiler.take(1.0)
        tasks.cancel_scope.cancel()
    assert read_cpu_profile(tmp_path / "p") is None
    assert (await profiler.take(0.01)).run_id == RUN


async def test_a_file_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "p").write_text("no profile")
    with pytest.raises(UsageError, match="can't be read as a profile"):
        read_cpu_profile(tmp_path / "p")
    with pytest.raises(UsageError, match="can't take 0 s"):
        await CpuProfiler(RUN, tmp_path / "p").take(0)
