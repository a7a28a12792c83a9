"""Requests to one agent: bounded in time, and ended inside when whoever asked is cancelled."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import anyio

from envhub.contracts.command import ExecRequest, ExecResult, Output
from envhub.errors import SandboxFault
from sandboxes.host import commands
from sandboxes.host.channel import Call, Channel, Frame
from sandboxes.host.conversation import answer, encoded, parts_of, pass_part, step
from sandboxes.inside.frames import CANCEL, DONE, DOWNLOAD, PART, PULL, UPLOAD
from sandboxes.threads import in_thread

T = TypeVar("T")
KILL_S = 6.0  # the agent gives up on a tree that can't be killed after 4
FILE_S = 60.0  # without a word from the agent


class Requests:
    """What is asked of an agent. What it can't end is ended with the whole sandbox, by `destroy`."""

    def __init__(self, channel: Channel, destroy: Callable[[], Awaitable[None]]) -> None:
        self.channel = channel
        self._destroy = destroy

    async def exec(self, request: ExecRequest) -> ExecResult:
        """Runs a command and waits for it."""
        call = commands.begin(self.channel, request, streamed=False)
        rest = parts_of(request.stdin[PART:])
        return commands.collected(*await self.run(call, commands.what(request), request.timeout_s, rest))

    async def stream(self, request: ExecRequest) -> AsyncGenerator[Output | ExecResult, None]:
        """Runs a command: its output as it comes, then its result."""
        call, what = commands.begin(self.channel, request, streamed=True), commands.what(request)
        rest, give_up = parts_of(request.stdin[PART:]), anyio.current_time() + request.timeout_s + KILL_S
        try:
            while not call.over:
                frame = await self._bounded(step(call, what), what, give_up - anyio.current_time())
                if frame.kind == PULL:
                    await pass_part(call, rest)
                    continue
                for output in commands.pieces(frame, last=call.over):
                    yield output
            yield commands.result(frame)
        finally:
            if not call.over:
                await self._cancel(call)

    async def run(
        self, call: Call, what: str, timeout_s: float, parts: AsyncIterator[bytes] | None = None
    ) -> tuple[Frame, list[Frame]]:
        """The answer to something that runs, and that has ended when this raises.

        Raises:
            SandboxFault: the sandbox died, or was destroyed to end it.
            UsageError: the agent refused.
        """
        try:
            return await self._bounded(answer(call, what, parts), what, timeout_s + KILL_S)
        except anyio.get_cancelled_exc_class():
            await self._cancel(call)
            raise

    async def transfer(
        self, kind: int, what: str, fields: list[str], body: bytes = b"", parts: AsyncIterator[bytes] | None = None
    ) -> tuple[Frame, list[Frame]]:
        """The answer to a request that starts nothing; `parts` follow its body.

        Raises:
            SandboxFault: the sandbox died or had trouble.
            UsageError: the agent refused.
        """
        call = self.channel.ask(kind, encoded(what, fields), body, more=parts is not None)
        try:
            return await answer(call, what, parts, patience_s=FILE_S)
        except BaseException:
            self._drop(call)
            raise

    async def unpack(self, what: str, path: str, parts: AsyncIterator[bytes]) -> None:
        """Writes a stream of files into a folder inside."""
        await self.transfer(UPLOAD, what, [path], parts=parts)

    async def pack(self, what: str, path: str, feed: Callable[[bytes], None]) -> bool:
        """Passes a file or folder to `feed` as a stream, in a thread; whether it is a folder."""
        call = self.channel.ask(DOWNLOAD, encoded(what, [path]))
        try:
            kind = (await step(call, what, FILE_S)).fields[0]
            call.tell(PULL)
            while (frame := await step(call, what, FILE_S)).kind != DONE:
                call.tell(PULL)  # the agent reads the next part while we write this one
                await in_thread(partial(feed, frame.body))
        except BaseException:
            self._drop(call)
            raise
        return kind == b"folder"

    async def _bounded(self, result: Awaitable[T], what: str, timeout_s: float) -> T:
        try:
            with anyio.fail_after(timeout_s):
                return await result
        except TimeoutError:
            await self._destroy()
            raise SandboxFault(f"{what} could not be ended; its sandbox was destroyed") from None

    async def _cancel(self, call: Call) -> None:
        """Returns when what was asked for has ended with its whole tree, or with the sandbox destroyed."""
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(KILL_S):
                    call.tell(CANCEL)
                    while not call.over:
                        await call.next()
            except TimeoutError:
                await self._destroy()
            except SandboxFault:
                pass  # it died, and the command with it

    def _drop(self, call: Call) -> None:
        """Lets a transfer be; the agent forgets it too."""
        self.channel.forget(call)
        with suppress(SandboxFault):
            call.tell(CANCEL)
