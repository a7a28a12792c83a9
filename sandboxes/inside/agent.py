"""The one process of ours inside a sandbox: runs commands for the host, which talks to it over one socket.

Invariants:
- No command can read or forge an answer: our descriptors close on exec, and neither the agent nor its keepers are
  dumpable, so that /proc/PID/fd, ptrace and pidfd_getfd are shut.
- A tree that lost its keeper falls to the agent, which kills it.
- As pid 1 of its namespace the agent can't be killed or stopped from inside.
- Nothing is left when the socket closes or the host dies.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from sandboxes.inside.command import CHUNK, Command
from sandboxes.inside.files import Files, Refused, remove_tree
from sandboxes.inside.frames import CANCEL, DONE, END, EXEC, FAILED, READ, REFUSED, Decoder, encode
from sandboxes.inside.processes import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    children,
    descendants,
    kill_below,
    over_memory,
    prctl,
    send_signal,
)
from sandboxes.inside.settings import Settings

WATCH_S = 0.1  # between two looks at the memory of what runs
LINGER_S = 0.1  # a command has ended, but something that it left behind still holds its output: wait that long for more
KILL_RETRY_S = 0.005
END_S = 4.0
TROUBLE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class Agent:
    """The loop: frames in, commands run side by side, answers out."""

    def __init__(self, socket: int, settings: Settings) -> None:
        self._socket = socket
        self._settings = settings
        self._files = Files(settings.workdir)
        self._decoder = Decoder()
        self._poll = select.poll()
        self._owners: dict[int, Command] = {}  # by the descriptor that is polled
        self._commands: dict[int, Command] = {}  # by number, until the answer is out and the whole tree has gone
        self._endings: dict[int, set[int]] = {}  # by number, the commands that must have gone before its answer
        self._watch_at = 0.0
        self._poll.register(socket, select.POLLIN)

    def run(self) -> None:
        """Returns when the host closes the socket."""
        while True:
            for fd, _ in self._poll.poll(self._wait_ms()):
                if fd in self._owners:
                    self._serve(self._owners[fd], fd)
                elif fd == self._socket and not self._listen():
                    return
            self._tick()

    def _listen(self) -> bool:
        data = os.read(self._socket, CHUNK)
        for frame in self._decoder.feed(data):
            self._receive(*frame)
        return bool(data)

    def _receive(self, kind: int, number: int, fields: list[bytes], body: bytes) -> None:
        try:
            if kind == EXEC:
                self._start(number, fields, body)
            elif kind == CANCEL:
                self._cancel(number)
            elif kind == END:
                self._end_processes(number)
            else:
                data = self._files.read(fields[0], int(fields[1])) if kind == READ else b""
                if kind != READ:
                    self._files.write(fields[0], body)
                send(self._socket, encode(DONE, number, [], data))
        except Refused as error:
            send(self._socket, encode(REFUSED, number, [os.fsencode(str(error))]))
        except OSError as error:
            text = "it is a symlink" if error.errno == errno.ELOOP else str(error.strerror)
            send(self._socket, encode(FAILED if error.errno in TROUBLE else REFUSED, number, [os.fsencode(text)]))

    def _start(self, number: int, fields: list[bytes], stdin: bytes) -> None:
        command = Command(number, fields, stdin, self._settings, len(self._commands))
        self._commands[number] = command
        for fd in (command.stdout.fd, command.stderr.fd, command.status, command.stdin):
            self._owners[fd] = command
            self._poll.register(fd, select.POLLOUT if fd == command.stdin else select.POLLIN)

    def _cancel(self, number: int) -> None:
        command = self._commands.get(number)
        if command and not command.answered:
            command.kill()

    def _end_processes(self, number: int) -> None:
        """Kills all commands and what they left; answered once the last has gone."""
        self._endings[number] = set(self._commands)
        for command in self._commands.values():
            command.kill()
        if os.getpid() == 1:
            send_signal(-1, signal.SIGKILL)  # what forks faster than a list of it is made dies with the rest

    def _serve(self, command: Command, fd: int) -> None:
        if fd == command.status:
            self._on_status(command)
        elif fd == command.stdin:
            if not command.feed():
                self._close(fd)
        elif not (command.stdout if fd == command.stdout.fd else command.stderr).pump():
            self._close(fd)

    def _close(self, fd: int) -> None:
        if self._owners.pop(fd, None):
            self._poll.unregister(fd)
            os.close(fd)

    def _on_status(self, command: Command) -> None:
        report = os.read(command.status, 32)
        if report:
            command.exit_code = int(report)
            command.deadline = time.monotonic() + LINGER_S
        else:
            self._close(command.status)
            os.waitpid(command.keeper, 0)
            command.keeper_lives = False

    def _reap(self) -> bool:
        """Kills what fell to the agent because its keeper was killed, and buries the dead. True: all have gone."""
        keepers = {command.keeper for command in self._commands.values() if command.keeper_lives}
        strays = [pid for pid in children(os.getpid()) if pid not in keepers]
        for pid in strays:
            kill_below(pid)
            send_signal(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        return not strays

    def _tick(self) -> None:
        now = time.monotonic()
        for command in list(self._commands.values()):
            if command.killed_at is None and not command.answered and command.exit_code is None:
                command.timed_out = now >= command.deadline
            if command.keeper_lives and (command.killed_at is not None or command.timed_out):
                command.kill()
            self._settle(command, now)
        for number, commands in list(self._endings.items()):
            if commands.isdisjoint(self._commands):
                del self._endings[number]
                send(self._socket, encode(DONE, number, []))
        if self._commands and now >= self._watch_at:
            self._watch_at = now + WATCH_S
            self._watch()

    def _settle(self, command: Command, now: float) -> None:
        """Answers a command that has ended, and forgets it once its tree has gone too."""
        gone = not command.keeper_lives and self._reap()
        open_outputs = [stream for stream in (command.stdout, command.stderr) if stream.fd in self._owners]
        if not command.answered and (gone or command.has_ended(now, silent=not open_outputs)):
            for stream in open_outputs:
                stream.drain()
                self._close(stream.fd)
            self._close(command.stdin)
            send(self._socket, command.answer())
        if command.answered and gone:
            del self._commands[command.number]

    def _watch(self) -> None:
        """Kills everything once it holds more memory than the sandbox may have: a resource limit binds one process."""
        self._reap()
        keepers = {command.keeper for command in self._commands.values()}
        pids = [pid for pid in descendants(os.getpid()) if pid not in keepers]
        if not over_memory(pids, self._settings.memory):
            return
        for command in self._commands.values():
            if not command.answered and command.killed_at is None:
                megabytes = self._settings.memory >> 20
                command.stderr.note(b"envhub: killed: the sandbox was over its %d MB of memory\n" % megabytes)
            command.kill()

    def _wait_ms(self) -> float | None:
        if not self._commands:
            return None
        if any(command.killed_at is not None or not command.keeper_lives for command in self._commands.values()):
            return KILL_RETRY_S * 1000
        due = [command.deadline for command in self._commands.values() if not command.answered]
        return max(0.0, min([self._watch_at, *due]) - time.monotonic()) * 1000 + 1


def send(socket: int, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[os.write(socket, view) :]


def receive_settings(socket: int) -> Settings:
    """The host's first frame, acknowledged: from here on the sandbox is ready."""
    decoder = Decoder()
    while data := os.read(socket, CHUNK):
        for _, number, fields, _ in decoder.feed(data):
            send(socket, encode(DONE, number, []))
            return Settings(fields)
    raise SystemExit


def end(settings: Settings) -> None:
    """Kills what runs and removes the working directory, where that is the agent's. The end of pid 1 does both."""
    give_up = time.monotonic() + END_S
    while os.getpid() != 1 and children(os.getpid()) and time.monotonic() < give_up:
        for pid in children(os.getpid()):
            kill_below(pid)
            send_signal(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        time.sleep(KILL_RETRY_S)
    if settings.owns_workdir:
        remove_tree(settings.workdir)


def stop(number: int, _: object) -> None:
    raise SystemExit


def main() -> None:
    """Serves the host over descriptor 0 until it closes its end or dies."""
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if not os.access(f"/proc/self/task/{os.getpid()}/children", os.R_OK):
        raise SystemExit("no process tree could be killed here: /proc has no 'children' (CONFIG_PROC_CHILDREN)")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() != 1:  # bwrap dies with the host, and pid 1 with bwrap
        signal.signal(signal.SIGTERM, stop)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    socket = os.dup(0)  # a copy that closes on exec
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    settings = receive_settings(socket)
    try:
        Agent(socket, settings).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the host has gone
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end(settings)
