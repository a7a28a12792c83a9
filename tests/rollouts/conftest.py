"""What the tests share that run over any kind of worker."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from envhub.rollouts.process_workers import HERE
from tests.rollouts.crews import CrewRun, open_crew_run
from tests.rollouts.ray_clusters import cluster, ray_posts

RAY = "ray"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """One of one node."""
    with cluster() as nodes:
        yield nodes


@pytest.fixture(
    scope="module",
    params=[0, 2, pytest.param(RAY, marks=pytest.mark.ray)],
    ids=["local", "processes", RAY],
)
async def run(request: pytest.FixtureRequest) -> AsyncIterator[CrewRun]:
    """A run in this process, then one over two worker processes, then over two of a Ray cluster: one a module, as these
    take a second to start."""
    async with AsyncExitStack() as stack:
        processes, posts = request.param, HERE
        if processes == RAY:
            processes = 2
            posts = await stack.enter_async_context(ray_posts(request.getfixturevalue("ray_cluster"), processes))
        yield await stack.enter_async_context(open_crew_run(processes, latency_s=0.02, posts=posts))
