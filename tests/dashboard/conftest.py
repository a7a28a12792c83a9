"""The dashboard over a store that holds a small run."""

from collections.abc import AsyncIterator

import httpx
import pytest

from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import DECODER, recording


@pytest.fixture
async def store() -> AsyncIterator[MemoryTraceStore]:
    store = MemoryTraceStore()
    await store.append(recording())
    yield store
    await store.close()


@pytest.fixture
async def client(store: MemoryTraceStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store, DECODER))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
