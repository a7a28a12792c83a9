"""A key starts one group, whoever asks under it, and whoever stops to."""

from dataclasses import replace

import anyio
import pytest

from envhub.contracts.ids import GroupId
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UsageError
from envhub.rollouts.submissions import Submissions
from envhub.testing.runs import request

pytestmark = pytest.mark.anyio


class Groups:
    """Starts groups, once they may start."""

    def __init__(self) -> None:
        self.started = 0
        self.may_start = anyio.Event()

    async def start(self, request: GroupRequest) -> GroupId:
        await self.may_start.wait()
        self.started += 1
        return GroupId(f"g{self.started}")


def keyed(**changes: object) -> GroupRequest:
    return replace(request("test/walk-v0"), key="k", **changes)  # type: ignore[arg-type]


async def test_who_gives_up_waiting_for_another_submission_lets_nobody_start_a_second_group() -> None:
    groups, submissions, ids = Groups(), Submissions({}), []

    async def submit() -> None:
        ids.append(await submissions.once(keyed(), groups.start))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.01):
            await submit()
        tasks.start_soon(submit)
        await anyio.wait_all_tasks_blocked()
        groups.may_start.set()
    assert ids == ["g1", "g1"]


async def test_one_whose_start_is_given_up_hands_over_to_the_next_alone() -> None:
    groups, submissions, ids = Groups(), Submissions({}), []

    async def submit(scope: anyio.CancelScope) -> None:
        with scope:
            ids.append(await submissions.once(keyed(), groups.start))

    first, *others = scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for scope in scopes[:2]:
            tasks.start_soon(submit, scope)
            await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(submit, others[1])
        await anyio.wait_all_tasks_blocked()
        groups.may_start.set()
    assert ids == ["g1", "g1"]


async def test_a_key_means_one_request() -> None:
    groups, submissions = Groups(), Submissions({})
    groups.may_start.set()
    assert await submissions.once(keyed(), groups.start) == "g1"
    with pytest.raises(UsageError, match="key 'k' belongs to 1 rollouts of task 'one'"):
        await submissions.once(keyed(k=2), groups.start)
