"""A trainer in a process of its own, beside a run."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream, Process
from rich.text import Text

from envhub.cli.output import err
from envhub.errors import EnvhubError, UsageError

FEED_VARIABLE = "ENVHUB_FEED"  # where the trainer finds HOST:PORT
GRACE_S = 10.0  # for a trainer that was told to end
MAX_LINE = 1 << 16  # bytes; a longer line is shown in pieces


def trainer_command(text: str) -> list[str]:
    """The program and its arguments.

    Raises:
        UsageError: they can't be read, or there is no such program.
    """
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"trainer '{text}' is no command ({error}); quote it as a shell would need it") from error
    if not command or shutil.which(command[0]) is None:
        raise UsageError(f"trainer '{text}': no program '{''.join(command[:1])}' was found; give its path")
    return command


async def run_trainer(command: Sequence[str], feed_address: str) -> None:
    """Runs the command to its end, its output among ours. Cancelled, it ends the command and what that started.

    Raises:
        EnvhubError: it could not be started, or failed.
    """
    environment = {**os.environ, FEED_VARIABLE: feed_address, "PYTHONUNBUFFERED": "1"}
    try:
        # In a session of its own: Ctrl-C comes to us, and the trainer is ended once its leases need it no more.
        process = await anyio.open_process(command, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    except OSError as error:
        raise EnvhubError(f"the trainer can't be started: {error}") from error
    try:
        if process.stdout is not None:
            await _show(process.stdout)
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    if code:
        raise EnvhubError(f"the trainer ended with exit code {code}")


async def _show(output: ByteReceiveStream) -> None:
    rest = b""
    async for chunk in output:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _print(line)
    if rest:
        _print(rest)


def _print(line: bytes) -> None:
    said = Text.from_ansi(line.decode(errors="replace").rstrip())  # its colours, and no other control
    err.print(Text.assemble(("trainer", "cyan"), " ", said), soft_wrap=True)


async def _end(process: Process) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signum)
            with anyio.move_on_after(GRACE_S):
                await process.wait()
    await process.aclose()
