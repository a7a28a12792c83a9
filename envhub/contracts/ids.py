"""Identities. Ids derive from (run id, submission number, member, try, call), so the same run makes the same ids."""

from hashlib import blake2b
from typing import NewType

RunId = NewType("RunId", str)
GroupId = NewType("GroupId", str)
RolloutId = NewType("RolloutId", str)
TaskId = NewType("TaskId", str)
EnvironmentId = NewType("EnvironmentId", str)
PolicyId = NewType("PolicyId", str)
PolicyVersion = NewType("PolicyVersion", int)
LeaseId = NewType("LeaseId", str)

TRAINED = PolicyId("policy")  # the policy under training, unless a request names another


def group_id(run: RunId, number: int) -> GroupId:
    """The group of the `number`-th submission of a run."""
    return GroupId(f"{run}-{number}")


def member_rollout_id(group: GroupId, member: int, attempt: int) -> RolloutId:
    """The `attempt`-th try of a member: RUN-GROUP-MEMBER-TRY."""
    return RolloutId(f"{group}-{member}-{attempt}")


def attempt_of(rollout: RolloutId) -> int:
    """The try that a member's rollout id names."""
    return int(rollout.rpartition("-")[2])


def child_rollout_id(parent: RolloutId, ordinal: int) -> RolloutId:
    """The `ordinal`-th rollout that `parent` started: PARENT.ORDINAL."""
    return RolloutId(f"{parent}.{ordinal}")


def ordinal_of(child: RolloutId) -> int:
    """Which of its parent's rollouts a child's id names."""
    return int(child.rpartition(".")[2])


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) that depends on all parts and nothing else."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
