"""Measures everything as the user that runs it: progress on stderr, one line of JSON on stdout."""

import json
import resource
import sys
from dataclasses import asdict

import anyio

from benchmarks.sandbox_parts.commands import commands
from benchmarks.sandbox_parts.creation import bubblewrap_creation, container_creation, zygote_creation
from benchmarks.sandbox_parts.forks import forks
from benchmarks.sandbox_parts.leases import leases
from benchmarks.sandbox_parts.many import parallel_sessions, zygotes_alive
from benchmarks.sandbox_parts.report import FULL, QUICK, Report, Sizes
from envhub.app import LOOP
from envhub.contracts.sandbox import SandboxBackend
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.docker.backend import DockerBackend, PodmanBackend
from sandboxes.docker.gvisor import GvisorBackend
from sandboxes.zygote.backend import ZygoteBackend


async def zygote(backend: SandboxBackend, report: Report, sizes: Sizes) -> None:
    await zygote_creation(backend, report, sizes)
    await leases(backend, report, sizes)
    await commands(backend, report, sizes, most_ms=0.3)
    await parallel_sessions(backend, report, sizes)
    await forks(backend, report, sizes.forks, most_ms=50)
    await zygotes_alive(report, sizes)


async def bubblewrap(backend: SandboxBackend, report: Report, sizes: Sizes) -> None:
    await bubblewrap_creation(backend, report, sizes)
    await leases(backend, report, sizes)
    await commands(backend, report, sizes, most_ms=0.3)
    await parallel_sessions(backend, report, sizes)
    await forks(backend, report, sizes.forks, most_ms=50)


async def container(backend: SandboxBackend, report: Report, sizes: Sizes) -> None:
    await container_creation(backend, report, sizes)
    await commands(backend, report, sizes, most_ms=0.5 if backend.name != "gvisor" else None)
    await forks(backend, report, sizes.containers, most_ms=None)


PARTS = (
    (ZygoteBackend, zygote),
    (BubblewrapBackend, bubblewrap),
    (DockerBackend, container),
    (PodmanBackend, container),
    (GvisorBackend, container),
)


async def measure(sizes: Sizes) -> Report:
    report = Report()
    for make, measured in PARTS:
        backend = make()
        try:
            probe = await backend.probe()
            if probe.works:
                await measured(backend, report, sizes)
            else:
                report.miss(backend.name, probe.detail)
        finally:
            await backend.aclose()
    return report


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sizes = QUICK if "--quick" in sys.argv else FULL
    print(json.dumps(asdict(anyio.run(measure, sizes, backend_options=LOOP))))


if __name__ == "__main__":
    main()
