"""Commands as the host sees them: what the agent is asked, and what becomes of its answer."""

from typing import Literal

from envhub.contracts.command import ExecRequest, ExecResult, Output
from sandboxes.host.channel import Call, Channel, Frame
from sandboxes.host.conversation import encoded
from sandboxes.inside.frames import EXEC, PART

STREAMS: dict[bytes, Literal["stdout", "stderr"]] = {b"1": "stdout", b"2": "stderr"}


def begin(channel: Channel, request: ExecRequest, *, streamed: bool) -> Call:
    """
    Raises:
        SandboxFault: the sandbox is closed.
        UsageError: an argument holds a NUL byte.
    """
    fields = [repr(request.timeout_s), str(request.max_output), str(int(streamed)), request.cwd, *request.argv]
    first, more = request.stdin[:PART], len(request.stdin) > PART
    return channel.ask(EXEC, encoded("exec", fields), first, more=more)


def collected(last: Frame, outputs: list[Frame]) -> ExecResult:
    """The result, with the output."""
    split = int(last.fields[4])
    stdout, stderr = last.body[:split], last.body[split:]
    if outputs:
        stdout = b"".join([frame.body for frame in outputs if frame.fields[0] == b"1"] + [stdout])
        stderr = b"".join([frame.body for frame in outputs if frame.fields[0] == b"2"] + [stderr])
    stdout_bytes, stderr_bytes, note = int(last.fields[2]), int(last.fields[3]), last.fields[6]
    return result(last, marked(stdout, stdout_bytes), marked(stderr, stderr_bytes) + note)


def pieces(frame: Frame, *, last: bool) -> list[Output]:
    """What a frame of a streamed command holds of its output."""
    if not last:
        return [Output(STREAMS[frame.fields[0]], frame.body)]
    split = int(frame.fields[4])
    found = (Output("stdout", frame.body[:split]), Output("stderr", frame.body[split:] + frame.fields[6]))
    return [output for output in found if output.data]


def result(last: Frame, stdout: bytes = b"", stderr: bytes = b"") -> ExecResult:
    exit_code, timed_out, stdout_bytes, stderr_bytes = map(int, last.fields[:4])
    return ExecResult(
        exit_code, stdout, stderr, stdout_bytes, stderr_bytes, bool(timed_out), duration_s=float(last.fields[5])
    )


def marked(kept: bytes, total: int) -> bytes:
    """What was kept of an output, with a line that says so where it was cut."""
    return kept if len(kept) == total else b"%b\n[cut: %b of %b bytes]\n" % (kept, grouped(len(kept)), grouped(total))


def grouped(number: int) -> bytes:
    return f"{number:,}".encode()


def what(request: ExecRequest) -> str:
    return f"exec of '{request.argv[0]}'"
