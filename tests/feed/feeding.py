"""What tests of the feed share: groups, consumers, and a client that says just what it is told to."""

from collections.abc import Iterable
from contextlib import closing

import anyio.to_thread
import grpc

from envhub.contracts.ids import GroupId
from envhub.feed.client import FeedClient
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group

in_thread = anyio.to_thread.run_sync

OPEN = pb.ClientMessage(open=pb.Open(consumer="raw"), id=1)


def fake(groups: int) -> FakeDeliveries:
    return FakeDeliveries(closed_group(number) for number in range(groups))


def ids(*numbers: int) -> list[GroupId]:
    return [closed_group(number).group_id for number in numbers]


def consume(address: str, *, credit: int = 2, consumer: str = "trainer", **options) -> list[GroupId]:
    """Acks every group there is; returns those it was given."""
    seen = []
    with FeedClient(address, consumer=consumer, **options) as feed:
        for lease in feed.groups(credit):
            seen.append(lease.group_id)
            assert lease.ack()
    return seen


def converse(address: str, messages: Iterable[pb.ClientMessage]) -> list[pb.ServerMessage]:
    """What a client that says just this is answered."""
    with closing(grpc.insecure_channel(address)) as channel:
        return list(feed_pb2_grpc.RolloutsStub(channel).Stream(iter(messages), timeout=10))


def call(address: str, service: str, method: str, message, *, token: str = "", streams: bool = False):
    """What a method gives, a list where it streams."""
    with closing(grpc.insecure_channel(address)) as channel:
        stub = getattr(feed_pb2_grpc, f"{service}Stub")(channel)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        answer = getattr(stub, method)(message, timeout=10, metadata=metadata)
        return list(answer) if streams else answer
