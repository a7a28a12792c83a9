"""The gateway behind an ASGI server that is not ours, and so does not tell of clients that hang up in our way."""

import json

import anyio
import httpx
import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}]}


async def test_calls_are_answered_whole_and_as_streams(gateway, switch):
    transport = httpx.ASGITransport(switch.app)
    async with httpx.AsyncClient(transport=transport, base_url=gateway.url, headers=gateway.auth) as http:
        whole = await http.post(PATH, json=BODY)
        streamed = await http.post(PATH, json={**BODY, "stream": True})
        wrong = await http.post(PATH, json={"messages": []})
    assert whole.json()["choices"][0]["message"]["content"] == "hello"
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert wrong.status_code == 400


async def test_a_client_that_hangs_up_cancels_its_call(gateway, switch):
    gateway.policy.gate = anyio.Event()
    messages = [{"type": "http.request", "body": json.dumps(BODY).encode()}]

    async def receive():
        if messages:
            return messages.pop()
        await gateway.policy.until(lambda: gateway.policy.waiting == 1)
        return {"type": "http.disconnect"}

    async def send(message):
        pytest.fail(f"{message} to a client that left")

    headers = [(name.encode(), value.encode()) for name, value in gateway.auth.items()]
    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers}
    await switch.app(scope, receive, send)
    assert gateway.policy.cancelled == 1
