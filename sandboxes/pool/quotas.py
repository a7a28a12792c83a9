"""PoolQuotas: how much of its limits a pool may give now."""

from dataclasses import dataclass

from envhub.contracts.quota import Quota


@dataclass(frozen=True, slots=True)
class PoolQuotas:
    """None: no limit."""

    live: Quota  # sandboxes: leased, warm, being made, reset or destroyed
    per_tenant: Quota | None  # leases
    per_spec: Quota | None  # leases

    @property
    def by_name(self) -> dict[str, Quota]:
        """Those that there are, by the name of their limit."""
        named = {"max_sandboxes": self.live, "max_per_tenant": self.per_tenant, "max_per_spec": self.per_spec}
        return {name: quota for name, quota in named.items() if quota is not None}
