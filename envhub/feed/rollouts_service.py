"""RolloutsService: groups out, prompts in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from envhub.contracts.delivery import Control, Deliveries
from envhub.contracts.guard import Guard
from envhub.contracts.ids import GroupId, LeaseId
from envhub.errors import UsageError
from envhub.feed.allowance import MAX_CREDIT
from envhub.feed.answers import SETTLING, Answers, lease_of, settled_by
from envhub.feed.encoding import delivery_pieces
from envhub.feed.fetches import Fetches
from envhub.feed.gate import FEED, caller
from envhub.feed.parts import delivered
from envhub.feed.refusals import refusals
from envhub.feed.requests import decode_submission
from envhub.feed.session import Session
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc
from envhub.feed.wire import UNREADABLE
from envhub.monitor.acts import Acts

LEAVE_S = 10.0  # for clients to leave by themselves, once the run is drained


@dataclass(eq=False, slots=True)
class _Stream:
    """One that is open."""

    consumer: str
    scope: anyio.CancelScope
    unsettled: set[LeaseId] = field(default_factory=set)
    replaced: bool = False  # another one has opened for the consumer
    over: anyio.Event = field(default_factory=anyio.Event)


class RolloutsService(feed_pb2_grpc.RolloutsServicer):
    """Runs a session for each stream; at most one stream of a consumer is open."""

    def __init__(self, deliveries: Deliveries, control: Control, guard: Guard, acts: Acts) -> None:
        self._deliveries = deliveries
        self._control = control
        self._guard = guard
        self._acts = acts
        self._answers = Answers(deliveries, control)
        self._fetches = Fetches(deliveries)
        self._streams: dict[str, _Stream] = {}
        self._stopping = False

    async def close(self) -> None:
        """Ends all streams. Where the run is drained, clients have time to hear so and to say their last."""
        try:
            if await self._drained():
                with anyio.move_on_after(LEAVE_S):
                    while self._streams:
                        await next(iter(self._streams.values())).over.wait()
        finally:
            self._stopping = True
            for stream in self._streams.values():
                stream.scope.cancel()

    async def Stream(self, requests: AsyncIterator[pb.ClientMessage], context: grpc.aio.ServicerContext) -> None:
        async with refusals(context):
            consumer = _opened(await _first_of(requests))
        stream = _Stream(consumer, anyio.CancelScope())
        violation = ""
        with stream.scope:
            await self._take_over(stream)
            if self._stopping:
                stream.scope.cancel()
            try:
                session = Session(self._deliveries, self._answers, consumer, stream.unsettled, requests, context)
                violation = await session.run()
            finally:
                self._leave(stream)
        if stream.scope.cancelled_caught:
            await self._dismiss(stream, context)
        if violation:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, violation)

    async def Submit(self, request: pb.SubmitRequest, context: grpc.aio.ServicerContext) -> pb.SubmitReply:
        async with refusals(context):
            self._guard.spend("submit", caller())
            return pb.SubmitReply(group_id=await self._control.submit(decode_submission(request)))

    async def Cancel(self, request: pb.CancelRequest, context: grpc.aio.ServicerContext) -> pb.CancelReply:
        async with refusals(context), self._acts.acting(caller(), FEED, "cancel", {"group_id": request.group_id}):
            await self._control.cancel(GroupId(request.group_id))
        return pb.CancelReply()

    async def Fetch(
        self, request: pb.FetchRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ServerMessage | bytes]:
        async with refusals(context):
            consumer = _named(request.consumer, request.rank, request.ranks)
            deliveries, over = await self._fetches.take(consumer, request)
        for delivery in deliveries:
            for message in delivered(delivery_pieces(delivery)):
                yield message
        yield pb.ServerMessage(end=pb.End()) if over else pb.ServerMessage(done=pb.Done())

    async def Settle(self, request: pb.SettleRequest, context: grpc.aio.ServicerContext) -> pb.SettleReply:
        async with refusals(context):
            _check_settling(request)
        answers = await self._answers.to_all(request.messages)
        answered = zip(request.messages, answers, strict=True)
        settled = [lease_of(message) for message, answer in answered if settled_by(message, answer)]
        for stream in self._streams.values():
            stream.unsettled.difference_update(settled)
        return pb.SettleReply(answers=answers)

    async def _take_over(self, stream: _Stream) -> None:
        """Ends the stream that the consumer had, which may be one whose client is gone without a word."""
        older = self._streams.get(stream.consumer)
        self._streams[stream.consumer] = stream
        if older is not None:
            older.replaced = True
            older.scope.cancel()
            await older.over.wait()

    def _leave(self, stream: _Stream) -> None:
        if self._streams.get(stream.consumer) is stream:
            del self._streams[stream.consumer]
        stream.over.set()

    async def _dismiss(self, stream: _Stream, context: grpc.aio.ServicerContext) -> None:
        """Tells a client whose stream is ended why: that it was replaced, that the run is drained, or to come back."""
        if stream.replaced:
            text = f"another stream has opened for consumer '{stream.consumer}'; give each process a name of its own"
            notice = pb.Notice(kind=pb.Notice.KIND_REPLACED, message=text)
            await context.write(pb.ServerMessage(notice=notice))
            await context.abort(grpc.StatusCode.ABORTED, text)
        if not await self._drained():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the feed stops before the run is drained; reconnect")
        await context.write(pb.ServerMessage(end=pb.End()))

    async def _drained(self) -> bool:
        return (await self._control.state()).members.drained


async def _first_of(requests: AsyncIterator[pb.ClientMessage]) -> pb.ClientMessage:
    try:
        return await anext(requests, pb.ClientMessage())
    except DecodeError as error:
        raise UsageError(UNREADABLE) from error


def _opened(first: pb.ClientMessage) -> str:
    """The consumer whose stream begins with that message."""
    if not first.open.consumer:
        raise UsageError("the first message must be an Open that names its consumer")
    return _named(first.open.consumer, first.open.rank, first.open.ranks)


def _named(consumer: str, rank: int, ranks: int) -> str:
    """What a consumer is called: each rank of a data parallel trainer is one."""
    if not consumer:
        raise UsageError("consumer is empty; name this trainer process, like trainer-0")
    if not ranks:
        return consumer
    if rank >= ranks:
        raise UsageError(f"rank {rank} of {ranks} ranks; ranks count from 0")
    return f"{consumer}/{rank}"


def _check_settling(request: pb.SettleRequest) -> None:
    if len(request.messages) > MAX_CREDIT:
        raise UsageError(f"{len(request.messages)} messages; settle at most {MAX_CREDIT} in a call")
    for message in request.messages:
        kind = message.WhichOneof("kind")
        if kind not in SETTLING:
            raise UsageError(f"Settle takes Ack, Nack and Extend, not {kind}; say the rest on a Stream, or to Control")
