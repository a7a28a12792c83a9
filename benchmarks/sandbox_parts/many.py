"""Many sandboxes at once: how the loop fares while all of them work, and what thousands of idle ones cost."""

import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from benchmarks.sandbox_parts.floors import forker
from benchmarks.sandbox_parts.report import Floor, Report, Sizes, p99_ms
from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from envhub.contracts.session import Interpreter, Session
from sandboxes import cgroups
from sandboxes.inside.processes import descendants
from sandboxes.state import state
from sandboxes.zygote.backend import ZygoteBackend

PARALLEL = 64
LOOK_S = 0.01
AT_ONCE = 16
GONE_S = 5.0  # the kernel buries the dead in its own time


async def parallel_sessions(backend: SandboxBackend, report: Report, sizes: Sizes) -> None:
    """Sessions of as many sandboxes, each asked again as soon as it has answered."""
    quiet = await lags(sizes.parallel_s)
    async with alive(backend, PARALLEL) as sandboxes:
        sessions = [await sandbox.session(Interpreter.SHELL) for sandbox in sandboxes]
        for session in sessions:
            await session.run(":")  # its interpreter is there
        counts = [0] * PARALLEL

        async def work(number: int, session: Session) -> None:
            while True:
                await session.run(":")
                counts[number] += 1

        async with anyio.create_task_group() as tasks:
            for number, session in enumerate(sessions):
                tasks.start_soon(work, number, session)
            used = time.process_time()
            busy = await lags(sizes.parallel_s)
            used = time.process_time() - used
            tasks.cancel_scope.cancel()
    name = f"{backend.name}_{PARALLEL}_sessions"
    report.add(f"{name}_loop_lag_p99", p99_ms(busy), "ms", Floor(p99_ms(quiet), "the loop without them"), most=20)
    report.add(f"{name}_host_cpu_per_run", used / sum(counts) * 1e6, "us", None)


async def lags(seconds: float) -> list[float]:
    """How late the loop came back to us each time, in seconds."""
    found, end = list[float](), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await anyio.sleep(LOOK_S)
        found.append(time.perf_counter() - began - LOOK_S)
    return found


async def zygotes_alive(report: Report, sizes: Sizes) -> None:
    backend, before = ZygoteBackend(), remains()
    with forker() as bare:
        forks = [bare.ask().split() for _ in range(sizes.forks)]
    fork_s = statistics.median(float(seconds) for seconds, _ in forks)
    fork_kib = statistics.median(int(kib) for _, kib in forks)
    began = time.perf_counter()
    async with alive(backend, sizes.alive) as sandboxes:
        rate = sizes.alive / (time.perf_counter() - began)
        name, one_by_one = f"zygote_{sizes.alive}_alive", Floor(1 / fork_s, "os.fork into new namespaces, one by one")
        report.add(f"{name}_created", rate, "1/s", one_by_one, least=100)
        await anyio.sleep(1)
        answered = [await sandbox.stats() for sandbox in sandboxes]
        assert len(answered) == sizes.alive
        try:
            each = sum(map(pss_kib, descendants(os.getpid()))) / sizes.alive / 1024
        except PermissionError:
            report.miss(f"{name}_pss_each", "an ordinary user may not read what its sandboxes' processes hold")
        else:
            beside = Floor(fork_kib / 1024, "a fork of a small Python, alone")
            report.add(f"{name}_pss_each", each, "MiB", beside, most=4)
    await backend.aclose()
    left = await left_of(before)
    report.add(f"{name}_left_over", left, "processes, groups, folders", None, most=0)


@asynccontextmanager
async def alive(backend: SandboxBackend, count: int) -> AsyncIterator[list[Sandbox]]:
    """That many sandboxes, made and closed some at a time."""
    sandboxes, places = list[Sandbox](), anyio.CapacityLimiter(AT_ONCE)

    async def make() -> None:
        async with places:
            sandboxes.append(await backend.create(SandboxSpec()))

    async def close(sandbox: Sandbox) -> None:
        async with places:
            await sandbox.close()

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(make)
        yield sandboxes
    finally:
        async with anyio.create_task_group() as tasks:
            for sandbox in sandboxes:
                tasks.start_soon(close, sandbox)


def pss_kib(pid: int) -> int:
    """Its memory, with pages that are shared divided by their users."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


async def left_of(before: int) -> int:
    give_up = time.perf_counter() + GONE_S
    while remains() > before and time.perf_counter() < give_up:  # noqa: ASYNC110 (nobody tells)
        await anyio.sleep(LOOK_S)
    return remains() - before


def remains() -> int:
    """Processes below us, cgroups of our sandboxes, and their folders."""
    groups = {group for folder in cgroups.owner_places(os.getpid()).folders.values() for group in folder.glob("*/")}
    folders = [path for path in state().folder("layers").parent.iterdir() if path.is_dir()]
    return len(descendants(os.getpid())) + len(groups) + len(folders)
