# ruff: noqa: PTH208, SIM105
# Without pathlib and contextlib, which would double the agent's start-up time.
"""One running command: its keeper, its pipes, and what it has written so far.

The keeper is a child subreaper between agent and command, so that a daemon that forks twice stays below it. It reports
how the command ended, and leaves when the last of the tree has gone.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from sandboxes.inside.frames import DONE, encode
from sandboxes.inside.processes import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, kill_below, prctl, send_signal
from sandboxes.inside.settings import Settings

CHUNK = 1 << 16
KILL_ALL_S = 1.0  # a tree that forks faster than it dies takes the whole namespace with it
KILL_GIVE_UP_S = 4.0
NICE = 5  # below the inference engine and the platform itself


class Stream:
    """One output of a command: its first bytes, and a count of all."""

    def __init__(self, fd: int, keep: int) -> None:
        self.fd = fd
        self.kept = bytearray()
        self.total = 0
        self._keep = keep

    def pump(self) -> bool:
        """Reads what is there; False at the end of the stream."""
        data = os.read(self.fd, CHUNK)
        self.total += len(data)
        self.kept += data[: self._keep - len(self.kept)]
        return bool(data)

    def drain(self) -> None:
        """Reads what still lies in the pipe of a command that has ended."""
        os.set_blocking(self.fd, False)
        try:
            for _ in range(64):  # a pipe holds 1 MiB at most; what a survivor writes after that is not the command's
                if not self.pump():
                    break
        except BlockingIOError:
            pass

    def note(self, text: bytes) -> None:
        """Ends the stream with a line of the agent's own."""
        del self.kept[max(0, self._keep - len(text)) :]
        self.kept += text
        self.total += len(text)


class Command:
    """A command as the agent sees it, from its start until its whole tree has gone."""

    def __init__(self, number: int, fields: list[bytes], stdin: bytes, settings: Settings, keepers: int) -> None:
        timeout_s, keep, cwd, *argv = fields
        self.number = number
        self.started = time.monotonic()
        self.deadline = self.started + float(timeout_s)
        self.exit_code: int | None = None
        self.timed_out = False
        self.answered = False
        self.killed_at: float | None = None
        self.keeper_lives = True
        self._input = memoryview(stdin)
        inner, outer = zip(*(os.pipe() for _ in range(4)), strict=True)  # read ends, write ends
        self.stdin, self.status = outer[0], inner[3]
        self.stdout, self.stderr = Stream(inner[1], int(keep)), Stream(inner[2], int(keep))
        ends = (inner[0], outer[1], outer[2], outer[3])
        try:
            self.keeper = os.fork()
        except OSError:
            for fd in (*inner, *outer):
                os.close(fd)
            raise
        if self.keeper == 0:
            keep_command(argv, cwd or b".", settings, ends, keepers)
        for fd in ends:
            os.close(fd)
        os.set_blocking(self.stdin, False)

    def feed(self) -> bool:
        """Passes input on; False when all is written or nobody reads it."""
        try:
            if self._input:
                self._input = self._input[os.write(self.stdin, self._input[:CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._input)

    def kill(self) -> None:
        """Kills the whole tree. To be repeated until the keeper, which outlives its tree, has gone."""
        now = time.monotonic()
        if self.killed_at is None:
            self.killed_at = now
        send_signal(self.keeper, signal.SIGCONT)
        kill_below(self.keeper)
        if os.getpid() == 1 and now - self.killed_at > KILL_ALL_S:
            os.kill(-1, signal.SIGKILL)  # all of our pid namespace but ourselves, atomically

    def has_ended(self, now: float, silent: bool) -> bool:
        """Whether it can be answered though its keeper lives; `silent`: both outputs are at their end."""
        if self.killed_at is not None:
            return now - self.killed_at > KILL_GIVE_UP_S
        return self.exit_code is not None and (silent or now >= self.deadline)

    def answer(self) -> bytes:
        """The frame that tells the host how it ended."""
        self.answered = True
        exit_code = -signal.SIGKILL if self.exit_code is None else self.exit_code
        figures = (exit_code, int(self.timed_out), self.stdout.total, self.stderr.total, len(self.stdout.kept))
        fields = [b"%d" % figure for figure in figures] + [b"%.6f" % (time.monotonic() - self.started)]
        return encode(DONE, self.number, fields, bytes(self.stdout.kept + self.stderr.kept))


def keep_command(argv: list[bytes], cwd: bytes, settings: Settings, ends: tuple[int, ...], keepers: int) -> None:
    """The keeper's life, in a process of its own."""
    try:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        close_all_but(ends)
        command = os.fork()
        if command == 0:
            become(argv, cwd, settings, ends, keepers)
        for fd in ends[:3]:
            os.close(fd)
        while True:
            pid, status = os.wait()
            if pid == command:
                os.write(ends[3], b"%d" % os.waitstatus_to_exitcode(status))
    except ChildProcessError:
        os._exit(0)
    finally:
        os._exit(1)


def close_all_but(fds: tuple[int, ...]) -> None:
    """Closes what the agent holds for other commands, which would never see the end of their input otherwise."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in fds:
            try:
                os.close(fd)
            except OSError:
                pass  # the descriptor of the listing itself


def become(argv: list[bytes], cwd: bytes, settings: Settings, ends: tuple[int, ...], keepers: int) -> None:
    """Turns this process into the command. Exit code 127: no such program; 126: it or its directory can't be used."""
    what, missing = cwd, 126
    try:
        os.setsid()
        for target, fd in enumerate(ends[:3]):
            os.dup2(fd, target)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.nice(NICE)
        settings.limit(keepers + 2)  # the keepers before, its own, and the agent
        os.chdir(settings.workdir)
        os.chdir(cwd)
        what, missing = argv[0], 127
        os.execvpe(argv[0], argv, settings.env)
    except OSError as error:
        os.write(2, b"envhub: cannot use '%s': %s\n" % (what, os.fsencode(str(error.strerror))))
        os._exit(missing if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126)
    finally:
        os._exit(126)
