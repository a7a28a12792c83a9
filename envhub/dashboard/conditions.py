"""Conditions: which rollouts a page is about, as its URL says it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from envhub.errors import Boundary, UsageError
from envhub.monitor.rollout_pages import MAX_LIMIT, Selection, Sort

if TYPE_CHECKING:
    from envhub.contracts.store import BrowsableStore


class ShownStatus(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    TRUNCATED = "truncated"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How much of the store a search for text has seen; it goes on with the next one."""

    indexed: int  # events
    of: int


class Conditions(BaseModel):
    """Which rollouts. Of several values of one kind any will do; what is left out does not filter."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run: str = ""
    environment: list[str] = []
    policy: str = ""
    status: list[ShownStatus] = []
    boundary: list[Boundary] = []
    task: str = ""
    group: str = ""
    reward_min: float | None = None
    reward_max: float | None = None
    version_min: int | None = None
    version_max: int | None = None
    text: str = Field(default="", max_length=1_000)
    roots_only: bool = False

    @property
    def key(self) -> str:
        """The same for the same conditions."""
        return self.model_dump_json(include=set(Conditions.model_fields))

    async def selection(self, store: "BrowsableStore") -> tuple[Selection, SearchProgress | None]:
        """What they let through, and how far its search for text has come.

        Raises:
            UsageError: a range that nothing can lie in, or a text without a word.
        """
        for name in ("reward", "version"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low is not None and high is not None and low > high:
                raise UsageError(f"{name}_min {low:g} is above {name}_max {high:g}; swap them")
        places: Sequence[int] | None = None
        progress = None
        if self.text:
            found = await store.find_text(self.text)
            places, progress = found.places, SearchProgress(found.indexed, found.of)
        return self._selection(places), progress

    def _selection(self, places: Sequence[int] | None) -> Selection:
        return Selection(
            run=self.run,
            environments=self.environment,
            policy=self.policy,
            statuses=self.status,
            boundaries=self.boundary,
            task=self.task,
            group=self.group,
            reward_min=self.reward_min,
            reward_max=self.reward_max,
            version_min=self.version_min,
            version_max=self.version_max,
            roots_only=self.roots_only,
            places=places,
        )


class ListQuery(Conditions):
    """A page of the list of rollouts."""

    sort: Sort = Sort.STARTED
    descending: bool = True
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT)
    cursor: str = ""


class CurveQuery(Conditions):
    """Figures that say of a rollout whether it passed."""

    pass_at: float = 1.0
