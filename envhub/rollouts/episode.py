"""The episode: the way of one rollout from its start to its outcome."""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import anyio

from envhub.contracts.agent import is_equipped
from envhub.contracts.environment import Environment
from envhub.contracts.events import RolloutStarted
from envhub.contracts.outcome import Failure, Outcome, Status
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.sandbox import Snapshot
from envhub.environments.grace import GivenUp, Grace
from envhub.errors import Boundary, Fault, Truncated, boundary
from envhub.registry import agents, environments, judges
from envhub.rollouts.admission import Claim, Precedence, Slot
from envhub.rollouts.clock import EpisodeClock
from envhub.rollouts.context import RolloutContext
from envhub.rollouts.judging import judged, with_turn_rewards
from envhub.rollouts.live import Ending, LiveRollout, Tree
from envhub.rollouts.platform import Platform
from envhub.rollouts.purse import Purse
from envhub.rollouts.recorded_environment import RecordedEnvironment
from envhub.rollouts.replay import Records
from envhub.rollouts.rollout_sandboxes import RolloutSandboxes

Play: TypeAlias = Callable[[LiveRollout], Awaitable[Ending]]


async def run_member(
    start: RolloutStarted,
    platform: Platform,
    tries_again: Callable[[Failure], bool],
    earlier: Records | None,
    standing: Claim,
) -> Outcome:
    """Runs one try of a member, the root of a tree. `tries_again` says of a failure whether another one follows;
    `earlier` is what another process recorded of it, `standing` its group's in the line of those that wait."""
    tree = Tree(max_live=start.request.limits.max_live, live=1)
    slot = Slot(platform.slots, claim(standing, start.request, platform))
    with ended_unless_resumed(earlier, platform):
        async with slot.hold(Precedence.RESUMED if earlier else Precedence.MEMBER):
            if platform.pauses.in_force:
                await platform.pauses.admit(start, slot.away)
            limits = start.request.limits
            clock = EpisodeClock(limits.deadline_s)
            purse = Purse(limits, most_critical=environments.get(start.request.environment.id).max_critical_steps)
            sandboxes = RolloutSandboxes(platform.sandboxes)
            live = LiveRollout(start, platform, tree, (), tries_again, slot, clock, purse, sandboxes)
            return await recorded(live, earlier, _played)


async def run_child(
    start: RolloutStarted, parent: LiveRollout, purse: Purse, earlier: Records | None, files: Snapshot | None
) -> Outcome:
    """Runs a rollout that another one started and waits for, on that one's purse or its judge's."""
    platform, above = parent.platform, parent.clock
    slot = Slot(platform.slots, claim(parent.slot.claim, start.request, platform))
    ancestors = (*parent.ancestors, parent.id)
    with above.child(), ended_unless_resumed(earlier, platform):
        async with slot.hold(Precedence.CHILD):
            limits = start.request.limits
            clock = EpisodeClock(min(limits.deadline_s, above.left), above)
            own = Purse(limits, purse)
            sandboxes = RolloutSandboxes(platform.sandboxes, files)
            child = LiveRollout(start, platform, parent.tree, ancestors, no_more, slot, clock, own, sandboxes)
            return await recorded(child, earlier, _played)


def claim(standing: Claim, request: RolloutRequest, platform: Platform) -> Claim:
    """What a rollout of that request asks for slots with, where its tree has that standing."""
    served = platform.policies.get(request.policy_id)
    engine = served.engine if served else ""  # its first model call will say what is wrong
    version, priority, submission = standing.version, standing.priority, standing.submission
    return Claim(request.environment.id, engine, request.policy_id, version, priority, submission, standing.member)


@contextmanager
def ended_unless_resumed(earlier: Records | None, platform: Platform) -> Iterator[None]:
    """A rollout of another process that is cancelled before it goes on ends here."""
    try:
        yield
    finally:
        if earlier is not None and not earlier.resumed:
            for event in earlier.end():
                platform.recorder.emit(event)


def no_more(failure: Failure) -> bool:
    """A child has one try: its parent decides what to make of its failure."""
    return False


async def recorded(live: LiveRollout, earlier: Records | None, play: Play) -> Outcome:
    """Whatever happens to the rollout is in its outcome; only cancellation passes on, recorded as well."""
    live.begin(earlier)
    try:
        with live.platform.pauses.gate(live.start, live.held) as live.gate, live.gate.aborting:
            return await _ended(live, play)
    finally:
        if live.files is not None:
            await live.files.free()
    assert live.outcome is not None  # it was aborted
    return live.outcome


async def _ended(live: LiveRollout, play: Play) -> Outcome:
    try:
        ending = await play(live)
    except Fault as fault:
        return live.end(Status.FAILED, failure=Failure(fault.boundary, fault.message, fault.retryable))
    except Truncated as limit:
        message = f"truncated({limit.reason}) was raised where no episode runs: while it was made or closed"
        return live.end(Status.FAILED, failure=Failure(Boundary.ENVIRONMENT, message))
    except anyio.get_cancelled_exc_class():
        if anyio.current_effective_deadline() > -math.inf:  # nobody cancelled this rollout
            message = "a cancellation that nobody asked for escaped from its code"
            return live.end(Status.FAILED, failure=Failure(Boundary.AGENT, message))
        live.end(Status.CANCELLED)
        raise
    return live.end(Status.TRUNCATED if ending.truncated_by else Status.COMPLETED, ending)


async def _played(live: LiveRollout) -> Ending:
    """Acts and is judged, in one environment."""
    request = live.start.request
    with boundary(Boundary.OPERATOR):
        lease = live.platform.environments.lease(request.environment, waiting=live.slot.lend, holder=live.holder)
        async with live.sandboxes, lease as environment:
            truncated_by = await _acted(live, environment)
            await live.sandboxes.end_processes()
            input = live.judge_input(truncated_by)
            live.record_episode(input)
            live.clock = EpisodeClock(request.limits.deadline_s, live.clock.above)
            judge = judges.get(request.judge) if request.judge else environment.judge
            ctx = RolloutContext(live, run_child, for_judge=True)
            grace = Grace(live.platform.grace_s, live)
            try:
                score = await judged(judge, input, ctx, live.clock, grace)
            finally:
                await ctx.close()
            if score.turn_rewards or live.turn_rewards:
                score = with_turn_rewards(score, live.turn_rewards, {turn.index for turn in live.turns})
            live.check_replayed()
    return Ending(truncated_by, score)


async def _acted(live: LiveRollout, inner: Environment) -> str:
    """Lets the agent act to the end of the episode or to a limit; returns the limit it met."""
    ctx = RolloutContext(live, run_child)
    try:
        with live.clock.running():
            if not live.slot.held:  # it was lent while the environment was waited for
                await ctx.take_back_slot()
            await Grace(live.platform.grace_s, live).run(partial(_act, live, inner, ctx))
    except Truncated as limit:
        return limit.reason
    except GivenUp as error:
        raise Fault(f"its code swallows cancellation: {error}", live.acting) from error
    finally:
        live.acted = True
        await ctx.close()
    return "deadline" if live.clock.ran_out else ""


async def _act(live: LiveRollout, inner: Environment, ctx: RolloutContext) -> None:
    request = live.start.request
    with boundary(Boundary.AGENT):
        agent = agents.get(request.agent)()
        environment = RecordedEnvironment(agent.equip(inner) if is_equipped(agent) else inner, live)
        observation = await environment.reset(request.task, seed=live.start.environment_seed, ctx=ctx)
        await agent.run(environment, observation, ctx)
