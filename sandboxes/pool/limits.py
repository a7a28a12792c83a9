"""PoolLimits: how much a pool gives, to whom, and for how long."""

from dataclasses import dataclass, fields

from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """None: no quota.

    Raises:
        UsageError: a limit that is not positive.
    """

    max_live: int = 8
    max_waiting: int = 100_000  # requests; one more is refused at once
    max_per_tenant: int | None = None  # leases
    max_per_spec: int | None = None  # leases
    wait_s: float = 600.0  # for a place
    ttl_s: float = 14_400.0  # a holder that asks nothing of its sandbox for so long loses it

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise UsageError(f"{field.name} of the sandbox pool is {value}; it must be positive")
