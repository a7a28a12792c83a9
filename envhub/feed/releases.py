"""Releases: what a feed says to a client of another release, which asks for what this one does not know."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from envhub.feed.connection import RELEASE

AGENT = "user-agent"  # which a client's library sends, with its RELEASE first


class Releases(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Names both sides where a method is not known; last, so that the others see who may ask at all."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        return await continuation(handler_call_details) or _unknown(handler_call_details)


def _unknown(asked: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
    agent = dict(asked.invocation_metadata).get(AGENT, "a client that does not say which it is")

    async def refuse(requests: Any, context: grpc.aio.ServicerContext) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{asked.method} is not known to this server, {RELEASE}, and the client is {agent}; install the same "
            "envhub-rl on both sides",
        )

    return grpc.stream_stream_rpc_method_handler(refuse)
