"""Whatever comes over the wire, a call ends with a proper status, and the server goes on."""

from collections.abc import AsyncIterator
from contextlib import closing

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from tests.feed.feeding import OPEN, call, fake, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

METHODS = [
    ("Rollouts", "Submit", False),
    ("Rollouts", "Cancel", False),
    ("Rollouts", "Fetch", True),
    ("Rollouts", "Settle", False),
    ("Control", "Pause", False),
    ("Control", "Resume", False),
    ("Control", "Abort", False),
    ("Control", "SetLimits", False),
    ("Control", "Watch", True),
    ("Blobs", "Get", True),
]
PROPER = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def raw(address: str, method: str, data: list[bytes], timeout_s: float = 0.3) -> grpc.StatusCode:
    """How a call that sends these bytes ends."""
    with closing(grpc.insecure_channel(address)) as channel:
        make = channel.stream_stream(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            list(make(iter(data), timeout=timeout_s))
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture(scope="module")
async def address() -> AsyncIterator[str]:
    run = fake(3)
    async with serve(run, run) as bound:
        yield bound


def alive(address: str) -> bool:
    return bool(call(address, "Control", "State", pb.StateRequest()).run_id == "run")


@quick
@given(st.sampled_from(METHODS), st.binary(max_size=60))
async def test_bytes_that_are_no_message_end_a_call_properly(address, method, data):
    service, name, _ = method
    code = await in_thread(raw, address, f"/envhub.feed.v1.{service}/{name}", [data])
    assert code in PROPER | {grpc.StatusCode.OK}
    assert await in_thread(alive, address)


texts = st.text(max_size=9)
numbers = st.integers(0, 2**32 - 1)
versions = st.integers(-(2**63), 2**63 - 1)
deadlines = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e300, 0.01])
messages = st.one_of(
    st.builds(
        lambda groups, tokens: pb.ClientMessage(credit=pb.Credit(groups=groups, tokens=tokens)), numbers, numbers
    ),
    st.builds(lambda lease: pb.ClientMessage(ack=pb.Ack(lease_id=lease)), texts),
    st.builds(lambda lease, reason: pb.ClientMessage(nack=pb.Nack(lease_id=lease, reason=reason)), texts, texts),
    st.builds(lambda lease: pb.ClientMessage(extend=pb.Extend(lease_id=lease)), texts),
    st.builds(lambda p, v: pb.ClientMessage(version=pb.Version(policy_id=p, version=v)), texts, versions),
    st.builds(lambda p, v: pb.ClientMessage(finish_update=pb.FinishUpdate(policy_id=p, version=v)), texts, versions),
    st.just(pb.ClientMessage(open=pb.Open(consumer="again"))),
    st.just(pb.ClientMessage()),
)


@quick
@given(st.lists(messages, max_size=6), st.booleans(), st.binary(max_size=8))
async def test_any_conversation_ends_properly(address, said, opened, rubbish):
    data = [message.SerializeToString() for message in ([OPEN] if opened else []) + said]
    code = await in_thread(raw, address, "/envhub.feed.v1.Rollouts/Stream", [*data, rubbish])
    assert code in PROPER | {grpc.StatusCode.OK}
    assert await in_thread(alive, address)


@quick
@given(
    st.builds(
        pb.SubmitRequest,
        environment=texts,
        environment_json=texts,
        k=numbers,
        temperature=deadlines,
        deadline_s=deadlines,
        seed=st.integers(0, 2**64 - 1),
        task=st.builds(
            pb.Task,
            id=texts,
            answer_json=texts,
            prompt=st.lists(st.builds(pb.Message, role=st.integers(-9, 9), content=texts), max_size=2),
        ),
    )
)
async def test_any_submission_is_taken_or_refused_with_a_reason(address, request_):
    request_.k = min(request_.k, 4)  # the fake makes as many rows
    code = await in_thread(raw, address, "/envhub.feed.v1.Rollouts/Submit", [request_.SerializeToString()])
    assert code in PROPER | {grpc.StatusCode.OK}
    assert await in_thread(alive, address)


@pytest.mark.parametrize("method", ["Rollouts/Stream", "Rollouts/Submit", "Control/Pause"])
async def test_oversized_request_is_refused_and_the_server_stays_up(address, method):
    code = await in_thread(raw, address, f"/envhub.feed.v1.{method}", [bytes(2 << 20)], 10.0)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await in_thread(alive, address)


async def test_method_that_there_is_not_is_unimplemented(address):
    assert await in_thread(raw, address, "/envhub.feed.v1.Control/Explode", [b""]) is grpc.StatusCode.UNIMPLEMENTED
    assert await in_thread(alive, address)
