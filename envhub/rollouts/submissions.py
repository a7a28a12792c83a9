"""Submissions: groups by the keys that they were submitted under, so that who submits again means the same group.

Invariant: a key starts one group, however often and however close together it is submitted, also across a restart.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from envhub.contracts.ids import EnvironmentId, GroupId, TaskId
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class Submission:
    """A group, and what is compared of a request that means it."""

    group_id: GroupId
    environment: EnvironmentId
    task_id: TaskId
    k: int

    @classmethod
    def of(cls, group_id: GroupId, request: GroupRequest) -> "Submission":
        rollout = request.rollout
        return cls(group_id, rollout.environment.id, rollout.task.id, request.k)


Keys: TypeAlias = Mapping[str, Submission]
Start: TypeAlias = Callable[[GroupRequest], Awaitable[GroupId]]


class Submissions:
    """Those of a run; its own job's have no keys. `known` are those of earlier processes."""

    def __init__(self, known: Keys) -> None:
        self._known = dict(known)
        self._starting: dict[str, anyio.Lock] = {}

    async def once(self, request: GroupRequest, start: Start) -> GroupId:
        """The group of the request, started unless its key has one.

        Raises:
            UsageError: its key belongs to another request; or as `start`.
        """
        key = request.key
        if not key:
            return await start(request)
        lock = self._starting.setdefault(key, anyio.Lock())
        try:
            async with lock:
                if key not in self._known:
                    self._known[key] = Submission.of(await start(request), request)
        finally:
            if not lock.locked():  # nobody starts it now, and who waited has had the lock since
                self._starting.pop(key, None)
        known = self._known[key]
        if known != Submission.of(known.group_id, request):
            raise UsageError(
                f"key '{key}' belongs to {known.k} rollouts of task '{known.task_id}' in {known.environment}; "
                "give each submission a key of its own"
            )
        return known.group_id
