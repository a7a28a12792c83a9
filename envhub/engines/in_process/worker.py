"""Worker: the thread that steps a scheduler.

Invariants: at most one thread steps. It lives only while there is work, so that a process that forgot to close its
engine still ends. Once it ended for good, by `end` or by a failure, every generation that it had and every later one
gets an EngineFault: nobody waits for ever.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Generic

from envhub.engines.in_process.decoder import CacheT
from envhub.engines.in_process.scheduler import Generation, Scheduler
from envhub.errors import Boundary, EngineFault, Fault, boundary

IDLE_S = 1.0  # how long the thread waits for more before it ends; starting another takes 0.1 ms


class Worker(Generic[CacheT]):
    """Takes generations from any thread and runs them in its own."""

    def __init__(self, scheduler: Scheduler[CacheT]) -> None:
        self._scheduler = scheduler
        self._changed = Condition()  # guards the four below
        self._arrived: list[Generation] = []
        self._errands: list[_Errand] = []
        self._thread: Thread | None = None
        self._ended = ""  # why nothing runs any more

    def submit(self, generation: Generation) -> None:
        """
        Raises:
            EngineFault: the worker ended.
        """
        with self._changed:
            self._start()
            self._arrived.append(generation)

    def between(self, errand: Callable[[], None]) -> Future[None]:
        """Has something done in the thread between two steps; the future says when it is done, or how it failed.

        Raises:
            EngineFault: the worker ended.
        """
        asked = _Errand(errand)
        with self._changed:
            self._start()
            self._errands.append(asked)
        return asked.done

    def end(self, reason: str) -> None:
        """Lets no more in; what runs ends with a fault after the current step."""
        with self._changed:
            self._ended = self._ended or reason
            if self._thread is None:  # what waits while it is paused has no thread
                self._scheduler.fail(self._ended)
            self._changed.notify()

    def join(self) -> None:
        """Waits until the thread is gone."""
        with self._changed:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        if self._ended:
            raise EngineFault(self._ended, retryable=False)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="envhub-engine")
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        try:
            with boundary(Boundary.ENGINE):
                while self._collect():
                    if not self._scheduler.idle:
                        self._scheduler.step()
        except Fault as fault:
            self.end(f"the engine failed ({fault}); open another one")
            self._collect()

    def _collect(self) -> bool:
        """Hands what arrived to the scheduler; False where there is nothing left to do for this thread."""
        with self._changed:
            if self._scheduler.idle and not (self._arrived or self._errands or self._ended):
                self._changed.wait(IDLE_S)
            for generation in self._arrived:
                self._scheduler.add(generation)
            errands, self._errands = self._errands, []
            self._arrived.clear()
            if self._ended:
                self._scheduler.fail(self._ended)
            over = self._scheduler.idle and not errands
            if over:
                self._thread = None
        for errand in errands:  # outside the lock: some take seconds
            errand.run(self._ended)
        return not over


class _Errand:
    """Something to do between two steps, once."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done: Future[None] = Future()
        self._work = work

    def run(self, ended: str) -> None:
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            with boundary(Boundary.ENGINE):
                if ended:
                    raise EngineFault(ended, retryable=False)
                self._work()
        except Fault as fault:
            self.done.set_exception(fault)
        else:
            self.done.set_result(None)
