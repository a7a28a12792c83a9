"""CallResponse: an HTTP response that waits for a model call.

Invariants: a client that hangs up cuts the call; an error that comes before the first byte has a status of its own, on
which SDKs decide whether to retry. A stream therefore opens with its first keep-alive or with the answer, not before.
"""

from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from envhub.contracts.policy import Action
from envhub.errors import EnvhubError
from envhub.gateway.errors import ApiError, api_error

KEEP_ALIVE = b": keep-alive\n\n"  # a comment of server-sent events: clients skip it


class CallResponse(Response):
    """Answers with what `act` gives; comments keep a stream alive until then, an error ends one that has begun."""

    def __init__(
        self,
        act: Callable[[], Awaitable[Action]],
        encode: Callable[[Action], bytes],
        encode_error: Callable[[ApiError], bytes],
        *,
        media_type: str,
        keep_alive_s: float,  # math.inf: the answer comes whole
    ) -> None:
        super().__init__(media_type=media_type, headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._act = act
        self._encode = encode
        self._encode_error = encode_error
        self._keep_alive_s = keep_alive_s
        self._ended = anyio.Event()
        self._action: Action | None = None
        self._error: ApiError | None = None
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._call)
            tasks.start_soon(cancel_when_left, receive, tasks.cancel_scope)
            await self._keep_alive(send)
            tasks.cancel_scope.cancel()
        if self._action is not None:
            await self._send(send, self._encode(self._action), more=False)
        elif self._error is not None:
            if not self._started:
                raise self._error
            await self._send(send, self._encode_error(self._error), more=False)

    async def _call(self) -> None:
        try:
            self._action = await self._act()
        except EnvhubError as error:
            self._error = api_error(error)
        self._ended.set()

    async def _keep_alive(self, send: Send) -> None:
        while not self._ended.is_set():
            with anyio.move_on_after(self._keep_alive_s):
                await self._ended.wait()
            if not self._ended.is_set():
                await self._send(send, KEEP_ALIVE, more=True)

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def cancel_when_left(receive: Receive, call: anyio.CancelScope) -> None:
    """Waits for the client to hang up, then cuts the call. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
