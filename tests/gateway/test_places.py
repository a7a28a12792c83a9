"""Overload: bursts wait for a place, and what can't is told to come again, in every dialect."""

import gzip
import json

import anyio
import pytest

from envhub.gateway.errors import ApiError
from envhub.gateway.places import Places, Room
from tests.gateway.test_cut_calls import EVENTS

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


async def test_a_burst_waits_in_order_and_no_call_fails():
    places, running, order = Places(2, "it"), [], []

    async def call(number):
        await places.take()
        running.append(number)
        order.append(number)
        assert len(running) <= 2
        await anyio.sleep(0.001)
        running.remove(number)
        places.give_back()

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(call, number)
    assert order == [0, 1, 2, 3]


async def test_no_more_wait_than_there_are_places():
    places = Places(1, "it", patience_s=10)
    await places.take()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.take)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ApiError, match="1 calls of it are in flight"):
            await places.take()
        tasks.cancel_scope.cancel()


async def test_a_place_is_free_again_after_a_wait_that_was_given_up():
    places = Places(1, "it", patience_s=0.01)
    await places.take()
    with pytest.raises(ApiError):
        await places.take()
    places.give_back()
    with anyio.fail_after(30):
        await places.take()


def test_room_is_bounded_for_each_and_for_all_and_comes_back():
    everybody = Room(10, "all")
    one, another = Room(8, "one", everybody), Room(8, "another", everybody)
    one.take(8)
    with pytest.raises(ApiError, match="the bodies that one sends now have 8 bytes") as refused:
        one.take(1)
    assert (refused.value.status, refused.value.retryable) == (429, True)
    with pytest.raises(ApiError, match="that all sends"):
        another.take(3)
    another.take(2)
    one.give_back(8)
    another.take(6)


async def test_bodies_that_are_sent_slowly_fill_no_more_memory_than_a_rollout_may(gateway, monkeypatch):
    room, some = gateway.endpoint.session.room, 300 * 1024
    monkeypatch.setattr(room, "_most", 1 << 20)
    statuses, done = [], anyio.Event()

    async def body():
        yield b" " * some
        await done.wait()

    async def call(content):
        answer = await gateway.http.post(CHAT, content=content, headers=gateway.auth)
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, body())
        with anyio.fail_after(30):
            while room._taken < 3 * some:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await call(b" " * some)
        done.set()
    assert statuses == [429, 400, 400, 400]
    await call(b" " * 3 * some)
    assert statuses[-1] == 400  # there is room again, and it is no JSON


async def test_bodies_that_wait_for_their_answers_fill_no_more_memory_than_a_rollout_may(gateway, monkeypatch):
    unanswered, large = gateway.endpoint.session.unanswered, {**EVENTS[CHAT], "user": "x" * 300 * 1024}
    monkeypatch.setattr(unanswered, "_most", 1 << 20)
    gateway.policy.gate = anyio.Event()
    packed, headers = gzip.compress(json.dumps(large).encode()), {**gateway.auth, "content-encoding": "gzip"}

    async def call():
        answer = await gateway.http.post(CHAT, content=packed, headers=headers)
        assert answer.status_code == 200

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
        await gateway.policy.until(lambda: gateway.policy.waiting == 3)
        full = await gateway.http.post(CHAT, content=packed, headers=headers)
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        assert "the bodies that this rollout sends now" in full.json()["error"]["message"]
        gateway.policy.gate.set()
    assert unanswered._taken == 0
    await call()


@pytest.mark.parametrize("path", EVENTS)
async def test_the_65th_call_waits_for_a_place_then_is_told_to_come_again_in_its_dialect(gateway, path):
    gateway.policy.gate = anyio.Event()
    body, path = EVENTS[path], path.replace("streamGenerate", "generate")  # a stream would begin with a keep-alive

    async def call():
        answer = await gateway.http.post(path, json=body, headers=gateway.auth)
        assert answer.status_code == 200

    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(call)
        await gateway.policy.until(lambda: gateway.policy.waiting == 64)
        full = await gateway.http.post(path, json=body, headers=gateway.auth)
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        assert "64 calls" in str(full.json()["error"])
        gateway.policy.gate.set()
