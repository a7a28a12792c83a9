"""Gate: lets those calls of a feed through whose token opens them, and tells the services who calls."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc

from envhub.contracts.access import Caller, Role
from envhub.contracts.guard import Guard
from envhub.errors import AccessRefused
from envhub.feed.access import needed_for
from envhub.feed.refusals import refuse
from envhub.monitor.acts import Acts

FEED = "feed"  # the door, in the log of acts

_caller: ContextVar[Caller] = ContextVar("caller")


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets calls through whose token opens their method."""

    def __init__(self, guard: Guard, acts: Acts) -> None:
        """`acts` gets who was turned away from steering."""
        self._guard = guard
        self._acts = acts

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        needed = needed_for(handler_call_details.method)
        if handler is None or needed is None:
            return handler
        return _behind(handler, self._admitting(handler_call_details.method, needed))

    def _admitting(self, method: str, needed: Role) -> Callable[[grpc.aio.ServicerContext], Awaitable[None]]:
        async def admit(context: grpc.aio.ServicerContext) -> None:
            caller = Caller(None, _address(context))
            try:
                caller = self._guard.caller(_token(context), caller.address)
                self._guard.demand(caller, needed)
            except AccessRefused as error:
                if needed is Role.OPERATOR:
                    await self._acts.turned_away(caller, FEED, method.rpartition("/")[2].lower(), str(error))
                await refuse(context, error)
            _caller.set(caller)

        return admit


def caller() -> Caller:
    """Who makes the call that is being answered."""
    return _caller.get()


def _token(context: grpc.aio.ServicerContext) -> str:
    sent = dict(context.invocation_metadata()).get("authorization", "")
    scheme, _, token = (sent.decode(errors="replace") if isinstance(sent, bytes) else sent).partition(" ")
    return token if scheme == "Bearer" else ""


def _address(context: grpc.aio.ServicerContext) -> str:
    """The host of a peer like ipv4:127.0.0.1:34567 or ipv6:%5B::1%5D:34567."""
    _, _, peer = unquote(context.peer()).partition(":")
    return peer.rpartition(":")[0].strip("[]")


def _behind(
    handler: grpc.RpcMethodHandler, admit: Callable[[grpc.aio.ServicerContext], Awaitable[None]]
) -> grpc.RpcMethodHandler:
    """A handler of the same kind that asks first."""
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, behaviour = kinds[handler.request_streaming, handler.response_streaming]

    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:  # its own messages
        await admit(context)
        return await behaviour(request, context)

    async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        await admit(context)
        async for message in behaviour(request, context):
            yield message

    asked = stream if inspect.isasyncgenfunction(behaviour) else answer
    return make(asked, handler.request_deserializer, handler.response_serializer)
