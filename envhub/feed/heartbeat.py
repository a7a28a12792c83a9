"""Heartbeat: extends leases from a thread, so that a long step of the trainer loses none of them."""

from collections.abc import Callable
from threading import Event, Lock, Thread

from envhub.contracts.ids import LeaseId

BEATS = 3  # in the time of a lease: two may be lost


class Heartbeat:
    """The leases that it is told to hold, until it is told to let them go."""

    def __init__(self, extend: Callable[[LeaseId], None]) -> None:
        self._extend = extend
        self._held: set[LeaseId] = set()
        self._lock = Lock()
        self._stopped = Event()
        self._thread: Thread | None = None

    def hold(self, lease_id: LeaseId, lease_s: float) -> None:
        with self._lock:
            self._held.add(lease_id)
        if self._thread is None and lease_s > 0:
            self._thread = Thread(target=self._beat, args=(lease_s / BEATS,), name="envhub-heartbeat", daemon=True)
            self._thread.start()

    def let_go(self, lease_id: LeaseId) -> None:
        with self._lock:
            self._held.discard(lease_id)

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self, every_s: float) -> None:
        while not self._stopped.wait(every_s):
            with self._lock:
                held = sorted(self._held)
            for lease_id in held:
                self._extend(lease_id)
