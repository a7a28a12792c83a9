"""Who may ask a dashboard that no token guards."""

import httpx
import pytest

from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore

pytestmark = pytest.mark.anyio


async def ask(store: MemoryTraceStore, host: str, path: str, token: str | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(store, None, token=token))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers={"host": host, "authorization": f"Bearer {token}"})


@pytest.mark.parametrize("path", ["/api/runs", "/api/openapi.json", "/api/nothing", "/", "/icon.svg"])
async def test_a_page_whose_name_was_made_to_resolve_here_reads_nothing(store: MemoryTraceStore, path: str):
    response = await ask(store, "evil.example:8600", path)
    assert response.status_code == 403
    assert response.json()["detail"] == (
        "without a token this dashboard answers as 127.0.0.1, [::1] or localhost only, not as 'evil.example:8600'; "
        "open it by one of these, or set a token"
    )
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["", "10.0.0.7", "0.0.0.0", "localhost.evil.example", "127.0.0.1.evil.example", "[::"])
async def test_every_other_name_is_refused(store: MemoryTraceStore, host: str):
    assert (await ask(store, host, "/api/runs")).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8600", "localhost:8600", "LocalHost", "[::1]", "[::1]:8600"])
async def test_the_names_of_loopback_are_answered(store: MemoryTraceStore, host: str):
    assert (await ask(store, host, "/api/runs")).status_code == 200


async def test_with_a_token_every_name_is_answered(store: MemoryTraceStore):
    assert (await ask(store, "box.example:8600", "/api/runs", token="s3cret")).status_code == 200
