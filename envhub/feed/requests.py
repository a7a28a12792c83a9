"""Between the wire and the contracts, of what is asked of a run: groups to submit, scopes, limits; and its state."""

import json
import secrets
from collections.abc import Mapping

from envhub.contracts.delivery import RunLimits, RunState
from envhub.contracts.ids import TRAINED, EnvironmentId, GroupId, PolicyId, RolloutId, TaskId
from envhub.contracts.messages import JsonValue, Message
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.feed.codec import ROLE_FROM_WIRE, ROLE_TO_WIRE
from envhub.feed.v1 import feed_pb2 as pb

USUAL = Sampling()
PAUSE_MODES: Mapping[int, PauseMode] = {
    pb.PAUSE_MODE_CUT: PauseMode.CUT,
    pb.PAUSE_MODE_KEEP: PauseMode.KEEP,
    pb.PAUSE_MODE_WAIT: PauseMode.WAIT,
}


def encode_submission(
    environment: str,
    task: Task,
    *,
    k: int,
    key: str,
    policy_id: str,
    sampling: Sampling,
    priority: int,
) -> pb.SubmitRequest:
    """What asks for a group; without a key it has one of its own, so that asking again is no second group.

    Raises:
        UsageError: the prompt shows pictures.
    """
    if any(message.images for message in task.prompt):
        raise UsageError(
            f"task '{task.id}' shows pictures; the feed takes prompts of text, an environment has the rest"
        )
    return pb.SubmitRequest(
        key=key or secrets.token_hex(8),
        environment=environment,
        task=pb.Task(
            id=task.id,
            prompt=[pb.Message(role=ROLE_TO_WIRE[message.role], content=message.content) for message in task.prompt],
            answer_json=json.dumps(task.answer),
            metadata_json=json.dumps(dict(task.metadata)),
            seed=task.seed,
        ),
        k=k,
        policy_id=policy_id,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        top_p=None if sampling.top_p == USUAL.top_p else sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        priority=priority,
    )


def decode_submission(asked: pb.SubmitRequest) -> GroupRequest:
    """The group that is asked for. It has a key in any case: by that a resumed run knows it from its own job's.

    Raises:
        UsageError: a value that can't be.
    """
    rollout = RolloutRequest(
        environment=EnvironmentRef(
            EnvironmentId(asked.environment), _object("environment_json", asked.environment_json)
        ),
        task=_decode_task(asked.task),
        policy_id=PolicyId(asked.policy_id or TRAINED),
        agent=asked.agent or "tool-loop",
        judge=asked.judge,
        sampling=Sampling(
            asked.temperature if asked.HasField("temperature") else USUAL.temperature,
            asked.max_tokens or USUAL.max_tokens,
            top_p=asked.top_p if asked.HasField("top_p") else USUAL.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p,
        ),
    )
    return GroupRequest(
        rollout,
        k=asked.k or 4,
        extra=asked.extra,
        min_k=asked.min_k or 1,
        deadline_s=asked.deadline_s if asked.HasField("deadline_s") else None,
        priority=asked.priority,
        seed=asked.seed if asked.HasField("seed") else None,
        key=asked.key or secrets.token_hex(8),
    )


def _decode_task(task: pb.Task) -> Task:
    return Task(
        TaskId(task.id),
        tuple(_decode_message(message) for message in task.prompt),
        _json("answer_json", task.answer_json),
        _object("metadata_json", task.metadata_json),
        task.seed if task.HasField("seed") else None,
    )


def _decode_message(message: pb.Message) -> Message:
    role = ROLE_FROM_WIRE.get(message.role)
    if role is None:
        raise UsageError(f"a message of the prompt has role {message.role}; give it one of Role's")
    return Message(role, message.content)


def _json(name: str, text: str) -> JsonValue:
    try:
        return json.loads(text) if text else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON ({error}); send a JSON document, or leave it empty") from error


def _object(name: str, text: str) -> Mapping[str, JsonValue]:
    value = _json(name, text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{name} is a JSON {type(value).__name__}; it must be an object")
    return value


def decode_scope(scope: pb.Scope) -> Scope:
    return Scope(
        policy_id=PolicyId(scope.policy_id) if scope.policy_id else None,
        environment_id=EnvironmentId(scope.environment) if scope.environment else None,
        group_id=GroupId(scope.group_id) if scope.group_id else None,
        rollout_id=RolloutId(scope.rollout_id) if scope.rollout_id else None,
    )


def decode_mode(mode: int) -> PauseMode:
    """
    Raises:
        UsageError: a newer client's.
    """
    if mode not in PAUSE_MODES:
        raise UsageError(f"pause mode {mode} is none that this server knows; use PAUSE_MODE_CUT, KEEP or WAIT")
    return PAUSE_MODES[mode]


def decode_limits(limits: pb.Limits) -> RunLimits:
    """
    Raises:
        UsageError: a limit of 0.
    """
    return RunLimits(
        limits.max_groups if limits.HasField("max_groups") else None,
        limits.max_running if limits.HasField("max_running") else None,
    )


def encode_state(state: RunState) -> pb.RunState:
    return pb.RunState(
        run_id=state.run_id,
        submitted=state.members.submitted,
        members={str(name): number for name, number in state.members.by_state.items()},
        versions={str(policy_id): version for policy_id, version in state.versions.items()},
        limits=pb.Limits(max_groups=state.limits.max_groups, max_running=state.limits.max_running),
        draining=state.draining,
    )
