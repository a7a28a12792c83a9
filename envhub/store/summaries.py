"""How the summaries of groups and rollouts begin, and what the events of a rollout make of its own."""

from dataclasses import fields
from itertools import takewhile
from operator import attrgetter

from envhub.contracts.events import GroupSubmitted, RolloutEnded, RolloutStarted, TurnRecorded
from envhub.contracts.ids import EnvironmentId, PolicyId, TaskId
from envhub.contracts.members import MemberState
from envhub.contracts.store import GroupSummary, RolloutSummary
from envhub.contracts.turn import NO_VERSION
from envhub.store.sealed import gist_of
from envhub.store.text import listed

_names = [field.name for field in fields(RolloutSummary)]
_before_progress = attrgetter(*takewhile(lambda name: name != "turns", _names))
_before_end = attrgetter(*takewhile(lambda name: name != "status", _names))
_progress = attrgetter("turns", "prompt_tokens", "sampled_tokens", "version_min", "version_max")


def submitted(event: GroupSubmitted) -> GroupSummary:
    rollout = event.request.rollout
    return GroupSummary(
        group_id=event.group_id,
        run_id=event.run_id,
        number=event.number,
        environment=EnvironmentId(listed(rollout.environment.id)),
        task_id=TaskId(listed(rollout.task.id)),
        members=(MemberState.QUEUED,) * event.request.size,
        closed=False,
        deliveries=0,
    )


def started(event: RolloutStarted) -> RolloutSummary:
    return RolloutSummary(
        rollout_id=event.rollout_id,
        run_id=event.run_id,
        group_id=event.group_id,
        member=event.member,
        attempt=event.attempt,
        parent=event.parent,
        root=event.root,
        environment=EnvironmentId(listed(event.request.environment.id)),
        task_id=TaskId(listed(event.request.task.id)),
        policy_id=PolicyId(listed(event.request.policy_id)),
        status=None,
        truncated_by="",
        reward=None,
        failure=None,
        failure_message="",
        requeued=False,
        turns=0,
        prompt_tokens=0,
        sampled_tokens=0,
        version_min=NO_VERSION,
        version_max=NO_VERSION,
        started_at=event.at,
        ended_at=None,
    )


def with_turn(rollout: RolloutSummary, event: TurnRecorded) -> RolloutSummary:
    turn = gist_of(event)
    oldest, newest = rollout.version_min, rollout.version_max
    for span in turn.spans:
        if span.sampled:
            oldest = span.policy_version if oldest == NO_VERSION else min(oldest, span.policy_version)
            newest = max(newest, span.policy_version)
    values = (  # as in the others, by place: dataclasses.replace takes three times as long
        *_before_progress(rollout),
        rollout.turns + 1,
        rollout.prompt_tokens + turn.prompt_tokens,
        rollout.sampled_tokens + turn.sampled_tokens,
        oldest,
        newest,
        rollout.started_at,
        rollout.ended_at,
    )
    return RolloutSummary(*values)


def with_members(group: GroupSummary, members: tuple[MemberState, ...]) -> GroupSummary:
    return GroupSummary(
        group.group_id,
        group.run_id,
        group.number,
        group.environment,
        group.task_id,
        members,
        group.closed,
        group.deliveries,
    )


def ended(rollout: RolloutSummary, event: RolloutEnded) -> RolloutSummary:
    values = (
        *_before_end(rollout),
        event.status,
        listed(event.truncated_by),
        None if event.score is None else event.score.scalar,
        None if event.failure is None else event.failure.boundary,
        "" if event.failure is None else listed(event.failure.message),
        event.requeued,
        *_progress(rollout),
        rollout.started_at,
        event.at,
    )
    return RolloutSummary(*values)
