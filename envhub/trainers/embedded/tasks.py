"""TaskRows: tasks as rows of a trainer's data set, and the groups that such rows ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from envhub.contracts.ids import derive_seed
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import UnknownName, UsageError
from envhub.registry import environments
from envhub.rollouts.job import Job

ENVIRONMENT, TASK_ID = "environment", "task_id"  # columns of a row


class TaskRows:
    """The tasks of a job's environments. Of the job count the environments, the agent, the judge, the context strategy,
    the limits and the tries; how many groups, how many members and how they sample is the trainer's to say."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tasks = {
            name: {str(task.id): task for task in environments.get(name).load_tasks()} for name in job.environments
        }

    def rows(self) -> list[dict[str, Any]]:
        """All tasks, environment by environment: a row's prompt is for people who look at it, its ids name the task."""
        return [
            {"prompt": _messages(task), ENVIRONMENT: name, TASK_ID: id}
            for name, tasks in self._tasks.items()
            for id, task in tasks.items()
        ]

    def request(self, row: Mapping[str, Any], k: int, sampling: Sampling, *, draw: str | None = None) -> GroupRequest:
        """A group of the row's task. Where a trainer asks for the members of a group one by one, `draw` is what they
        have in common: what their environments draw at random is then the same.

        Raises:
            UnknownName: the row names no task of these environments.
            UsageError: it names none at all.
        """
        if row.get(ENVIRONMENT) is None or row.get(TASK_ID) is None:
            raise UsageError(
                f"the row has the columns {', '.join(sorted(row))}; it must name its task by '{ENVIRONMENT}' and "
                f"'{TASK_ID}', as TaskRows(job).rows() does"
            )
        name, id = str(row[ENVIRONMENT]), str(row[TASK_ID])
        if name not in self._tasks:
            raise UnknownName.of("environment of this job", name, self._tasks)
        if id not in self._tasks[name]:
            raise UnknownName.of(f"task of '{name}'", id, self._tasks[name])
        task = self._tasks[name][id]
        if draw is not None and task.seed is None:
            task = replace(task, seed=derive_seed(name, id, draw))
        return replace(self._job, k=k, sampling=sampling).request(name, task)


def _messages(task: Task) -> Sequence[Mapping[str, str]]:
    return [{"role": str(message.role), "content": message.content} for message in task.prompt]
