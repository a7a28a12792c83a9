"""Where a run begins: as a new one, or from what an earlier process left of it."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import msgspec

from envhub.contracts.events import RunStarted
from envhub.contracts.ids import TRAINED, PolicyId, RunId
from envhub.contracts.store import TraceStore
from envhub.errors import UsageError
from envhub.rollouts.job import NO_ISOLATION, Job
from envhub.rollouts.resume import Leftover, leftover

RUN_ID = re.compile(r"[A-Za-z0-9][\w.-]*")  # it is part of URLs and file names


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a run can go on with only as it began."""

    model: Mapping[str, str]  # the settings that make it
    feed: bool  # trainers consume the groups
    policies: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # likewise of each that is frozen


async def new_run(store: TraceStore, name: str, seed: int, job: Job | None, conditions: Conditions) -> Leftover:
    """A run of which nothing is done yet, called by the date and a random part unless it has a name.

    Raises:
        UsageError: the name can't be one, or the store has a run of that name.
    """
    if name and not RUN_ID.fullmatch(name):
        raise UsageError(
            f"run id '{name}' must be letters, digits, '_', '.' and '-', and begin with one of the first two"
        )
    run_id = RunId(name or f"{time.strftime('%m%d-%H%M')}-{secrets.token_hex(2)}")
    if any(run.run_id == run_id for run in await store.runs()):
        raise UsageError(f"there is a run '{run_id}' already; choose another id, or --resume {run_id}")
    recorded = {"job": asdict(job) if job else None, **asdict(conditions)}
    started = RunStarted(run_id, time.time(), seed, recorded)
    return Leftover(run_id, started.at, seed, recorded, opening=[started])


async def earlier_run(
    store: TraceStore, run_id: RunId, told: Job | None, conditions: Conditions, *, isolates: bool
) -> Leftover:
    """What is left to do of a run whose process is gone; `told`: the job that it shall have, None: the one it has.

    Raises:
        UsageError: no such run, or it began under other conditions or with another job, or its job can't run here any
            more.
    """
    rest = await leftover(store, run_id)
    began = msgspec.convert(rest.settings, Conditions)
    if began.model != conditions.model:
        options = " ".join(f"--{name} {value}" for name, value in began.model.items() if value)
        raise UsageError(f"run '{run_id}' samples from another model; go on with it by {options}")
    for policy, model in began.policies.items():
        if conditions.policies.get(policy) != model:
            needed = f"{policy}={':'.join(filter(None, (model['engine'], model['weights'])))}"
            raise UsageError(
                f"policy '{policy}' of run '{run_id}' samples from another model; go on with --policy {needed}"
            )
    if began.feed and not conditions.feed:
        raise UsageError(
            f"the groups of run '{run_id}' are for trainers; go on with --feed HOST:PORT or --trainer COMMAND"
        )
    job = recorded_job(rest)
    if told is not None:
        _check_same(run_id, job, told)
    if job is not None:
        await job.check((TRAINED, *map(PolicyId, conditions.policies)))
        if not isolates and job.without_sandbox() != job:
            raise UsageError(f"the rest of run '{run_id}' needs a sandbox and {NO_ISOLATION}")
    return rest


def _check_same(run_id: RunId, job: Job | None, told: Job) -> None:
    if job is None:
        raise UsageError(f"run '{run_id}' was begun without environments; leave them out, or give another run id")
    for one in fields(Job):
        had, has = getattr(job, one.name), getattr(told, one.name)
        if had != has:
            raise UsageError(
                f"run '{run_id}' began with {one.name} {had!r}, and now it is {has!r}; "
                "a run keeps its job: put that back, or give another run id"
            )


def recorded_job(rest: Leftover) -> Job | None:
    """What the run was begun to do; None where others submit to it."""
    return msgspec.convert(rest.settings["job"], Job | None)
