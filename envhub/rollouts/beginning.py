"""Where a run begins: as a new one, or from what an earlier process left of it."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict

import msgspec

from envhub.contracts.events import RunStarted
from envhub.contracts.ids import RunId
from envhub.contracts.store import TraceStore
from envhub.errors import UsageError
from envhub.rollouts.job import NO_ISOLATION, Job
from envhub.rollouts.resume import Leftover, leftover


async def new_run(store: TraceStore, name: str, seed: int, job: Job | None, model: Mapping[str, str]) -> Leftover:
    """A run of which nothing is done yet, called by the date and a random part unless it has a name. `model` are the
    settings that make the model: the run can go on with the same ones only.

    Raises:
        UsageError: the store has a run of that name.
    """
    run_id = RunId(name or f"{time.strftime('%m%d-%H%M')}-{secrets.token_hex(2)}")
    if any(run.run_id == run_id for run in await store.runs()):
        raise UsageError(f"there is a run '{run_id}' already; choose another id, or --resume {run_id}")
    recorded = {"job": asdict(job) if job else None, "model": dict(model)}
    started = RunStarted(run_id, time.time(), seed, recorded)
    return Leftover(run_id, started.at, seed, recorded, opening=[started])


async def earlier_run(store: TraceStore, run_id: RunId, model: Mapping[str, str], *, isolates: bool) -> Leftover:
    """What is left to do of a run whose process is gone.

    Raises:
        UsageError: no such run, or one of another model, or its job can't run here any more.
    """
    rest = await leftover(store, run_id)
    recorded = msgspec.convert(rest.settings["model"], dict[str, str])
    if recorded != model:
        options = " ".join(f"--{name} {value}" for name, value in recorded.items() if value)
        raise UsageError(f"run '{run_id}' samples from another model; go on with it by {options}")
    job = recorded_job(rest)
    if job is not None:
        await job.check()
        if not isolates and job.without_sandbox() != job:
            raise UsageError(f"the rest of run '{run_id}' needs a sandbox and {NO_ISOLATION}")
    return rest


def recorded_job(rest: Leftover) -> Job | None:
    """What the run was begun to do; None where others submit to it."""
    return msgspec.convert(rest.settings["job"], Job | None)
