"""What host and agent say to each other about one request: answers checked, and bodies of any size passed in parts."""

import math
import os
from collections.abc import AsyncIterator, Callable, Iterator

import anyio

from envhub.errors import SandboxFault, UsageError
from sandboxes.host.channel import Call, Frame
from sandboxes.inside.frames import FAILED, INPUT, MORE, OUTPUT, PART, PULL, REFUSED
from sandboxes.threads import in_thread


def encoded(what: str, fields: list[str]) -> list[bytes]:
    """
    Raises:
        UsageError: a field holds a NUL byte.
    """
    for text in fields:
        if "\0" in text:
            raise UsageError(f"{what}: {text!r} holds a NUL byte, which no path and no argument can")
    return [os.fsencode(text) for text in fields]


def check(frame: Frame, what: str) -> None:
    """
    Raises:
        SandboxFault: the sandbox had trouble.
        UsageError: the agent refused.
    """
    if frame.kind in (REFUSED, FAILED):
        message = f"{what} failed: {frame.fields[0].decode(errors='replace')}"
        raise UsageError(message) if frame.kind == REFUSED else SandboxFault(message, retryable=False)


async def answer(
    call: Call, what: str, parts: AsyncIterator[bytes] | None = None, *, patience_s: float = math.inf
) -> tuple[Frame, list[Frame]]:
    """The last frame for a request, and the OUTPUT frames before it; `parts` are the rest of its body.

    Raises:
        SandboxFault: the sandbox had trouble, has died, or said nothing for `patience_s`.
        UsageError: the agent refused.
    """
    outputs: list[Frame] = []
    while True:
        frame = await step(call, what, patience_s)
        if frame.kind == OUTPUT:
            outputs.append(frame)
        elif frame.kind == PULL and parts is not None:
            await pass_part(call, parts)
        else:
            return frame, outputs


async def step(call: Call, what: str, patience_s: float = math.inf) -> Frame:
    """The next frame for a request.

    Raises:
        SandboxFault, UsageError: as answer().
    """
    if patience_s == math.inf:
        frame = await call.next()
    else:
        with anyio.move_on_after(patience_s) as scope:
            frame = await call.next()
        if scope.cancelled_caught:
            raise SandboxFault(f"{what} took over {patience_s:g} s")
    check(frame, what)
    return frame


async def pass_part(call: Call, parts: AsyncIterator[bytes]) -> None:
    """Sends the next part of a body, for which the agent has asked."""
    part = await anext(parts, None)
    call.tell(INPUT if part is None else INPUT | MORE, part or b"")


async def parts_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PART):
        yield data[start : start + PART]


async def from_thread(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What a blocking iterator yields, made in a thread."""
    while (part := await in_thread(next_of(parts))) is not None:
        yield part


def next_of(parts: Iterator[bytes]) -> Callable[[], bytes | None]:
    return lambda: next(parts, None)
