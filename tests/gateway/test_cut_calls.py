"""Calls whose client leaves, waits too long or asks again: what stays of them."""

from functools import partial

import anyio
import pytest

from envhub.contracts.events import TurnRecorded
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.turn import Finish, Fork
from tests.gateway.recording import Valve, gateway_run

pytestmark = pytest.mark.anyio

ANSWER = "a long answer, of many chunks"
FIRST = "a long a"  # its first chunk
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}]}
EVENTS = {
    CHAT: BODY,
    "/v1/responses": {"input": "hello"},
    "/v1/messages": BODY,
    "/v1beta/models/m:streamGenerateContent": {"contents": [{"parts": [{"text": "hello"}]}]},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", EVENTS)
async def test_a_client_that_hangs_up_leaves_what_was_sampled_until_then(path, stream):
    valves = []

    async def program(caller):
        body = EVENTS[path] if "Content" in path else {**EVENTS[path], "stream": stream}
        with anyio.move_on_after(0.2) as patience:
            await caller.http.post(path, json=body)
        assert patience.cancelled_caught
        with anyio.fail_after(30):
            while not await turns_of(caller):  # noqa: ASYNC110 (a trace tells nobody that it grows)
                await anyio.sleep(0.01)
        valves[0].opened.set()
        if path == CHAT:
            assert await caller.chat("hello", FIRST, "go on") == ANSWER

    async with gateway_run(lambda asked: ANSWER, around=partial(noted, valves)) as play:
        played = await play(program)
    cut = played.turns[0]
    assert (cut.finish, cut.response.content) == (Finish.ABORT, FIRST)
    assert bytes(cut.output_ids.tolist()) == FIRST.encode()
    assert [(span.start, span.end, span.trainable) for span in cut.spans] == [(0, 8, True)]
    assert [turn.parent for turn in played.turns[1:]] == [0] * (len(played.turns) - 1)


async def test_what_a_client_that_hung_up_was_sampled_counts_in_its_budget():
    async def program(caller):
        with anyio.move_on_after(0.1):
            await caller.http.post(CHAT, json=BODY)
        await anyio.sleep(0.1)

    async with gateway_run(lambda asked: ANSWER, around=Valve) as play:
        assert (await play(program)).outcome.usage.tree_tokens == len(FIRST)


async def test_a_client_that_leaves_before_a_token_leaves_nothing():
    async def program(caller):
        await caller.run.manager.pause(Scope(), PauseMode.CUT)
        with anyio.move_on_after(0.1) as patience:
            await caller.http.post(CHAT, json=BODY)
        assert patience.cancelled_caught
        await anyio.sleep(0.05)  # until the gateway sees it
        await caller.run.manager.resume(Scope())
        assert await caller.chat("hello") == ANSWER

    async with gateway_run(lambda asked: ANSWER) as play:
        (turn,) = (await play(program)).turns
    assert turn.finish is Finish.STOP


async def test_a_paused_call_is_kept_alive_and_past_its_clients_patience_kept_as_a_try():
    valves, lines = [], []

    async def program(caller):
        with anyio.move_on_after(0.5):
            async with caller.http.stream("POST", CHAT, json={**BODY, "stream": True}) as answer:
                await valves[0].waiting.wait()
                await caller.run.manager.pause(Scope(), PauseMode.CUT)
                async for line in answer.aiter_lines():
                    lines.append(line)
        await anyio.sleep(0.05)
        assert [turn.finish for turn in await turns_of(caller)] == [Finish.ABORT]
        valves[0].opened.set()
        await caller.run.manager.resume(Scope())
        assert await caller.chat("hello") == ANSWER

    async with gateway_run(lambda asked: ANSWER, around=partial(noted, valves)) as play:
        first, again = (await play(program)).turns
    assert lines.count(": keep-alive") > 2
    assert (first.response.content, again.fork) == (FIRST, Fork.RETRY)


async def test_equal_calls_are_calls_each():
    async def program(caller):
        for _ in range(3):
            await caller.chat("hello")

    async with gateway_run(lambda asked: ANSWER) as play:
        played = await play(program)
    assert [turn.fork for turn in played.turns] == ["", Fork.RETRY, Fork.RETRY]
    assert len(played.outcome.trajectory.rows) == 3


async def turns_of(caller):
    return [event.turn for event in await caller.run.events() if isinstance(event, TurnRecorded)]


def noted(valves, engine):
    valves.append(Valve(engine))
    return valves[0]
