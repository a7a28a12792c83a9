"""What the feed's tests share."""

from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend) -> AsyncIterator[None]:
    """All tests of a module share a loop, as a server has one: grpc.aio's poller is one a process, and what it still
    holds for a loop that was closed fails in the next one."""
    yield
