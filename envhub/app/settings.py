"""Settings: what a run is made of, checked before anything starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from envhub.contracts.access import Access
from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import TRAINED, PolicyId
from envhub.errors import UsageError
from envhub.gateway.call_rules import CallRules
from envhub.rollouts.admission import NO_CAPS, Caps
from envhub.rollouts.beginning import Conditions
from envhub.rollouts.job import Job
from envhub.rollouts.policies import PolicySettings
from envhub.rollouts.ray_places import RayPlaces
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.versions import Staleness
from envhub.worker import PlatformSettings
from sandboxes.pool.limits import PoolLimits

POLICY_ID = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of. Every limit must be positive."""

    database: str = "envhub.db"
    run_id: str = ""  # "": the date and a random part
    resume: bool = False  # go on with the run of that id
    seed: int = 0
    engine: str = "embedded"
    engine_options: EngineOptions = EngineOptions()
    policies: Mapping[str, PolicySettings] = field(default_factory=dict)  # frozen ones, beside the one under training
    sandbox: str = "auto"  # auto: the strongest that works here, never one without isolation
    max_sandboxes: int = 8
    max_sandboxes_per_spec: int | None = None  # of them, of one kind; None: as many as there are
    max_sandboxes_per_environment: int | None = None  # of them, for the rollouts of one environment
    warm_sandboxes: int = 2  # of them, kept ready of each kind that rollouts ask for
    park_sandboxes: bool = False  # of paused rollouts: their files are kept, and their places are for others
    workers: int = 0  # processes that run rollouts, each with a model of its own; 0: this one runs them
    max_workers: int = 0  # as many where there is work for them; 0: no more than workers
    ray: RayPlaces | None = None  # where in a Ray cluster these processes are; None: on this machine
    modules: tuple[str, ...] = ()  # that register what rollouts name: worker processes import them
    max_running: int = 64  # rollouts that act at once,
    caps: Caps = NO_CAPS  # and of them in one environment, on one engine, for one policy
    max_groups: int = 256  # groups that have not ended; submitting waits
    payloads: str = ""  # folder or URL of large payloads, where the database does not say; "": they are in it
    feed: str = ""  # HOST:PORT to serve trainers on; "": the run's own output is the consumer
    access: Access = Access()  # to feed, gateway and dashboard: beyond loopback it takes tokens and TLS
    inexact: bool = False  # trainers may get log probabilities that are not the engine's own, or none
    call_rules: CallRules = CallRules()  # of agents at the gateway
    lease_s: float = 60.0
    tracing: bool = False  # rollouts go to OpenTelemetry, as its environment variables say (extra "otel")
    staleness: Staleness | None = None  # None: no bound
    iteration_tokens: int | None = None  # sampled for one training step; more wait for the next version

    def __post_init__(self) -> None:
        for name in ("max_sandboxes", "max_running", "max_groups", "lease_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be positive")
        _ = self.pool_limits, self.policy_settings  # which say what is wrong with them
        for name in self.policies:
            if name == TRAINED or not POLICY_ID.fullmatch(name):
                raise UsageError(
                    f"policy '{name}' must be letters, digits, '_', '.' and '-', and not '{TRAINED}', which is the one "
                    "under training: engine and engine_options say what that samples from"
                )
        if not 0 <= self.warm_sandboxes <= self.max_sandboxes:
            raise UsageError(
                f"warm_sandboxes is {self.warm_sandboxes}; it must be 0 to max_sandboxes, which is {self.max_sandboxes}"
            )
        self._check_workers()
        if self.feed:
            split_address(self.feed)
        if self.iteration_tokens is not None and not (self.staleness and self.feed):
            raise UsageError(
                "iteration_tokens needs a trainer that announces versions: set feed, and staleness with the rollouts "
                "of its step"
            )

    def _check_workers(self) -> None:
        if self.workers < 0:
            raise UsageError(f"workers is {self.workers}; it must be 0 (rollouts run in this process) or more")
        if self.ray and not self.workers:
            raise UsageError("workers is 0, and ray says where they are; set workers to how many there shall be")
        if self.max_workers and not 1 <= self.workers <= self.max_workers:
            raise UsageError(
                f"max_workers is {self.max_workers} and workers is {self.workers}; workers, as many as there are at "
                "least, must be 1 to max_workers"
            )

    @property
    def worker_bounds(self) -> Bounds | None:
        """Of the number of worker processes; None where this one runs the rollouts."""
        return Bounds(self.workers, self.max_workers or self.workers) if self.workers else None

    def platform(self, started_at: float, job: Job | None, *, sandboxes: bool) -> PlatformSettings:
        """What the rollouts of a run that started then draw on."""
        return PlatformSettings(
            policies=self.policy_settings,
            sandbox=self.sandbox if sandboxes else "",
            pool=self.pool_limits,
            warm_sandboxes=self.warm_sandboxes,
            park_sandboxes=self.park_sandboxes,
            max_running=self.max_running,
            caps=self.caps,
            started_at=started_at,
            exact=bool(self.feed) and not self.inexact,
            modules=self.modules,
            call_rules=self.call_rules,
            environments=job.environments if job else (),
        )

    @property
    def pool_limits(self) -> PoolLimits:
        """Of the sandboxes."""
        return PoolLimits(
            max_live=self.max_sandboxes,
            max_per_tenant=self.max_sandboxes_per_environment,
            max_per_spec=self.max_sandboxes_per_spec,
        )

    @property
    def policy_settings(self) -> dict[PolicyId, PolicySettings]:
        """Of all policies."""
        frozen = {PolicyId(name): settings for name, settings in self.policies.items()}
        return {TRAINED: PolicySettings(self.engine, self.engine_options), **frozen}

    @property
    def conditions(self) -> Conditions:
        """What a run can go on with only as it began."""
        frozen = {name: settings.model for name, settings in self.policies.items()}
        return Conditions(self.policy_settings[TRAINED].model, feed=bool(self.feed), policies=frozen)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        UsageError: it does not read so.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"address '{address}' must read HOST:PORT, like 127.0.0.1:8602 (port 0: any that is free)")
    return host.strip("[]"), int(port)
