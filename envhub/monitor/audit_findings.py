"""AuditFinding: something in a run's data to look at, with its number and its page on the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from envhub.contracts.ids import RolloutId, RunId

LEAST = 20  # rollouts, groups or scores below which a share says nothing


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    SERIOUS = "serious"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Something to look at."""

    kind: str
    severity: Severity
    message: str
    page: str  # path on the dashboard
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on something is a finding."""

    failed: float = 0.05  # share of rollouts, as all of these but the last
    truncated: float = 0.25
    even_groups: float = 0.5  # whose rewards are all the same: they teach nothing
    repeated_answers: float = 0.05  # of different tasks
    agreement: float = 0.7  # of two judges, at least
    length_bias: float = 0.8  # tokens of those that were kept over those that were cut off, at least
    versions_behind: int = 4  # of a twentieth of the rollouts


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def run_page(run_id: RunId) -> str:
    return f"/runs/{_part(run_id)}"


def overview_page(run_id: RunId) -> str:
    return f"/overview?run={_part(run_id)}"


def list_page(run_id: RunId, page: str = "rollouts", **conditions: str) -> str:
    query = "".join(f"&{name}={_part(value)}" for name, value in conditions.items())
    return f"/{page}?run={_part(run_id)}{query}"


def rollout_page(rollout_id: RolloutId) -> str:
    return f"/rollouts/{_part(rollout_id)}"


def environment_page(environment: str) -> str:
    return f"/environments/{_part(environment)}"


def _part(text: str) -> str:
    return quote(text, safe="")
