"""What a session promises to programs outside, and when it ends."""

import anyio
import pytest

from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action, Policy, PolicyInput
from envhub.contracts.turn import Sampling
from envhub.errors import EngineFault
from envhub.gateway.call_rules import CallRules
from envhub.gateway.errors import ApiError
from envhub.gateway.places import Places, Room
from envhub.gateway.sessions import Session, Sessions

pytestmark = pytest.mark.anyio
ROLLOUT, INPUT = RolloutId("run-0-0-0"), PolicyInput((Message.user("2 + 2?"),))


class Stubborn:
    """A policy that goes on after it was cancelled, and still answers."""

    def __init__(self) -> None:
        self.called, self.release = anyio.Event(), anyio.Event()

    async def act(self, input: PolicyInput) -> Action:
        with anyio.CancelScope(shield=True):
            self.called.set()
            await self.release.wait()
        return Action(Message.assistant("late"))


@pytest.mark.parametrize("grace_s", [0.01, 10.0])
async def test_no_call_is_answered_after_its_session_ended(monkeypatch, grace_s):
    monkeypatch.setattr("envhub.gateway.sessions.GRACE_S", grace_s)
    policy = Stubborn()
    session = Session(ROLLOUT, policy, Sampling(), CallRules(), Places(1, "it"), Places(1, "all"), Room(1, "it"))
    refused: list[ApiError] = []

    async def call() -> None:
        with pytest.raises(ApiError) as caught:
            await session.act(INPUT, anyio.CancelScope())
        refused.append(caught.value)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await policy.called.wait()
            tasks.start_soon(session.end)
            await anyio.sleep(0.05)
            policy.release.set()
    assert [error.code for error in refused] == ["rollout_ended"]


class Failing:
    async def act(self, input: PolicyInput) -> Action:
        raise EngineFault("it is down")


async def test_calls_of_all_rollouts_share_places_and_give_them_back_however_they_end():
    shared = Places(1, "all", patience_s=0.01)

    def session(policy: Policy) -> Session:
        return Session(ROLLOUT, policy, Sampling(), CallRules(), Places(1, "it"), shared, Room(1, "it"))

    policy = Stubborn()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session(policy).act, INPUT, anyio.CancelScope())
        await policy.called.wait()
        with pytest.raises(ApiError, match="calls of all"):
            await session(Failing()).act(INPUT, anyio.CancelScope())
        policy.release.set()
    for _ in range(2):
        with pytest.raises(EngineFault, match="it is down"):
            await session(Failing()).act(INPUT, anyio.CancelScope())


@pytest.mark.parametrize(
    ("listens_on", "url"),
    [
        ("http://0.0.0.0:8601", "http://127.0.0.1:8601/v1"),
        ("http://[::]:8601", "http://[::1]:8601/v1"),
        ("http://:8601", "http://127.0.0.1:8601/v1"),
        ("http://192.0.2.1:8601", "http://192.0.2.1:8601/v1"),
        ("http://[2001:db8::7]:8601", "http://[2001:db8::7]:8601/v1"),
    ],
)
async def test_the_url_of_an_endpoint_can_be_connected_to(listens_on, url):
    async with Sessions(listens_on).open(ROLLOUT, Stubborn(), Sampling()) as endpoint:
        assert endpoint.url == url
