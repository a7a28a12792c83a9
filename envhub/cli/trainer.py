"""A trainer in a process of its own, beside a run."""

import os
import shlex
import subprocess
from contextlib import suppress

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from rich.markup import escape

from envhub.cli.output import err
from envhub.errors import EnvhubError

FEED_VARIABLE = "ENVHUB_FEED"  # where the trainer finds HOST:PORT
MAX_LINE = 1 << 20


async def run_trainer(command: str, feed_address: str) -> None:
    """Runs the command to its end, its output among ours.

    Raises:
        EnvhubError: it could not be started, or failed.
    """
    environment = {**os.environ, FEED_VARIABLE: feed_address, "PYTHONUNBUFFERED": "1"}
    try:
        process = await anyio.open_process(shlex.split(command), stderr=subprocess.STDOUT, env=environment)
    except OSError as error:
        raise EnvhubError(f"the trainer '{command}' can't be started: {error}") from error
    try:
        await _show(process)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if code:
        raise EnvhubError(f"the trainer '{command}' ended with exit code {code}; groups that it did not ack are kept")


async def _show(process: Process) -> None:
    if process.stdout is None:
        return
    lines = BufferedByteReceiveStream(process.stdout)
    with suppress(anyio.EndOfStream, anyio.IncompleteRead):
        while True:
            line = await lines.receive_until(b"\n", MAX_LINE)
            err.print(f"[cyan]trainer[/] {escape(line.decode(errors='replace').rstrip())}", soft_wrap=True)
