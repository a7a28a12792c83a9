"""Tally: what has happened in a pool so far."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.sandbox_pool import PoolStats


@dataclass(slots=True)
class Tally:
    """Counts since the pool opened."""

    granted: int = 0
    returned: int = 0
    expired: int = 0
    refused: int = 0
    wait_s: float = 0.0

    def stats(self, *, live: int, warm: Mapping[SandboxSpec, int], waiting: int, failed: int) -> PoolStats:
        """With the counts of now."""
        return PoolStats(live=live, warm=warm, waiting=waiting, failed=failed, **asdict(self))
