"""Replica: one of several servers with the same weights, and whether it is in rotation.

Invariants: a server that failed a generation gets no other before a check of it passed; one that passes checks and
fails generations all the same is tried less and less often; one with other weights than expected gets none.
"""

import logging
from collections.abc import Callable

import anyio

from envhub.contracts.engine import ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.errors import EngineFault

logger = logging.getLogger(__name__)

CHECK_S = 5.0  # between two checks
ANSWER_S = 10.0  # that a server has to answer one
SILENT = f"it did not answer within {ANSWER_S:g} s"
BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0  # before a check, after a second failure in a row; doubled for each one more


class Replica:
    """One server. `changed` is called whenever it comes back into rotation."""

    def __init__(self, name: str, engine: ServedEngine, places: int, changed: Callable[[], None]) -> None:
        self.name = name
        self.engine = engine
        self.running = 0  # generations
        self.used = 0  # when it was last given one, in generations
        self.out = ""  # why it is out of rotation; "": it is in
        self.silences: set[anyio.CancelScope] = set()  # of the generations that wait for its next chunk
        self.heard_at = -ANSWER_S  # a token came from it, on the loop's clock
        self.held = False  # it was told to generate nothing, and not yet to go on
        self.left = False  # for another group
        self.places = places
        self._changed = changed
        self._failures = 0  # of generations, in a row
        self._failed = anyio.Event()

    @property
    def free(self) -> bool:
        return not self.out and self.running < self.places

    def succeed(self) -> None:
        """It finished a generation."""
        self._failures = 0

    def fail(self, reason: str) -> None:
        """A generation failed there; the next check decides. Those that fail with it are one failure."""
        if not self.out:
            self._failures += 1
            self.eject(reason)
            self._failed.set()

    def leave(self) -> None:
        """Cuts what runs there."""
        self.left = True
        self.out = "it belongs to another policy"
        for silence in self.silences:
            silence.cancel()

    def eject(self, reason: str) -> None:
        """Takes it out of rotation until a check passes."""
        if not self.out:
            logger.warning("engine server %s is out of rotation: %s", self.name, reason)
        self.out = reason

    async def hold(self, *, keep: bool) -> None:
        """Has it generate nothing."""
        self.held = True
        await self.engine.pause(keep=keep)

    async def release(self) -> None:
        """Has it generate again."""
        await self.engine.resume()
        self.held = False

    async def due(self) -> None:
        """Waits until it is to be checked: soon after a failure, else now and then."""
        with anyio.move_on_after(CHECK_S):
            await self._failed.wait()
        if self._failed.is_set():
            self._failed = anyio.Event()
            if self._failures > 1:
                await anyio.sleep(min(BACKOFF_S * 2 ** (self._failures - 2), LONGEST_BACKOFF_S))

    async def check(self, expected: PolicyVersion | None) -> None:
        """Puts it into rotation, or out of it, as it answers and has that version of the weights (None: any). One that
        is too busy to answer, but gives tokens, stays. To be called while it should generate."""
        fault = await self.fault(expected, release=True)
        if fault != SILENT or anyio.current_time() - self.heard_at > ANSWER_S:
            self.judge(fault)

    def judge(self, fault: str) -> None:
        """A check found that wrong with it; "": nothing."""
        if self.left:
            return
        if fault:
            self.eject(fault)
        elif self.out:
            logger.warning("engine server %s is back in rotation", self.name)
            self.out = ""
            self._changed()

    async def fault(self, expected: PolicyVersion | None, *, release: bool = False) -> str:
        """What is wrong with it; "" for nothing."""
        try:
            with anyio.fail_after(ANSWER_S):
                if release and self.held:
                    await self.release()
                await self.engine.health()
                version = await self.engine.version()
        except EngineFault as fault:
            return str(fault)
        except TimeoutError:
            return SILENT
        if expected in (None, version):
            return ""
        return f"it has version {version} of the weights, and {expected} is live"
