"""Sessions as the host sees them: one run at a time, in the order in which they were asked for."""

import struct
from functools import cache
from pathlib import Path
from typing import Protocol

import anyio

from envhub.contracts.session import Interpreter, SessionResult
from envhub.errors import SandboxFault, UsageError
from sandboxes.host.channel import Call, Channel, Frame
from sandboxes.host.commands import marked
from sandboxes.host.conversation import answer, encoded
from sandboxes.inside.frames import CLOSE, MAX_BODY, OPEN, RUN

# The shell gets its script by a descriptor of its own, so that no command that reads its input eats it.
SHELL = (
    "exec 8>&2 9<&0 </dev/null 2>&1; "
    "if command -v bash >/dev/null; then exec bash --norc --noprofile /dev/fd/9; fi; exec sh /dev/fd/9"
)
DRIVER = Path(__file__).resolve().parents[1] / "inside" / "python_driver.py"
RECORD = struct.Struct("!BII")  # as in the driver: went well, bytes of the value, number of images
RECORD_OUTPUT = b"3"
IMAGE = struct.Struct("!I")


class Guard(Protocol):
    """Waits for an answer: when cancelled, until the agent has ended what was asked for; not longer than that."""

    async def __call__(self, call: Call, what: str, timeout_s: float) -> tuple[Frame, list[Frame]]: ...


class AgentSession:
    """A Session. Its interpreter is started again whenever it has ended."""

    def __init__(self, channel: Channel, number: int, guard: Guard) -> None:
        self._channel = channel
        self._number = number
        self._guard = guard
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False

    @classmethod
    async def open(cls, channel: Channel, interpreter: Interpreter, guard: Guard) -> "AgentSession":
        """
        Raises:
            SandboxFault: the sandbox is closed, or has no process to spare.
        """
        argv = ["sh", "-c", SHELL] if interpreter is Interpreter.SHELL else ["python3", "-c", driver()]
        call = channel.ask(OPEN, encoded("session", [str(interpreter), *argv]))
        await answer(call, f"start of a {interpreter} session")
        return cls(channel, call.number, guard)

    async def run(self, code: str, *, timeout_s: float = 30.0, max_output: int = 64 * 1024) -> SessionResult:
        data = self._checked(code, timeout_s, max_output)
        async with self._turn:
            if self._closed:
                raise UsageError("the session is closed; open another with sandbox.session()")
            fields = [b"%d" % self._number, repr(timeout_s).encode(), b"%d" % max_output]
            call = self._channel.ask(RUN, fields, data)
            return result(*await self._guard(call, "run of a session", timeout_s))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            call = self._channel.ask(CLOSE, [b"%d" % self._number])
            await self._guard(call, "end of a session", 0.0)
        except SandboxFault:
            pass  # it ended with its sandbox

    def _checked(self, code: str, timeout_s: float, max_output: int) -> bytes:
        """
        Raises:
            UsageError: a bound is not positive, or the code can't be passed on.
        """
        if not timeout_s > 0:
            raise UsageError(f"timeout_s is {timeout_s}; it must be positive")
        if max_output < 0:
            raise UsageError(f"max_output is {max_output}; it must be 0 or more bytes")
        (data,) = encoded("run of a session", [code])
        if len(data) > MAX_BODY:
            raise UsageError(f"the code has {len(data)} bytes, over {MAX_BODY}; write it to a file and run that")
        return data


def result(last: Frame, outputs: list[Frame]) -> SessionResult:
    """
    Raises:
        SandboxFault: the interpreter's record makes no sense.
    """
    exit_code, timed_out, restarted, total, split = map(int, last.fields[:5])
    kept = b"".join(frame.body for frame in outputs if frame.fields[0] == b"1") + last.body[:split]
    value, images = record(
        b"".join(frame.body for frame in outputs if frame.fields[0] == RECORD_OUTPUT) + last.body[split:]
    )
    return SessionResult(
        marked(kept, max(total, len(kept))) + last.fields[6],
        max(total, len(kept)),
        exit_code == 0 and not timed_out,
        exit_code,
        value,
        images,
        bool(timed_out),
        bool(restarted),
        float(last.fields[5]),
    )


def record(data: bytes) -> tuple[str, tuple[bytes, ...]]:
    """Value and images. Code inside may have written it, so that it is taken for no more than bytes.

    Raises:
        SandboxFault: it is not one.
    """
    if not data:
        return "", ()
    try:
        _, size, count = RECORD.unpack_from(data)
        at = RECORD.size + size
        value, images = data[RECORD.size : at].decode(errors="replace"), []
        for _ in range(count):
            (size,) = IMAGE.unpack_from(data, at)
            images.append(data[at + IMAGE.size : at + IMAGE.size + size])
            at += IMAGE.size + size
    except struct.error:
        raise SandboxFault("a session's interpreter answered nonsense: code in it has written to its pipe") from None
    return value, tuple(images)


@cache
def driver() -> str:
    """The driver's source: it runs on whatever Python commands get."""
    return DRIVER.read_text()
