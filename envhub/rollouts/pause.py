"""Pauses: which rollouts are held, and the gate that each call of theirs passes.

Invariants: a held call keeps every token that it has; a rollout that is held holds no slot, and its clock stands still;
whoever is let go goes before rollouts that have not started.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Self, TypeAlias

import anyio

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import UsageError

# What a rollout does about being held: its slot is for others within, and it has it back at the end.
Held: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


OPERATOR = "an operator"


class Pauses:
    """The pauses in force in one worker. At most one a scope, of each who may pause."""

    def __init__(self) -> None:
        self._modes: dict[tuple[Scope, str], PauseMode] = {}
        self._gates: set[Gate] = set()

    @property
    def in_force(self) -> Mapping[tuple[Scope, str], PauseMode]:
        """Each with who paused."""
        return self._modes

    def pause(self, scope: Scope, mode: PauseMode, *, by: str = OPERATOR) -> None:
        """
        Raises:
            UsageError: that scope is paused.
        """
        if (scope, by) in self._modes:
            raise UsageError(f"{scope} is paused already ({self._modes[scope, by]}); resume it first")
        self._modes[scope, by] = mode
        if mode is PauseMode.CUT:
            # Not here: in a task, each scope that is cancelled writes down by which one, and that is 15 us a call.
            asyncio.get_running_loop().call_soon(self._cut, scope)

    def resume(self, scope: Scope, *, pinned: bool = False, by: str = OPERATOR) -> None:
        """
        Raises:
            UsageError: that scope is not paused.
        """
        if (scope, by) not in self._modes:
            paused = ", ".join(f"{paused} by {whom}" for paused, whom in self._modes) or "nothing"
            raise UsageError(f"{scope} is not paused by {by}; paused: {paused}")
        del self._modes[scope, by]
        for gate in self._gates:
            if gate.belongs_to(scope):
                gate.pinned = pinned
                gate.look_again()

    def _cut(self, scope: Scope) -> None:
        for gate in self._gates:
            gate.cut(scope)

    def abort(self, scope: Scope) -> None:
        """Ends rollouts now; what they have is recorded, a turn in flight too."""
        for gate in list(self._gates):
            if gate.belongs_to(scope):
                gate.abort()

    def gate(self, start: RolloutStarted, held: Held) -> "Gate":
        """The gate of one rollout, to be entered for as long as it lives."""
        return Gate(start, held, self)

    def opened(self, gate: "Gate") -> None:
        self._gates.add(gate)

    def closed(self, gate: "Gate") -> None:
        self._gates.remove(gate)

    async def admit(self, start: RolloutStarted, waiting: Held) -> None:
        """Waits until a rollout may start."""
        with self.gate(start, waiting) as gate:
            await gate.open(start.request.policy_id)

    def modes(self, gate: "Gate", policy_id: PolicyId) -> Iterable[PauseMode]:
        """Of the pauses that hold that rollout's calls of that policy."""
        if not self._modes:  # nearly always
            return ()
        modes = self._modes.items()
        return [mode for (scope, _), mode in modes if scope.policy_id in (None, policy_id) and gate.belongs_to(scope)]


class Gate:
    """What one rollout's calls pass."""

    def __init__(self, start: RolloutStarted, held: Held, pauses: Pauses) -> None:
        self.aborting = anyio.CancelScope()  # of the whole rollout
        self.pinned = False
        self._start = start
        self._held = held
        self._pauses = pauses
        self._in_flight: dict[anyio.CancelScope, PolicyId] = {}
        self._changed: anyio.Event | None = None  # somebody waits for it

    def __enter__(self) -> Self:
        self._pauses.opened(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._pauses.closed(self)
        # The rollout's own method, and the rollout has this gate: a cycle, which would keep all its tokens in memory
        # until a collection of garbage, and those are rare.
        self._held = nullcontext

    @property
    def aborted(self) -> bool:
        return self.aborting.cancel_called

    def belongs_to(self, scope: Scope) -> bool:
        """Whether the scope has this rollout, some policy of it at least."""
        start = self._start
        return (
            scope.environment_id in (None, start.request.environment.id)
            and scope.group_id in (None, start.group_id)
            and scope.rollout_id in (None, start.rollout_id, start.root)
        )

    def keeps(self, policy_id: PolicyId) -> bool:
        return PauseMode.KEEP in self._pauses.modes(self, policy_id)

    def shut(self, policy_id: PolicyId) -> bool:
        """Whether a pause holds that policy's calls."""
        return bool(self._pauses.modes(self, policy_id))

    async def open(self, policy_id: PolicyId) -> None:
        """Waits until no pause holds that policy's calls."""
        while self.shut(policy_id):  # another pause may have begun while this rollout waited for its slot
            async with self._held():
                while self.shut(policy_id):
                    self._changed = self._changed or anyio.Event()
                    await self._changed.wait()

    def call(self, policy_id: PolicyId) -> "_Call":
        """A generation within; a pause that cuts ends it."""
        # Of the class that anyio chose for this loop: to look that up takes longer than all else about a scope.
        return _Call(self._in_flight, policy_id, type(self.aborting)())

    def cut(self, scope: Scope) -> None:
        """Ends the generations that the scope has."""
        if not self.belongs_to(scope):
            return
        for call, policy_id in self._in_flight.items():
            if scope.policy_id in (None, policy_id):
                call.cancel()

    def look_again(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def abort(self) -> None:
        self.aborting.cancel()


class _Call:
    """Notes a generation that runs. One a turn: a generator for it would cost as much again."""

    __slots__ = ("_in_flight", "_policy_id", "_scope")

    def __init__(
        self, in_flight: dict[anyio.CancelScope, PolicyId], policy_id: PolicyId, scope: anyio.CancelScope
    ) -> None:
        self._in_flight = in_flight
        self._policy_id = policy_id
        self._scope = scope

    def __enter__(self) -> anyio.CancelScope:
        self._in_flight[self._scope] = self._policy_id
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        del self._in_flight[self._scope]
        return self._scope.__exit__(kind, error, traceback)
