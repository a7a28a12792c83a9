"""Gate: lets those calls of a feed through whose token opens them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from hmac import compare_digest

import grpc

from envhub.feed.access import Role

NEEDED = {
    "/grpc.health.v1.Health/": Role.NOBODY,
    "/grpc.reflection.": Role.OBSERVER,
    "/envhub.feed.v1.Control/State": Role.OBSERVER,
    "/envhub.feed.v1.Control/Watch": Role.OBSERVER,
    "/envhub.feed.v1.Rollouts/": Role.TRAINER,
    "/envhub.feed.v1.Blobs/": Role.TRAINER,
}  # by the beginning of a method's name; of all others an operator's


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets calls through whose token opens their method; without any tokens all of them."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = {f"Bearer {token}".encode(): role for token, role in roles.items()}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        needed = needed_for(handler_call_details.method)
        if not self._roles or needed is Role.NOBODY or handler is None:
            return handler
        role = self._role(dict(handler_call_details.invocation_metadata).get("authorization", ""))
        if role is Role.NOBODY:
            return _refusing(
                handler, grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token; send a token of this feed"
            )
        if role < needed:
            return _refusing(
                handler,
                grpc.StatusCode.PERMISSION_DENIED,
                f"this token is of the role {role.name.lower()}; "
                f"{handler_call_details.method} needs one of the role {needed.name.lower()}",
            )
        return handler

    def _role(self, given: str | bytes) -> Role:
        sent = given.encode() if isinstance(given, str) else given
        # Each is compared, so that the time tells nothing of which one came close.
        return max((role for token, role in self._roles.items() if compare_digest(sent, token)), default=Role.NOBODY)


def needed_for(method: str) -> Role:
    """The least role that may call a method."""
    return next((role for start, role in NEEDED.items() if method.startswith(start)), Role.OPERATOR)


def _refusing(handler: grpc.RpcMethodHandler, code: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler:
    """A handler of the same kind that refuses."""

    async def refuse(request: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(code, message)

    async def refuse_stream(request: object, context: grpc.aio.ServicerContext) -> AsyncIterator[object]:
        await context.abort(code, message)
        yield None

    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, refuse),
        (False, True): (grpc.unary_stream_rpc_method_handler, refuse_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, refuse),
        (True, True): (grpc.stream_stream_rpc_method_handler, refuse_stream),
    }
    make, behaviour = kinds[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
