"""Policies that take and give messages, in a rollout: held by pauses, answered from the records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId, RolloutId, RunId
from envhub.contracts.messages import Message
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.policy import Action, PolicyInput, PromptIds
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Finish, Fork, Sampling, Turn
from envhub.errors import UsageError
from envhub.rollouts.inexact import InexactPolicy
from envhub.rollouts.pause import Gate, Pauses
from envhub.testing import virtual_time
from envhub.tokens.gate import OpenGate
from envhub.tokens.ledger import Ledger

JUDGE = PolicyId("judge")
QUESTION = (Message.user("Is it good?"),)


def turn(index: int, messages: tuple[Message, ...], answer: str) -> Turn:
    none = np.empty(0, np.int32)
    return Turn(
        index=index,
        policy_id=JUDGE,
        parent=None,
        fork=Fork.NONE,
        messages=messages,
        tools=(),
        delta_ids=none,
        output_ids=none,
        logprobs=none.astype(np.float32),
        spans=(),
        response=Message.assistant(answer),
        finish=Finish.STOP,
        sampling=Sampling(),
        asked={},
        logprob_kind="inexact",
    )


class Asked:
    """A policy that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def act(self, input: PolicyInput) -> Action:
        self.calls += 1
        return Action(Message.assistant("anew"))

    def count(self, input: PolicyInput) -> int:
        return len(input.messages)


@asynccontextmanager
async def held() -> AsyncIterator[None]:
    """Nothing is done about being held."""
    yield


def gate(pauses: Pauses) -> Gate:
    request = RolloutRequest(EnvironmentRef(EnvironmentId("test/some-v0")), Task.ask("?"))
    id = RolloutId("run-0-0-0")
    start = RolloutStarted(RunId("run"), 0.0, id, GroupId("run-0"), 0, 0, None, id, request, 0, 0)
    return pauses.gate(start, held)


def test_what_an_earlier_process_recorded_is_given_again_and_asked_of_nobody() -> None:
    async def play() -> None:
        first, second = turn(0, QUESTION, "yes"), turn(2, QUESTION, "no")
        asked, ledger, recorded = Asked(), Ledger([first, second]), list[Turn]()
        judge = InexactPolicy(asked, JUDGE, ledger, gate(Pauses()), recorded.append)
        assert (await judge.act(PolicyInput(QUESTION))).message.content == "yes"
        assert (await judge.act(PolicyInput((Message.user("Is it bad?"),)))).message.content == "anew"
        assert (await judge.act(PolicyInput(QUESTION))).message.content == "no"
        assert (await judge.act(PolicyInput(QUESTION))).message.content == "anew"
        assert recorded == [first, second]
        assert (asked.calls, ledger.unclaimed) == (2, [])
        assert [ledger.next_index() for _ in range(2)] == [1, 3]

    virtual_time.run(play)


def test_a_pause_holds_a_call_before_it_begins_and_leaves_one_that_runs() -> None:
    async def play() -> None:
        pauses, asked = Pauses(), Asked()
        with gate(pauses) as open_gate:
            judge = InexactPolicy(asked, JUDGE, Ledger(), open_gate, lambda turn: None)
            pauses.pause(Scope(policy_id=JUDGE), PauseMode.CUT)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(judge.act, PolicyInput(QUESTION))
                await anyio.sleep(10)
                assert asked.calls == 0
                pauses.resume(Scope(policy_id=JUDGE))
            assert asked.calls == 1

    virtual_time.run(play)


@pytest.mark.anyio
async def test_it_takes_no_token_ids():
    policy = InexactPolicy(Asked(), JUDGE, Ledger(), OpenGate(), [].append)
    with pytest.raises(UsageError, match="policy 'judge' takes messages, no token ids"):
        await policy.act(PolicyInput((), prompt=PromptIds(np.array([1], np.int32))))
