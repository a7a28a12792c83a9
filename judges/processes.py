"""Processes: calls that can be killed for certain, in workers that are kept between calls.

Invariants:
- A call is over within its timeout and the moment that a SIGKILL takes: nothing that it does can prevent that.
- A worker that ran over its time, or died, is never used again.
- No worker outlives this process; a fork of this process has workers of its own.
"""

import atexit
import json
import os
import pickle
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from threading import Lock, Semaphore
from time import monotonic

from envhub.errors import JudgeFault, UsageError
from judges.nursery import LENGTH, PID, read_frame, write_frame

START_S = 120.0  # for what a nursery imports, on a machine under load
WAIT_S = 300.0  # for a worker that is free
MOST_BYTES = 1 << 20  # of an answer
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")  # of the environment: no secrets


class TimedOut(JudgeFault):
    """The call was killed at its timeout."""


class Died(JudgeFault):
    """The worker died of the call, twice: out of memory, say."""


class Failed(JudgeFault):
    """The call raised; the message says what."""


def killable(
    function: Callable[..., object], *arguments: object, timeout_s: float, modules: Sequence[str] = ()
) -> object:
    """What a function of some module returns, run in another process that has imported `modules`. Arguments are
    pickled; what comes back is JSON. To be called from a thread: it blocks.

    Raises:
        TimedOut, Died, Failed: the call did not return a value.
        JudgeFault: no worker could be had.
        UsageError: `modules` can't be imported.
    """
    with _MAKING:
        workers = _workers(os.getpid(), tuple(modules))
    request = pickle.dumps((function, arguments))
    with suppress(Died):  # once may be the machine's doing, short of memory say; twice is the call's own
        return workers.call(request, timeout_s)
    return workers.call(request, timeout_s)


_MAKING = Lock()


@cache
def _workers(pid: int, modules: tuple[str, ...]) -> "Workers":
    """Those of this process: kept for its life, since to start one costs a hundred times what a call does."""
    workers = Workers(modules)
    atexit.register(workers.close)
    return workers


class Workers:
    """Up to `most` processes that have imported the same modules."""

    def __init__(self, modules: Sequence[str] = (), most: int | None = None) -> None:
        self._modules = modules
        self._free = Semaphore(most or max(2, os.cpu_count() or 2))
        self._idle: list[Worker] = []
        self._nursery: Nursery | None = None
        self._lock = Lock()

    def call(self, request: bytes, timeout_s: float) -> object:
        """The answer to a pickled (function, arguments). Raises as `killable` does."""
        if not self._free.acquire(timeout=WAIT_S):
            raise JudgeFault(f"no process was free to judge within {WAIT_S:g} s; judge less at once", retryable=True)
        try:
            worker = self._take()
            try:
                return worker.ask(request, timeout_s)
            finally:
                if worker.alive:
                    self._idle.append(worker)
        finally:
            self._free.release()

    def close(self) -> None:
        """Ends all workers. Idempotent."""
        while self._idle:
            self._idle.pop().end()
        if self._nursery is not None:
            self._nursery.close()

    def _take(self) -> "Worker":
        with self._lock:
            if self._nursery is None or not self._nursery.alive:
                self.close()
                self._nursery = Nursery(self._modules)
            return self._idle.pop() if self._idle else self._nursery.worker()


class Worker:
    """One process that answers one call after another."""

    def __init__(self, connection: socket.socket, pid: int, nursery: "Nursery") -> None:
        self._connection = connection
        self._pid = pid
        self._nursery = nursery
        self.alive = True

    def ask(self, request: bytes, timeout_s: float) -> object:
        """Whatever goes wrong, but for an exception of the function, ends the worker."""
        answer = None
        try:
            answer = self._exchange(request, monotonic() + timeout_s)
        except TimeoutError:
            raise TimedOut(f"killed after {timeout_s:g} s") from None
        except (EOFError, OSError, ValueError) as error:
            raise Died(f"the process that judged died, or gave no sound answer ({type(error).__name__})") from error
        finally:
            if answer is None:
                self.end()
        if "error" in answer:
            raise Failed(str(answer["error"]))
        return answer.get("value")

    def end(self) -> None:
        self.alive = False
        self._connection.close()
        self._nursery.kill(self._pid)

    def _exchange(self, request: bytes, deadline: float) -> dict[str, object]:
        self._connection.settimeout(max(0.0, deadline - monotonic()) or 1e-6)
        write_frame(self._connection, request)
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > MOST_BYTES:
            raise ValueError(f"an answer of {length} bytes")
        answer = json.loads(self._read(length, deadline))
        if not isinstance(answer, dict):
            raise ValueError("an answer that is no object")
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._connection.settimeout(max(0.0, deadline - monotonic()) or 1e-6)
            part = self._connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


class Nursery:
    """The process that forks workers and kills them.

    Raises:
        UsageError: the modules can't be imported there.
        JudgeFault: it did not start.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_S)
        self._lock = Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "judges.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in KEPT if name in os.environ}
                | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        self.close = weakref.finalize(self, _end, self._control, self._process)  # also when nobody knows it any more
        self._begin(modules)

    def _begin(self, modules: Sequence[str]) -> None:
        try:
            write_frame(self._control, json.dumps({"path": sys.path, "modules": list(modules)}).encode())
            complaint = json.loads(read_frame(self._control))
        except (EOFError, OSError) as error:
            self.close()
            raise JudgeFault("the process that starts judging processes died at its start", retryable=True) from error
        if complaint:
            self.close()
            raise UsageError(f"this judge needs more packages: {complaint}; pip install 'envhub-rl[judges]'")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def worker(self) -> Worker:
        """A new worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = self._order(b"F", 0, [theirs.fileno()])
            except JudgeFault:
                ours.close()
                raise
        return Worker(ours, pid, self)

    def kill(self, pid: int) -> None:
        """Ends a worker for certain: if the nursery is gone, all its workers are."""
        with suppress(JudgeFault):
            self._order(b"K", pid, [])

    def _order(self, order: bytes, pid: int, descriptors: list[int]) -> int:
        try:
            with self._lock:
                socket.send_fds(self._control, [PID.pack(order, pid)], descriptors)
                answer = self._control.recv(PID.size, socket.MSG_WAITALL)
        except OSError as error:
            raise JudgeFault("the process that starts judging processes is gone", retryable=True) from error
        if len(answer) < PID.size:
            raise JudgeFault("the process that starts judging processes is gone", retryable=True)
        return int(PID.unpack(answer)[1])


def _end(control: socket.socket, nursery: "subprocess.Popen[bytes]") -> None:
    """Ends a nursery with all its workers."""
    control.close()
    nursery.wait()
