"""Desk: where a rollout whose agent is a program outside meets that program.

The program opens a rollout; the rollout's agent asks at the desk, with the conversation; the program answers. Each may
come first.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import anyio

from envhub.contracts.context import Endpoint
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome


class OpenedRollout(Protocol):
    """A rollout that a program outside opened: agent "external", one try, for nobody would meet a second one."""

    @property
    def rollout_id(self) -> RolloutId: ...

    async def outcome(self) -> Outcome:
        """Waits for its end. May be called at any time and more than once."""

    async def cancel(self) -> None:
        """Ends it, since nobody will answer."""


OpenRollout: TypeAlias = Callable[[str, int | str], Awaitable[OpenedRollout]]  # environment id; index or id of its task


@dataclass(frozen=True, slots=True)
class Question:
    """What a rollout asks of the program outside."""

    endpoint: Endpoint
    messages: tuple[Message, ...]


@dataclass(slots=True, eq=False)
class _Meeting:
    asked: anyio.Event = field(default_factory=anyio.Event)
    answered: anyio.Event = field(default_factory=anyio.Event)
    question: Question | None = None
    rollout: OpenedRollout | None = None
    answer: str = ""


class Desk:
    """Questions of rollouts and answers from outside, by rollout."""

    def __init__(self) -> None:
        self._meetings: dict[RolloutId, _Meeting] = {}

    async def ask(self, rollout_id: RolloutId, endpoint: Endpoint, messages: Sequence[Message]) -> str:
        """The rollout's side: waits for the final answer; the rollout's own deadline bounds the wait."""
        meeting = self._meetings.setdefault(rollout_id, _Meeting())
        meeting.question = Question(endpoint, tuple(messages))
        meeting.asked.set()
        try:
            await meeting.answered.wait()
        finally:
            del self._meetings[rollout_id]
        return meeting.answer

    async def meet(self, rollout: OpenedRollout) -> Question | None:
        """The program's side: waits for the question; None where the rollout ended without one. Safe to cancel."""
        meeting = self._meetings.setdefault(rollout.rollout_id, _Meeting())
        meeting.rollout = rollout
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_at_end, rollout, tasks.cancel_scope)
                await meeting.asked.wait()
                tasks.cancel_scope.cancel()
        finally:
            if meeting.question is None:
                del self._meetings[rollout.rollout_id]
        return meeting.question

    def answer(self, rollout_id: RolloutId, answer: str) -> OpenedRollout | None:
        """Gives the final answer and returns the rollout; None where it awaits none, or was answered before."""
        meeting = self._meetings.get(rollout_id)
        if meeting is None or meeting.rollout is None or meeting.answered.is_set():
            return None
        meeting.answer = answer
        meeting.answered.set()
        return meeting.rollout


async def _cancel_at_end(rollout: OpenedRollout, waiting: anyio.CancelScope) -> None:
    await rollout.outcome()
    waiting.cancel()
