"""An embedded run: a trainer asks for groups one by one, and its own engine samples for the policy under training."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import anyio

from envhub.app.live_run import open_sandboxes
from envhub.app.settings import Settings
from envhub.app.traces import open_traces
from envhub.contracts.engine import Model
from envhub.contracts.ids import TRAINED, PolicyVersion, RunId
from envhub.contracts.outcome import Failure
from envhub.contracts.rollout import GroupRequest
from envhub.errors import Boundary, UsageError, bare_usage_errors
from envhub.feed.codec import TrainerGroup, decode_group
from envhub.feed.encoding import encode_group
from envhub.rollouts.beginning import new_run
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.job import NO_ISOLATION, Job
from envhub.rollouts.manager import Origin, RolloutManager, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import ServedPolicy
from envhub.rollouts.policies import open_policies
from envhub.rollouts.recorder import open_recorder
from envhub.rollouts.rollout_files import folder_of_run
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import LocalWorker
from envhub.store.address import beside
from envhub.tokens.chat import ChatRenderer
from envhub.worker import close, open_platform

CANCEL_S = 30.0  # for the members of a group that nobody waits for any more to end
TRAINERS = (  # own business: what it samples with, when it takes new weights, which groups it asks for and trains on
    *("engine", "engine_options", "inexact", "feed", "access", "lease_s", "staleness", "iteration_tokens"),
    *("resume", "workers"),
)
TRAINERS_OF_JOB = ("extra", "min_k", "filters", "spares")
UNENDED = Failure(Boundary.OPERATOR, "it was cancelled")


@dataclass(frozen=True, slots=True, eq=False)
class PlayedGroup:
    """A group that has ended, with the members that a feed would deliver, and why others are not among them."""

    group: TrainerGroup
    failures: Mapping[int, Failure]  # by member


class Runner:
    """Plays the groups of an embedded run. Open it with `embedded`."""

    def __init__(self, run_id: RunId, manager: RolloutManager) -> None:
        self.run_id = run_id
        self._manager = manager

    async def play(self, request: GroupRequest) -> PlayedGroup:
        """The group once all its members have ended; cancelled, it ends them.

        Raises:
            UsageError: something that it names does not exist.
        """
        group = await self._manager.start(request)
        try:
            await group.handed_on.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(CANCEL_S, shield=True):
                await self._manager.cancel(group.id)
            raise
        return self._played(group)

    async def announce(self, version: PolicyVersion) -> None:
        """The newest version of the policy under training.

        Raises:
            UsageError: it is older than the newest.
        """
        await self._manager.announce(TRAINED, version)

    def _played(self, group: RolloutGroup) -> PlayedGroup:
        closed = group.closed(self.run_id, group.version)
        missing = (member for member in range(group.request.size) if member not in closed.members)
        failures = {member: group.outcomes[member].failure or UNENDED for member in missing}
        return PlayedGroup(decode_group(encode_group(closed)), failures)


@asynccontextmanager
async def embedded(model: Model, job: Job, settings: Settings = Settings()) -> AsyncIterator[Runner]:
    """A run whose policy under training is `model`, which its owner closes. The job's environments, agent and judge are
    checked; how many groups, how large and how sampled is up to who asks. Leaving it by an exception ends what runs.

    Raises:
        UsageError: what the job or the settings ask for can't be had, or is not for a run inside a trainer.
    """
    _check(model, job, settings)
    await job.check(settings.policy_settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(bare_usage_errors())
        backend = await stack.enter_async_context(open_sandboxes(settings.sandbox))
        if backend is None and job.without_sandbox() != job:
            raise UsageError(f"some of {', '.join(job.environments)} need a sandbox and {NO_ISOLATION}")
        store = await open_traces(settings.database, payloads=settings.payloads)
        stack.push_async_callback(close, store)
        conditions = replace(settings.conditions, model={"engine": "the trainer's", "weights": model.name})
        begun = await new_run(store, settings.run_id, settings.seed, None, conditions)
        await stack.enter_async_context(store.hold(begun.run_id))
        recorder = await stack.enter_async_context(open_recorder(store))
        told = settings.platform(begun.started_at, None, sandboxes=backend is not None)
        files = beside(settings.database, ".files") / begun.run_id
        told = replace(told, snapshots=str(stack.enter_context(folder_of_run(files))))
        frozen = {policy_id: policy for policy_id, policy in told.policies.items() if policy_id != TRAINED}
        policies = await stack.enter_async_context(open_policies(frozen, begun.started_at))
        renderer = ChatRenderer.of(model, now=datetime.fromtimestamp(begun.started_at))
        policies[TRAINED] = ServedPolicy(model, renderer)
        platform = await stack.enter_async_context(
            open_platform(told, policies, backend, recorder, Pauses(), None, None)
        )
        await store.append(begun.opening)
        origin = Origin(begun.run_id, begun.seed)
        manager = await stack.enter_async_context(
            open_manager(
                origin,
                LocalWorker(platform),
                recorder,
                OwnConsumer(recorder),
                Versions(),
                max_groups=settings.max_groups,
            )
        )
        yield Runner(begun.run_id, manager)
        await manager.finish()


def _check(model: Model, job: Job, settings: Settings) -> None:
    usual_settings, usual_job = Settings(), Job(job.environments)
    set_ones = [name for name in TRAINERS if getattr(settings, name) != getattr(usual_settings, name)]
    set_ones += [name for name in TRAINERS_OF_JOB if getattr(job, name) != getattr(usual_job, name)]
    if set_ones:
        raise UsageError(f"{set_ones[0]} is set, but in an embedded run that is up to the trainer; leave it out")
    if not model.exact:
        raise UsageError(f"model '{model.name}' gives no exact log probabilities, and trainers get none but these")
