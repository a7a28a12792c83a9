"""ControlService: a run's Control over gRPC."""

from collections.abc import AsyncIterator

import anyio
import grpc

from envhub.contracts.delivery import Control
from envhub.errors import UsageError
from envhub.feed.refusals import refusals
from envhub.feed.requests import decode_limits, decode_mode, decode_scope, encode_state
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

USUAL_S = 1.0  # between two looks at the state
RANGE_S = (0.1, 60.0)


class ControlService(feed_pb2_grpc.ControlServicer):
    """Binds the calls to a Control."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._watches: set[anyio.CancelScope] = set()
        self._stopping = False

    def close(self) -> None:
        """Ends the watches."""
        self._stopping = True
        for scope in self._watches:
            scope.cancel()

    async def Pause(self, request: pb.PauseRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            await self._control.pause(decode_scope(request.scope), decode_mode(request.mode))
        return pb.ControlReply()

    async def Resume(self, request: pb.ResumeRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            await self._control.resume(decode_scope(request.scope), pinned=request.pinned)
        return pb.ControlReply()

    async def Abort(self, request: pb.AbortRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            await self._control.abort(decode_scope(request.scope))
        return pb.ControlReply()

    async def Drain(self, request: pb.DrainRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            await self._control.drain()
        return pb.ControlReply()

    async def SetLimits(self, request: pb.Limits, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            await self._control.limit(decode_limits(request))
        return pb.ControlReply()

    async def State(self, request: pb.StateRequest, context: grpc.aio.ServicerContext) -> pb.RunState:
        return encode_state(await self._control.state())

    async def Watch(self, request: pb.WatchRequest, context: grpc.aio.ServicerContext) -> AsyncIterator[pb.RunState]:
        async with refusals(context):
            every_s = _checked(request.every_s or USUAL_S)
        last: pb.RunState | None = None
        while (state := await self._changed(last, every_s)) is not None:
            last = state
            yield state

    async def _changed(self, last: pb.RunState | None, every_s: float) -> pb.RunState | None:
        """The state once it is another one; None where the server stops."""
        with anyio.CancelScope() as scope:
            self._watches.add(scope)
            if self._stopping:
                scope.cancel()
            try:
                # Counts change with every event: waking at each would flood who watches.
                while (state := encode_state(await self._control.state())) == last:  # noqa: ASYNC110
                    await anyio.sleep(every_s)
                return state
            finally:
                self._watches.discard(scope)
        return None


def _checked(every_s: float) -> float:
    if not RANGE_S[0] <= every_s <= RANGE_S[1]:
        raise UsageError(f"the state is looked at every {every_s} s; it must be {RANGE_S[0]:g} to {RANGE_S[1]:g}")
    return every_s
