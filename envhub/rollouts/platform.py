"""Platform: what the rollouts of one worker share."""

from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from envhub.contracts.context import Endpoint
from envhub.contracts.engine import Model
from envhub.contracts.ids import PolicyId, PolicyVersion, RolloutId
from envhub.contracts.policy import Policy, PolicyFactory
from envhub.contracts.quota import Quota
from envhub.contracts.raw_call import RawCall
from envhub.contracts.sandbox_pool import SandboxPool
from envhub.contracts.turn import Sampling
from envhub.engines.replicas import Replicas
from envhub.environments.pool import EnvironmentPool
from envhub.rollouts.admission import Slots
from envhub.rollouts.iteration import Iteration
from envhub.rollouts.pause import Pauses
from envhub.rollouts.recorder import Recording
from envhub.tokens.chat import ChatRenderer

GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """A model with its renderer, under a policy id."""

    model: Model
    renderer: ChatRenderer
    frozen: bool = False  # its tokens never train

    @property
    def engine(self) -> str:
        """What caps of engines call it."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class MessagePolicy:
    """Something that takes and gives messages, under a policy id: without tokens, so it never trains."""

    factory: PolicyFactory

    @property
    def engine(self) -> str:
        """What caps of engines call it."""
        return self.factory.name


class Endpoints(Protocol):
    """The gateway, as rollouts see it."""

    def open(
        self, rollout_id: RolloutId, policy: Policy, sampling: Sampling, record: Callable[[RawCall], None]
    ) -> AbstractAsyncContextManager[Endpoint]:
        """A URL and key whose calls are `policy.act`; revoked at the end. Calls may only shorten `sampling`. `record`
        gets them as they were written, where the gateway is to keep that."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that an episode may draw on."""

    policies: Mapping[PolicyId, ServedPolicy | MessagePolicy]
    environments: EnvironmentPool
    slots: Slots
    recorder: Recording
    pauses: Pauses = field(default_factory=Pauses)
    iteration: Iteration | None = None  # None: no token budget
    sandboxes: SandboxPool | None = None  # None: no isolating back end works here
    endpoints: Endpoints | None = None  # None: this run has no gateway
    parks_sandboxes: bool = False  # of rollouts that a pause holds: their places are for others, their files are kept
    grace_s: float = GRACE_S  # that code of a plug-in has to end once it is cancelled
    snapshots: Path | None = None  # the run's folder for files of sandboxes; None: no environment resumes from them
    versions: MutableMapping[PolicyId, PolicyVersion] = field(default_factory=dict)  # the newest that were announced
    sandbox_quotas: Mapping[str, Quota] = field(default_factory=dict)  # by the name of their limit

    @property
    def quotas(self) -> dict[str, Quota]:
        """What is for this worker of each limit that counts for all, by its name."""
        servers = {
            f"max_batch of {policy_id}": policy.model.engine.quota
            for policy_id, policy in self.policies.items()
            if isinstance(policy, ServedPolicy) and isinstance(policy.model.engine, Replicas)
        }
        return {**self.slots.quotas, **self.environments.quotas, **self.sandbox_quotas, **servers}
