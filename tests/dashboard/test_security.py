"""Who may ask a dashboard that no token guards."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

from envhub.contracts.access import Role
from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore
from tests.guarding import guard

pytestmark = pytest.mark.anyio


async def ask(store: MemoryTraceStore, host: str, path: str, token: str | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(store, None, guard=guard({token: Role.VIEWER} if token else {})))
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


@pytest.mark.parametrize("path", ["/api/runs/demo/drain", "/api/runs"])
async def test_a_body_that_is_too_large_is_not_kept_whoever_sends_it(store: MemoryTraceStore, path: str):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 64 * 1024
            yield b" " * (64 * 1024)

    transport = httpx.ASGITransport(create_app(store, None, guard=guard({"s3cret": Role.OPERATOR})))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post(path, content=endless(), headers={"content-type": "application/json"})
    assert response.status_code in (401, 405, 413)
    assert sent < 1 << 20


async def test_a_token_in_the_query_opens_nothing(store: MemoryTraceStore):
    """It would stand in histories, in logs of proxies and in what pages tell of who referred to them."""
    transport = httpx.ASGITransport(create_app(store, None, guard=guard({"s3cret": Role.VIEWER})))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for name in ("token", "access_token", "key", "authorization"):
            assert (await client.get("/api/runs", params={name: "s3cret"})).status_code == 401


async def test_every_route_but_the_page_wants_a_token(store: MemoryTraceStore):
    app = create_app(store, None, guard=guard({"s3cret": Role.VIEWER}))
    routes = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    routes.append(("GET", "/metrics"))
    assert len(routes) > 30
    assert {"/api/events", "/api/runs/{run_id}/audit"} <= {path for _, path in routes}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for method, path in routes:
            answer = await client.request(method, path.replace("{", "").replace("}", ""), json={"confirm": "run_id"})
            assert answer.status_code == 401, path


async def test_no_other_origin_may_read_the_answers(store: MemoryTraceStore):
    transport = httpx.ASGITransport(create_app(store, None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answers = [await client.request(how, "/api/runs/x/audit", headers=asked) for how in ("GET", "OPTIONS")]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/assets/..%2f..%2f..%2fapi.py", "/%2e%2e/%2e%2e/api.py", "/assets//etc/passwd"]
)
async def test_paths_lead_nowhere_outside_of_the_page(store: MemoryTraceStore, path: str):
    transport = httpx.ASGITransport(create_app(store, None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(path)
    assert "root:" not in answer.text
    assert "create_app" not in answer.text


@pytest.mark.parametrize("id", ["x\r\nSet-Cookie: a=b", "..%2f..%2fetc%2fpasswd", "x%0d%0aSet-Cookie:%20a=b", 'a"b'])
async def test_an_id_breaks_out_of_no_header(store: MemoryTraceStore, id: str):
    transport = httpx.ASGITransport(create_app(store, None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(f"/api/rollouts/{quote(id, safe='%')}/export.html")
    assert answer.status_code == 404
    assert "set-cookie" not in answer.headers
