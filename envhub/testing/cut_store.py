"""CutStore: a store whose process dies at a write, for tests of what is left then."""

from collections.abc import AsyncIterator, Collection, Sequence

from envhub.contracts.events import Event
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import GroupSummary, RolloutPage, RolloutQuery, RolloutSummary, RunSummary, TraceStore
from envhub.errors import StoreError


class CutStore:
    """Commits every event by itself, and takes none after `writes` of them. The last one fails all the same where it is
    cut `after_commit`: it is durable and its writer never knew."""

    def __init__(self, inner: TraceStore, writes: int, *, after_commit: bool) -> None:
        self.inner = inner
        self._left = writes
        self._after_commit = after_commit
        self.is_dead = False

    async def append(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._left:
                await self.inner.append([event])
                self._left -= 1
                if self._left or not self._after_commit:
                    continue
            self.is_dead = True
            raise StoreError("the process was killed")

    def events(
        self,
        run_id: RunId,
        rollout_id: RolloutId | None = None,
        *,
        kinds: Collection[type[Event]] = (),
        files: bool = False,
    ) -> AsyncIterator[Event]:
        return self.inner.events(run_id, rollout_id, kinds=kinds, files=files)

    async def events_of(
        self,
        run_id: RunId,
        rollout_ids: Collection[RolloutId],
        kinds: Collection[type[Event]] = (),
        *,
        files: bool = False,
    ) -> Sequence[Event]:
        return await self.inner.events_of(run_id, rollout_ids, kinds, files=files)

    async def file(self, sha256: str) -> bytes | None:
        return await self.inner.file(sha256)

    async def runs(self) -> tuple[RunSummary, ...]:
        return await self.inner.runs()

    async def rollouts(self, query: RolloutQuery) -> RolloutPage:
        return await self.inner.rollouts(query)

    async def rollout(self, rollout_id: RolloutId) -> RolloutSummary | None:
        return await self.inner.rollout(rollout_id)

    async def groups(self, run_id: RunId) -> tuple[GroupSummary, ...]:
        return await self.inner.groups(run_id)

    async def close(self) -> None:
        await self.inner.close()
