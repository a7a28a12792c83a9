"""Worker: the thread that steps a scheduler.

Invariants: at most one thread steps. It lives only while there is work, so that a process that forgot to close its
engine still ends. Once it ended for good, by `end` or by a failure, every generation that it had and every later one
gets an EngineFault: nobody waits for ever.
"""

from threading import Condition, Thread

from envhub.engines.scheduler import Generation, Scheduler
from envhub.errors import Boundary, EngineFault, Fault, boundary

IDLE_S = 1.0  # how long the thread waits for more before it ends; starting another takes 0.1 ms


class Worker:
    """Takes generations from any thread and runs them in its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._changed = Condition()  # guards the three below
        self._arrived: list[Generation] = []
        self._thread: Thread | None = None
        self._ended = ""  # why nothing runs any more

    def submit(self, generation: Generation) -> None:
        """
        Raises:
            EngineFault: the worker ended.
        """
        with self._changed:
            if self._ended:
                raise EngineFault(self._ended, retryable=False)
            self._arrived.append(generation)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="envhub-engine")
                self._thread.start()
            self._changed.notify()

    def end(self, reason: str) -> None:
        """Lets no more in; what runs ends with a fault after the current step."""
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify()

    def join(self) -> None:
        """Waits until the thread is gone."""
        with self._changed:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        try:
            with boundary(Boundary.ENGINE):
                while self._collect():
                    self._scheduler.step()
        except Fault as fault:
            self.end(f"the engine failed ({fault}); open another one")
            self._collect()

    def _collect(self) -> bool:
        """Hands what arrived to the scheduler; False where there is nothing left to do for this thread."""
        with self._changed:
            if self._scheduler.idle and not self._arrived and not self._ended:
                self._changed.wait(IDLE_S)
            for generation in self._arrived:
                self._scheduler.add(generation)
            self._arrived.clear()
            if self._ended:
                self._scheduler.fail(self._ended)
            if self._scheduler.idle:
                self._thread = None
            return not self._scheduler.idle
