"""Job: the same groups for the same seed, in an order that a run can go on with."""

from dataclasses import replace

import pytest

from envhub.errors import UsageError
from envhub.registry import environments
from envhub.rollouts.job import Job

NAMES = ("envhub/arithmetic-v0", "envhub/delegate-v0")


def tasks(job: Job, seed: int) -> list[tuple[str, str]]:
    """Environment and task of each group, in order."""
    return [(group.rollout.environment.id, group.rollout.task.id) for group in job.requests(seed)]


def test_the_same_seed_gives_the_same_groups_and_another_seed_others():
    job = Job(NAMES, groups=20)
    assert job.requests(3) == job.requests(3)
    assert tasks(job, 3) != tasks(job, 4)


def test_environments_take_turns():
    assert [name for name, _ in tasks(Job(NAMES, groups=3), 0)] == [*NAMES] * 3


def test_a_longer_job_begins_like_a_shorter_one():
    assert tasks(Job(NAMES, groups=250), 5)[:40] == tasks(Job(NAMES, groups=20), 5)


def test_another_environment_beside_it_changes_nothing_for_one():
    alone = tasks(Job(NAMES[1:], groups=10), 5)
    assert [group for group in tasks(Job(NAMES, groups=10), 5) if group[0] == NAMES[1]] == alone


def test_every_task_is_played_once_before_any_is_played_again():
    all_tasks = {task.id for task in environments.get(NAMES[0]).load_tasks()}
    played = [task for _, task in tasks(Job(NAMES[:1], groups=2 * len(all_tasks)), 0)]
    assert set(played[: len(all_tasks)]) == set(played[len(all_tasks) :]) == all_tasks


def test_each_group_carries_what_the_job_says():
    (group,) = Job(NAMES[:1], k=7, agent="tool-loop", judge="number", max_tries=3).requests(0)
    assert (group.k, group.max_tries, group.rollout.agent, group.rollout.judge) == (7, 3, "tool-loop", "number")


def test_what_needs_a_sandbox_is_left_out_where_there_is_none():
    job = Job(("envhub/calculator-v0", *NAMES))
    assert job.without_sandbox() == replace(job, environments=NAMES)
    with pytest.raises(UsageError, match="envhub/calculator-v0 needs a sandbox"):
        Job(("envhub/calculator-v0",)).without_sandbox()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environments": ()}, "no environment is named"),
        ({"environments": NAMES * 2}, "an environment is named twice"),
        ({"groups": 0}, "groups is 0"),
        ({"k": 0}, "k is 0"),
        ({"max_tries": 0}, "max_tries is 0"),
    ],
)
def test_a_job_that_cannot_work_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        replace(Job(NAMES), **changes)  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(("envhub/arithmetic-v1",)), "did you mean envhub/arithmetic-v0"),
        (Job(NAMES, agent="external"), "agent 'external' waits for programs that open rollouts themselves"),
        (Job(NAMES, judge="number"), "judge 'number' needs a number"),
    ],
)
async def test_what_cannot_start_is_found_by_a_check(job: Job, message: str):
    with pytest.raises(UsageError, match=message):
        await job.check()


@pytest.mark.anyio
async def test_a_check_finds_nothing_wrong_with_our_own():
    await Job(NAMES).check()
    await Job(NAMES[:1], judge="exact").check()
