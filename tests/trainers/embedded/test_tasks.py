"""Rows of a trainer's data set, jobs out of its configuration, and the sampling that it may ask for."""

from types import SimpleNamespace

import pytest

from envhub.app import Settings
from envhub.contracts.rollout import Limits
from envhub.contracts.turn import Sampling
from envhub.errors import UnknownName, UsageError
from envhub.rollouts.job import Job
from envhub.trainers.embedded.configuration import configured, kept_by
from envhub.trainers.embedded.sampling import check_plain
from envhub.trainers.embedded.tasks import TaskRows
from tests.trainers.embedded.sampling_trainer import ARITHMETIC

SAMPLING = Sampling(max_tokens=8)


def test_every_row_asks_for_its_own_task():
    rows = TaskRows(Job((ARITHMETIC,), limits=Limits(max_turns=2)))
    for row in rows.rows():
        request = rows.request(row, 3, SAMPLING)
        assert [message.content for message in request.rollout.task.prompt] == [
            said["content"] for said in row["prompt"]
        ]
        assert (request.k, request.rollout.sampling, request.rollout.limits.max_turns) == (3, SAMPLING, 2)
    assert len(rows.rows()) == 99


def test_members_asked_for_one_by_one_draw_alike_and_those_of_another_group_do_not():
    rows = TaskRows(Job((ARITHMETIC,)))
    row = rows.rows()[0]
    seeds = [rows.request(row, 1, SAMPLING, draw=draw).rollout.task.seed for draw in ("a", "a", "b")]
    assert seeds[0] == seeds[1] != seeds[2]
    assert rows.request(row, 1, SAMPLING).rollout.task.seed is None


@pytest.mark.parametrize(
    ("row", "error", "told"),
    [
        ({"prompt": "x"}, UsageError, "it must name its task by 'environment' and 'task_id'"),
        ({"environment": ARITHMETIC, "task_id": "1+11"}, UnknownName, "no task of 'envhub/arithmetic-v0' '1.11'"),
        ({"environment": "a/b-v0", "task_id": "1+1"}, UnknownName, "no environment of this job 'a/b-v0'"),
    ],
)
def test_a_row_that_names_no_task_is_refused(row, error, told):
    with pytest.raises(error, match=told):
        TaskRows(Job((ARITHMETIC,))).request(row, 1, SAMPLING)


def test_a_job_is_read_out_of_a_mapping():
    told = {"environments": [ARITHMETIC], "k": 2, "limits": {"max_turns": 3}, "sampling": {"temperature": 0.5}}
    expected = Job((ARITHMETIC,), k=2, limits=Limits(max_turns=3), sampling=Sampling(temperature=0.5))
    assert configured(Job, told) == expected == configured(Job, expected)


@pytest.mark.parametrize(
    ("kind", "told", "refused"),
    [
        (Job, {"environment": [ARITHMETIC]}, "Job has no 'environment'"),
        (Job, {"environments": [ARITHMETIC], "k": "four"}, "Expected `int`"),
        (Settings, {"max_running": 0}, "max_running is 0"),
        (Settings, "rollouts.db", "write it as a mapping"),
    ],
)
def test_a_configuration_that_cannot_be_says_why(kind, told, refused):
    with pytest.raises(UsageError, match=refused):
        configured(kind, told)


def test_what_a_worker_opened_is_kept_for_the_same_configuration_alone():
    worker, made = SimpleNamespace(), []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    assert [kept_by(worker, {"job": name}, make) for name in ("a", "b", "a")] == [0, 1, 0]
    assert kept_by(SimpleNamespace(), {"job": "a"}, make) == 2


@pytest.mark.parametrize("bent", [{"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_sampling_that_cuts_the_distribution_is_refused(bent):
    (name,) = bent
    with pytest.raises(UsageError, match=f"{name} is {bent[name]}; .* set it to"):
        check_plain(bent)


def test_sampling_from_the_whole_distribution_is_accepted():
    check_plain({"temperature": 0.7, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1, "max_tokens": 9})
