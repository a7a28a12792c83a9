"""The events of a run. Their log is the journal; every table beside it is a projection of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from envhub.contracts.ids import GroupId, LeaseId, PolicyId, PolicyVersion, RolloutId, RunId
from envhub.contracts.messages import JsonObject
from envhub.contracts.outcome import Failure, Status
from envhub.contracts.quick import quickly_made
from envhub.contracts.raw_call import RawCall
from envhub.contracts.rollout import GroupRequest, RolloutRequest
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.score import JudgeInput, Judgement, Score
from envhub.contracts.step import Step
from envhub.contracts.turn import Turn
from envhub.contracts.usage import Usage


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: RunId
    at: float  # seconds since the epoch, in every event
    seed: int
    settings: JsonObject


@dataclass(frozen=True, slots=True)
class GroupSubmitted:
    """All its members are queued."""

    run_id: RunId
    at: float
    group_id: GroupId
    number: int  # of the submission, from 0
    request: GroupRequest


@quickly_made
@dataclass(frozen=True, slots=True)
class RolloutStarted:
    """A try of a member (parent None), which is then running, the judging of a group (without parent and member), or a
    child of either."""

    run_id: RunId
    at: float
    rollout_id: RolloutId
    group_id: GroupId
    member: int  # NO_MEMBER: the judging of its group
    attempt: int
    parent: RolloutId | None
    root: RolloutId
    request: RolloutRequest
    seed: int  # of what it samples
    environment_seed: int  # of what its environment draws: the same for all members of a group
    group_judged: bool = False  # the judge of its group is going to ask for its episode
    judges: tuple[int, ...] = ()  # the members that it judges, if it is the judging of its group
    for_judge: bool = False  # the judge of its parent started it, on a budget of the judge's own


@quickly_made
@dataclass(frozen=True, slots=True, eq=False)
class TurnRecorded:
    run_id: RunId
    at: float
    rollout_id: RolloutId
    turn: Turn


@dataclass(frozen=True, slots=True)
class CallRecorded:
    """What went over the gateway's wire for one of its turns; only where somebody asked for it to be kept."""

    run_id: RunId
    at: float
    rollout_id: RolloutId
    call: RawCall


@quickly_made
@dataclass(frozen=True, slots=True)
class StepRecorded:
    run_id: RunId
    at: float
    rollout_id: RolloutId
    step: Step


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The files of its sandbox of that spec are saved, as a step left them, which is recorded next."""

    run_id: RunId
    at: float
    rollout_id: RolloutId
    spec: SandboxSpec
    step: int  # its index
    file: str  # in the rollout's part of the run's folder
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EpisodeRecorded:
    """Its agent has acted, and its group has a judge: that one's input but for the messages of its steps. What is no
    data in `info` is kept as its repr."""

    run_id: RunId
    at: float
    rollout_id: RolloutId
    episode: JudgeInput


@dataclass(frozen=True, slots=True)
class LogRecorded:
    run_id: RunId
    at: float
    rollout_id: RolloutId
    message: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutPaused:
    """A call of it is held by a pause; its member, if it is a member's try, is then paused."""

    run_id: RunId
    at: float
    rollout_id: RolloutId


@dataclass(frozen=True, slots=True)
class RolloutContinued:
    """No call of it is held any more; its member is running again."""

    run_id: RunId
    at: float
    rollout_id: RolloutId


@dataclass(frozen=True, slots=True)
class RolloutResumed:
    """Another process goes on with it, since the one that ran it is gone; its member is running."""

    run_id: RunId
    at: float
    rollout_id: RolloutId


@dataclass(frozen=True, slots=True)
class RolloutEnded:
    """Its member, if it is a member's try, is then scored or failed; or queued again, where `requeued`: after a failure
    that will be retried, or when it was cancelled (a group that is given up is GroupCancelled as well). The judging of
    a group, unless requeued, moves the members that it judged: they have its scores, or end as it did."""

    run_id: RunId
    at: float
    rollout_id: RolloutId
    status: Status
    score: Score | None
    failure: Failure | None
    truncated_by: str
    response: str
    usage: Usage
    requeued: bool = False
    judgement: Judgement | None = None  # of the judging of a group


@dataclass(frozen=True, slots=True)
class GroupClosed:
    """`members` are those with a valid score, in order. Empty: nothing to deliver. All others have ended or, where the
    group was `cut`, are given up: what had not ended is then cancelled, and a score that came too late dropped."""

    run_id: RunId
    at: float
    group_id: GroupId
    members: tuple[int, ...]
    policy_version: PolicyVersion  # the newest that was announced
    cut: bool = False


@dataclass(frozen=True, slots=True)
class GroupLeased:
    """Its scored members are leased."""

    run_id: RunId
    at: float
    group_id: GroupId
    lease_id: LeaseId
    consumer: str
    delivery: int  # 1 for the first
    deadline: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class GroupReturned:
    """Its leased members are scored again."""

    run_id: RunId
    at: float
    group_id: GroupId
    lease_id: LeaseId
    reason: str  # expired, shutdown, restart, disconnected, or what the consumer said


@dataclass(frozen=True, slots=True)
class GroupAcked:
    """Its scored or leased members are acked. Without a feed the run's own output acks, with an empty lease."""

    run_id: RunId
    at: float
    group_id: GroupId
    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class GroupDropped:
    """Its members that are not final are dropped."""

    run_id: RunId
    at: float
    group_id: GroupId
    reason: str  # dead_letter, short, stale, "filter ..."


@dataclass(frozen=True, slots=True)
class GroupCancelled:
    """Its members that are not final are cancelled."""

    run_id: RunId
    at: float
    group_id: GroupId


@dataclass(frozen=True, slots=True)
class VersionPending:
    """New weights are on their way into a policy's engines, and its calls are held meanwhile."""

    run_id: RunId
    at: float
    policy_id: PolicyId
    version: PolicyVersion


@dataclass(frozen=True, slots=True)
class VersionFailed:
    """What was pending did not become live."""

    run_id: RunId
    at: float
    policy_id: PolicyId
    version: PolicyVersion
    reason: str


@dataclass(frozen=True, slots=True)
class ServerMoved:
    """A server generates for another policy from now on."""

    run_id: RunId
    at: float
    server: str  # its URL
    policy_id: PolicyId
    version: PolicyVersion  # of that policy's weights, which it took


@dataclass(frozen=True, slots=True)
class VersionAnnounced:
    """The newest version of a policy: it is live."""

    run_id: RunId
    at: float
    policy_id: PolicyId
    version: PolicyVersion


@dataclass(frozen=True, slots=True)
class OperatorActed:
    """Somebody steered the run by hand, or tried to."""

    run_id: RunId
    at: float
    operator: str  # who, as far as the server that was asked can tell: the name of a token, else an address
    action: str  # pause, resume, drain, limit, cancel, abort, profile, open, stop
    detail: JsonObject  # what was asked
    refused: str = ""  # why it was not done
    role: str = ""  # of the token; "": nobody's, or not recorded
    address: str = ""  # that it came from
    via: str = ""  # dashboard, feed, gateway or signal


Event: TypeAlias = (
    RunStarted
    | GroupSubmitted
    | RolloutStarted
    | TurnRecorded
    | CallRecorded
    | StepRecorded
    | SnapshotTaken
    | EpisodeRecorded
    | LogRecorded
    | RolloutPaused
    | RolloutContinued
    | RolloutResumed
    | RolloutEnded
    | GroupClosed
    | GroupLeased
    | GroupReturned
    | GroupAcked
    | GroupDropped
    | GroupCancelled
    | VersionPending
    | VersionFailed
    | ServerMoved
    | VersionAnnounced
    | OperatorActed
)
