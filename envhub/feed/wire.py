"""Wire: between the bytes of our calls and their messages.

A request that is no message of its kind ends its call with INVALID_ARGUMENT; left to itself gRPC answers UNKNOWN, and
logs an error of the server's. An answer may be bytes: a message that is serialized already.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

OURS = "/envhub.feed."
UNREADABLE = "the request can't be read; send the message that feed.proto names for this method"

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class _Unreadable:
    """In place of a message."""


class Wire(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Requests that are streamed are read by who takes them."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(OURS):
            return handler
        read, write = handler.request_deserializer, _passing(handler.response_serializer)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(handler.stream_stream, read, write)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_streaming(handler.unary_stream), _lenient(read), write)
        return grpc.unary_unary_rpc_method_handler(_answering(handler.unary_unary), _lenient(read), write)


def _passing(write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda message: message if isinstance(message, bytes) else write(message)


def _lenient(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialize(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return _Unreadable()

    return deserialize


def _answering(behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if isinstance(request, _Unreadable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNREADABLE)
        return await behaviour(request, context)

    return answer


def _streaming(behaviour: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        if isinstance(request, _Unreadable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNREADABLE)
        async for message in behaviour(request, context):
            yield message

    return stream
