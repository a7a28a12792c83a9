"""Session: the server's side of one stream.

Invariants
 - It never has sent more groups, tokens or bytes of deliveries than its client granted credits.
 - Commands are answered one by one, in their order, also while a lease is waited for.
 - A command that was begun is answered, and a message that was begun is sent whole, also when the server stops: what
   is shielded here ends at the latest as the server cancels the call itself.
 - Whatever ends it, the leases it left unsettled are given back before it is over.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from envhub.contracts.delivery import ClosedGroup, Deliveries, Delivery, News, NewsKind
from envhub.contracts.ids import GroupId, LeaseId
from envhub.errors import LeaseLost, UsageError
from envhub.feed.allowance import Allowance, Cost, most_bytes
from envhub.feed.answers import Answers, lease_of, settled_by
from envhub.feed.encoding import delivery_pieces, group_pieces, tokens_of
from envhub.feed.parts import delivered
from envhub.feed.pieces import Pieces
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.wire import UNREADABLE

GIVE_BACK_S = 10.0  # for the leases of a stream that ended; those not given back by then expire
MAX_NOTICES = 1024  # that wait to be sent: a client that reads none loses the oldest

NOTICED = {
    NewsKind.EXPIRED: (pb.Notice.KIND_LEASE_LOST, "its lease ran out; the group goes to another delivery"),
    NewsKind.DEAD_LETTER: (pb.Notice.KIND_DEAD_LETTER, "it was nacked or expired too often and is delivered no more"),
    NewsKind.STALE: (pb.Notice.KIND_STALE, "its tokens have become older than the bound; it was dropped"),
}


class Session:
    """One client's stream: a task that delivers what its credits allow, and the loop that does as the client says."""

    def __init__(
        self,
        deliveries: Deliveries,
        answers: Answers,
        consumer: str,
        unsettled: set[LeaseId],
        requests: AsyncIterator[pb.ClientMessage],
        context: grpc.aio.ServicerContext,
    ) -> None:
        self._deliveries = deliveries
        self._answers = answers
        self._consumer = consumer
        self._requests = requests
        self._context = context
        self._allowance = Allowance()
        self._granted = anyio.Event()  # a new one each time
        self._leasing = anyio.CancelScope()  # of the wait for a lease
        self._short_of: GroupId | None = None  # the group that the allowance did not cover
        self._encoded: tuple[ClosedGroup, Pieces] | None = None  # the last one, which mostly is sent next
        self._unsettled = unsettled  # leases of this stream, whoever settles them
        self._notices: deque[pb.Notice] = deque(maxlen=MAX_NOTICES)
        self._noticed = anyio.Event()
        self._writing = anyio.Lock(fast_acquire=True)  # gRPC takes one write at a time

    async def run(self) -> str:
        """Runs until the client ends the stream; returns the rule that it broke, if that is why."""
        try:
            with self._deliveries.news(self._hear):
                async with anyio.create_task_group() as tasks:
                    await self._send(pb.ServerMessage(done=pb.Done()))
                    tasks.start_soon(self._deliver)
                    tasks.start_soon(self._notify)
                    violation = await self._obey()
                    tasks.cancel_scope.cancel()
        finally:
            await self._give_back()
        return violation

    async def _deliver(self) -> None:
        while (delivery := await self._lease()) is not None:
            self._unsettled.add(delivery.lease_id)
            pieces = delivery_pieces(delivery, self._encode(delivery.group))
            self._encoded = None
            tokens = 0 if self._allowance.tokens is None else tokens_of(delivery.group)
            self._allowance.spend(Cost(tokens, pieces.size))
            for message in delivered(pieces):
                await self._send(message)
        await self._send_notices()  # nobody may listen any more after the end
        await self._send(pb.ServerMessage(end=pb.End()))

    async def _lease(self) -> Delivery | None:
        """The next delivery that the allowance covers."""
        while True:
            while not self._allowance.groups:
                await self._granted.wait()
            self._short_of = None
            with anyio.CancelScope() as self._leasing:
                return await self._deliveries.lease(self._consumer, self._admits)

    def _admits(self, group: ClosedGroup) -> bool:
        if self._allowance.tokens is None and self._allowance.bytes is None:
            return True
        cost = Cost(tokens_of(group), most_bytes(group, self._encode(group).size))
        if self._allowance.covers(cost):
            return True
        if self._short_of != group.group_id:
            self._short_of = group.group_id
            self._note(
                pb.Notice(
                    kind=pb.Notice.KIND_SHORT_OF_CREDIT,
                    group_id=group.group_id,
                    message=f"the next group needs a credit of {cost.tokens} tokens and {cost.bytes} bytes",
                    tokens=cost.tokens,
                    bytes=cost.bytes,
                )
            )
        return False

    def _encode(self, group: ClosedGroup) -> Pieces:
        if self._encoded is None or self._encoded[0] is not group:
            self._encoded = (group, group_pieces(group))
        return self._encoded[1]

    async def _obey(self) -> str:
        try:
            return await self._obey_each()
        except DecodeError:
            return UNREADABLE

    async def _obey_each(self) -> str:
        async for message in self._requests:
            if message.WhichOneof("kind") == "credit":
                try:
                    self._grant(message.credit)
                except UsageError as error:
                    return str(error)
            else:
                with anyio.CancelScope(shield=True):
                    answer = await self._answers.to(message)
                    if settled_by(message, answer):
                        self._unsettled.discard(lease_of(message))
                    await self._write(answer)
        return ""

    def _grant(self, credit: pb.Credit) -> None:
        self._allowance.grant(credit)
        self._granted.set()
        self._granted = anyio.Event()
        if self._short_of is not None:
            self._leasing.cancel()  # it looks at the first in line again

    def _hear(self, news: News) -> None:
        if news.kind is NewsKind.EXPIRED:
            if news.lease_id not in self._unsettled:
                return
            self._unsettled.discard(news.lease_id)
        kind, text = NOTICED[news.kind]
        message = f"group '{news.group_id}': {text}"
        self._note(pb.Notice(kind=kind, lease_id=news.lease_id, group_id=news.group_id, message=message))

    def _note(self, notice: pb.Notice) -> None:
        self._notices.append(notice)
        self._noticed.set()

    async def _notify(self) -> None:
        while True:
            await self._noticed.wait()
            self._noticed = anyio.Event()
            await self._send_notices()

    async def _send_notices(self) -> None:
        while self._notices:
            await self._send(pb.ServerMessage(notice=self._notices.popleft()))

    async def _send(self, message: pb.ServerMessage | bytes) -> None:
        with anyio.CancelScope(shield=True):
            await self._write(message)

    async def _write(self, message: pb.ServerMessage | bytes) -> None:
        async with self._writing:
            await self._context.write(message)

    async def _give_back(self) -> None:
        with anyio.move_on_after(GIVE_BACK_S, shield=True):
            for lease_id in self._unsettled:
                with suppress(LeaseLost):
                    await self._deliveries.give_back(lease_id)
