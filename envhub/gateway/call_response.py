"""CallResponse: an HTTP response that waits for a model call.

Invariants: a client that hangs up cuts the call, and what was sampled until then is recorded; an error that comes
before the first byte has a status of its own, on which SDKs decide whether to retry. A stream therefore opens with the
first text, keep-alive or the answer, not before. A call that is kept is recorded before its last byte is sent: with
that its rollout may end.
"""

from dataclasses import replace

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from envhub.contracts.engine import Tokenizer
from envhub.contracts.policy import Action, Heard
from envhub.contracts.turn import Fork, Turn
from envhub.errors import EnvhubError
from envhub.gateway.dialect import Call, Reply, Sampled
from envhub.gateway.errors import ApiError, api_error
from envhub.gateway.hang_up import HangUp
from envhub.gateway.kept_calls import KeptCall
from envhub.gateway.sessions import Session
from envhub.http_server import HANG_UP, OnHangUp

COALESCE_S = 0.005  # a burst of tokens is one event
WHOLE = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
STREAMED = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


class CallResponse(Response):
    """Answers a call with what the session's policy does: whole, or as a stream of what is heard of it."""

    def __init__(
        self,
        call: Call,
        session: Session,
        *,
        size: int,
        fork: Fork,
        keep_alive_s: float,
        kept: KeptCall | None = None,
    ) -> None:
        """`size` is of the request's body, `fork` what its headers say of the call. `kept` is told the answer, and then
        recorded."""
        self.raw_headers = STREAMED if call.stream else WHOLE
        self._call = call
        self._session = session
        self._size = size
        self._fork = fork
        self._keep_alive_s = keep_alive_s
        self._answer = _Answer(hears=call.stream is not None)
        self._hang_up = HangUp()
        self._started = False
        self._kept = kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._session.unanswered.holding(self._size):
            await self._call_and_answer(scope, receive, send)

    async def _call_and_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        on_hang_up: OnHangUp | None = scope.get("extensions", {}).get(HANG_UP)
        if on_hang_up is not None:
            on_hang_up(self._hang_up.cancel)
            try:
                await self._respond(send)
            finally:
                on_hang_up(None)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_when_left, receive, self._hang_up)
                await self._respond(send)
                tasks.cancel_scope.cancel()
        self._record()  # of a client that hung up, or is refused: what there is
        if self._answer.error is not None and not self._started:
            raise self._answer.error

    async def _respond(self, send: Send) -> None:
        if self._call.stream is None:
            await self._run()
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run)
                await self._stream(self._call.stream, send)
        await self._end(send)

    async def _run(self) -> None:
        answer, call = self._answer, self._call
        fork, trains = self._fork or call.input.fork, self._session.rules.trains
        input = replace(call.input, fork=fork, trains=trains, listener=answer, cut=self._hang_up)
        try:
            answer.action = await self._session.act(input, self._hang_up.call)
            if call.kept is not None and answer.action is not None:
                self._session.keep(call.id, (*call.kept, answer.action.message))
        except EnvhubError as error:
            answer.error = api_error(error)
        if answer.hears:
            answer.over.set()
            answer.news.set()

    async def _stream(self, reply: Reply, send: Send) -> None:
        """Writes what is heard, until the answer is whole."""
        answer = self._answer
        while not answer.over.is_set():
            with anyio.move_on_after(self._keep_alive_s) as patience:
                await answer.news.wait()
            if patience.cancelled_caught:
                await self._send(send, reply.keep_alive, more=True)
            elif answer.heard:
                with anyio.move_on_after(COALESCE_S):
                    await answer.over.wait()
                await self._send(send, reply.piece(answer.take()), more=True)

    async def _end(self, send: Send) -> None:
        """Nothing, where the client left, or where an error can still have a status of its own."""
        answer, reply = self._answer, self._call.stream
        if answer.action is not None:
            write = self._call.whole if reply is None else reply.closing
            await self._send(send, write(answer.action, answer.sampled), more=False)
        elif answer.error is not None and reply is not None and self._started:
            await self._send(send, reply.failure(answer.error), more=False)

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        if not self._started:
            self._started = True
            body = self._call.stream.opening() + body if self._call.stream else body
            length = [] if more else [(b"content-length", str(len(body)).encode())]
            headers = [*self.raw_headers, *length]
            if self._kept:
                self._kept.begin(200, headers)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._kept:
            self._kept.add(body)
            if not more:
                self._record()
        await send({"type": "http.response.body", "body": body, "more_body": more})

    def _record(self) -> None:
        """Once, where the call became a turn."""
        kept, self._kept = self._kept, None
        if kept is not None and self._answer.turn >= 0:
            self._session.record(kept.raw(self._answer.turn))


class _Answer:
    """What is known of the answer; the Listener of its call."""

    def __init__(self, *, hears: bool) -> None:
        self.hears = hears
        if hears:  # what only a stream waits for
            self.over = anyio.Event()
            self.news = anyio.Event()
        self.heard: list[Heard] = []
        self.sampled: Sampled | None = None
        self.action: Action | None = None
        self.error: ApiError | None = None

    def hear(self, heard: Heard) -> None:
        if self.hears:
            self.heard.append(heard)
            self.news.set()

    def read(self, turn: Turn, tokenizer: Tokenizer) -> None:
        self.sampled = Sampled(turn, tokenizer)

    @property
    def turn(self) -> int:
        """-1: it became none."""
        if self.sampled is not None:
            return self.sampled.turn.index
        return self.action.turn if self.action else -1

    def take(self) -> Heard:
        """All that was heard since the last time, as one."""
        heard, self.heard = self.heard, []
        self.news = anyio.Event()
        return Heard("".join(one.content for one in heard), "".join(one.reasoning for one in heard))


async def cancel_when_left(receive: Receive, call: anyio.CancelScope | HangUp) -> None:
    """Waits for the client to hang up, then cuts the call. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
