"""Job: the same groups for the same seed, in an order that a run can go on with."""

from dataclasses import replace

import pytest

from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyId
from envhub.contracts.rollout import FilterRef
from envhub.errors import UsageError
from envhub.registry import environments
from envhub.rollouts.job import Course, Job

NAMES = ("envhub/arithmetic-v0", "envhub/delegate-v0")


def tasks(job: Job, seed: int) -> list[tuple[str, str]]:
    """Environment and task of each group, in order."""
    return [(group.rollout.environment.id, group.rollout.task.id) for group in Course(job, seed).first()]


def test_the_same_seed_gives_the_same_groups_and_another_seed_others():
    job = Job(NAMES, groups=20)
    assert job.requests(NAMES[0], 3) == job.requests(NAMES[0], 3)
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
    (group,) = Job(NAMES[:1], k=7, agent="tool-loop", judge="number", max_tries=3).requests(NAMES[0], 0)
    assert (group.k, group.max_tries, group.rollout.agent, group.rollout.judge) == (7, 3, "tool-loop", "number")


def test_spares_replace_groups_that_closed_in_vain():
    course = Course(Job(NAMES[:1], groups=2, spares=1), 0)
    first = list(course.first())
    assert len(first) == 2
    spare = course.spare(first[0].rollout.environment.id)
    assert spare is not None
    assert spare.rollout.task not in [group.rollout.task for group in first]
    assert course.spare(first[0].rollout.environment.id) is None


def test_a_job_goes_on_where_it_stopped_spares_counted():
    job = Job(NAMES, groups=4, spares=2)
    whole = {name: job.requests(name, 0) for name in NAMES}
    started = {EnvironmentId(NAMES[0]): 3, EnvironmentId(NAMES[1]): 5}
    dropped = {EnvironmentId(NAMES[0]): 1, EnvironmentId(NAMES[1]): 2}
    rest = list(Course(job, 0, started, dropped).first())
    assert rest == [whole[NAMES[0]][3], whole[NAMES[1]][5], whole[NAMES[0]][4]]


@pytest.mark.anyio
async def test_numbers_that_do_not_fit_together_are_found_before_anything_starts():
    with pytest.raises(UsageError, match="min_k is 5"):
        await Job(NAMES, k=4, min_k=5).check()
    with pytest.raises(UsageError, match="no group filter 'nonsense'"):
        await Job(NAMES, filters=(FilterRef("nonsense"),)).check()


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
        (Job(NAMES, judge="rubric"), "its judge asks policy 'judge', which this run does not have"),
        (Job(NAMES, group_judge="pairwise"), "the judge of its groups asks policy 'judge'"),
    ],
)
async def test_what_cannot_start_is_found_by_a_check(job: Job, message: str):
    with pytest.raises(UsageError, match=message):
        await job.check()


@pytest.mark.anyio
async def test_a_check_finds_nothing_wrong_with_our_own():
    await Job(NAMES).check()
    await Job(NAMES[:1], judge="exact").check()
    await Job(NAMES, judge="rubric", group_judge="pairwise").check((TRAINED, PolicyId("judge")))
