"""Vitals: what a process that plays a run knows of itself beyond the records: its loop, its places, its servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from envhub.engines.replicas import Replicas
from envhub.monitor.loop_lag import LoopLag, LoopWatch
from envhub.rollouts.deliveries import DeliveryQueue, QueueStanding
from envhub.rollouts.platform import MessagePolicy, Platform, ServedPolicy
from envhub.rollouts.recorder import Recorder


@dataclass(frozen=True, slots=True)
class HeldLoop:
    """Whose code held the event loop longest."""

    seconds: float
    culprit: str
    where: str  # file:line


@dataclass(frozen=True, slots=True)
class LagFigures:
    """How late the event loop was in the last minute."""

    p50_s: float
    p99_s: float
    max_s: float
    worst: HeldLoop | None

    @classmethod
    def of(cls, lag: LoopLag) -> Self:
        stall = lag.worst
        worst = HeldLoop(stall.seconds, str(stall.culprit), stall.culprit.where) if stall else None
        return cls(lag.p50_s, lag.p99_s, lag.max_s, worst)


@dataclass(frozen=True, slots=True)
class SlotFigures:
    """Places of rollouts that act."""

    held: int
    waiting: int
    limit: int


@dataclass(frozen=True, slots=True)
class SandboxFigures:
    """Sandboxes of this process, and counts since it began."""

    leased: int
    warm: int
    waiting: int
    granted: int
    expired: int
    refused: int
    failed: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """What one policy generates with."""

    policy_id: str
    model: str
    servers: int  # 0: it is in this process
    outages: Mapping[str, str]  # why which of them serve nobody


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything at one moment. None: this process has no such thing."""

    loop_lag: LagFigures
    backlog: int  # events that are not durable yet
    slots: SlotFigures | None
    sandboxes: SandboxFigures | None
    engines: tuple[EngineFigures, ...]
    feed: QueueStanding | None


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """Where the vitals of a run are taken. `platform` None: it is in worker processes."""

    watch: LoopWatch
    recorder: Recorder
    platform: Platform | None
    deliveries: DeliveryQueue | None

    def now(self) -> Vitals:
        platform = self.platform
        return Vitals(
            loop_lag=LagFigures.of(self.watch.recent),
            backlog=self.recorder.backlog,
            slots=_slots(platform) if platform else None,
            sandboxes=_sandboxes(platform) if platform else None,
            engines=tuple(_engine(id, policy) for id, policy in platform.policies.items()) if platform else (),
            feed=self.deliveries.standing if self.deliveries else None,
        )


def _slots(platform: Platform) -> SlotFigures:
    slots = platform.slots
    return SlotFigures(slots.limit - slots.free, slots.waiting, slots.limit)


def _sandboxes(platform: Platform) -> SandboxFigures | None:
    if platform.sandboxes is None:
        return None
    stats = platform.sandboxes.stats()
    return SandboxFigures(
        leased=stats.live,
        warm=sum(stats.warm.values()),
        waiting=stats.waiting,
        granted=stats.granted,
        expired=stats.expired,
        refused=stats.refused,
        failed=stats.failed,
        wait_s=stats.wait_s,
    )


def _engine(policy_id: str, policy: ServedPolicy | MessagePolicy) -> EngineFigures:
    engine = policy.model.engine if isinstance(policy, ServedPolicy) else None
    servers, outages = (len(engine.names), dict(engine.outages)) if isinstance(engine, Replicas) else (0, {})
    return EngineFigures(policy_id, policy.engine, servers, outages)
