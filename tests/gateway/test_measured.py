"""Requests are counted by route and status, with their time."""

import pytest
from httpx import ASGITransport, AsyncClient

from envhub.gateway.app import create_app
from envhub.gateway.sessions import Sessions
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import Metrics
from tests.monitor.test_metrics import VITALS

pytestmark = pytest.mark.anyio


async def test_answers_and_refusals_are_counted_by_their_route():
    metrics = Metrics(lambda: VITALS, Activity())
    app = create_app(Sessions("http://127.0.0.1:1"), observe=metrics.request)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as http:
        await http.get("/healthz")
        await http.post("/v1/chat/completions", json={"messages": []})
        await http.post("/r/some-key/v1beta/models/made-up-name:generateContent", json={})
        await http.get("/made/up")
    text = metrics.text().decode()
    for route, status in (
        ("/healthz", 200),
        ("/v1/chat/completions", 401),
        ("/{version}/models/{model}:generateContent", 401),
        ("other", 404),
    ):
        assert f'envhub_gateway_requests_total{{route="{route}",status="{status}"}} 1.0' in text
        assert f'envhub_gateway_seconds_count{{route="{route}"}} 1.0' in text
    assert "made" not in text
