"""ControlService: a run's Control over gRPC."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict

import anyio
import grpc

from envhub.contracts.delivery import Control
from envhub.contracts.messages import JsonObject
from envhub.contracts.pause import Scope
from envhub.errors import UsageError
from envhub.feed.gate import FEED, caller
from envhub.feed.refusals import refusals
from envhub.feed.requests import decode_limits, decode_mode, decode_scope, encode_state
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc
from envhub.monitor.acts import Acts

USUAL_S = 1.0  # between two looks at the state
RANGE_S = (0.1, 60.0)


class ControlService(feed_pb2_grpc.ControlServicer):
    """Binds the calls to a Control."""

    def __init__(self, control: Control, acts: Acts) -> None:
        self._control = control
        self._acts = acts
        self._watches: set[anyio.CancelScope] = set()
        self._stopping = False

    def close(self) -> None:
        """Ends the watches."""
        self._stopping = True
        for scope in self._watches:
            scope.cancel()

    async def Pause(self, request: pb.PauseRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            scope, mode = decode_scope(request.scope), decode_mode(request.mode)
            async with self._acting("pause", {"mode": mode, "scope": said(scope)}):
                await self._control.pause(scope, mode)
        return pb.ControlReply()

    async def Resume(self, request: pb.ResumeRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            scope = decode_scope(request.scope)
            async with self._acting("resume", {"pinned": request.pinned, "scope": said(scope)}):
                await self._control.resume(scope, pinned=request.pinned)
        return pb.ControlReply()

    async def Abort(self, request: pb.AbortRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            scope = decode_scope(request.scope)
            async with self._acting("abort", {"scope": said(scope)}):
                await self._control.abort(scope)
        return pb.ControlReply()

    async def Drain(self, request: pb.DrainRequest, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            async with self._acting("drain", {}):
                pass  # it is never refused, and takes as long as the groups do
            await self._control.drain()
        return pb.ControlReply()

    async def SetLimits(self, request: pb.Limits, context: grpc.aio.ServicerContext) -> pb.ControlReply:
        async with refusals(context):
            limits = decode_limits(request)
            async with self._acting("limit", {name: value for name, value in asdict(limits).items() if value}):
                await self._control.limit(limits)
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

    def _acting(self, action: str, detail: JsonObject) -> AbstractAsyncContextManager[None]:
        return self._acts.acting(caller(), FEED, action, detail)

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


def said(scope: Scope) -> JsonObject:
    """What it names."""
    return {name: value for name, value in asdict(scope).items() if value}


def _checked(every_s: float) -> float:
    if not RANGE_S[0] <= every_s <= RANGE_S[1]:
        raise UsageError(f"the state is looked at every {every_s} s; it must be {RANGE_S[0]:g} to {RANGE_S[1]:g}")
    return every_s
