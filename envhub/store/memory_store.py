"""MemoryTraceStore: a trace store for tests and throw-away runs. It keeps the same bytes as the durable ones."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from itertools import islice

from envhub.contracts.events import Event
from envhub.contracts.ids import GroupId, RolloutId, RunId
from envhub.contracts.members import MemberCounts
from envhub.contracts.store import (
    GroupSummary,
    RolloutFacts,
    RolloutPage,
    RolloutQuery,
    RolloutSummary,
    RunSummary,
    StoredEvent,
    TextMatches,
)
from envhub.errors import StoreError
from envhub.store.codec import decode, names_of
from envhub.store.files import files_of, fill
from envhub.store.paging import next_cursor, position
from envhub.store.projection import Projection, RunRecord
from envhub.store.sealed import stored
from envhub.store.text_search import SPOKEN, phrases_of, text_of, words_of


class MemoryTraceStore:
    """Everything of it is gone when it is closed."""

    def __init__(self) -> None:
        self._log: list[tuple[str, bytes]] = []
        self._of_run: dict[RunId, list[int]] = defaultdict(list)  # places in the log
        self._of_rollout: dict[tuple[RunId, RolloutId], list[int]] = defaultdict(list)
        self._of_group: dict[GroupId, list[int]] = defaultdict(list)
        self._state = Projection()
        self._images: dict[str, bytes] = {}
        self._closed = False

    async def append(self, events: Sequence[Event]) -> None:
        self._check_open()
        records = [stored(event) for event in events]
        changes = self._state.after(events)
        self._state.update(changes)
        self._images |= files_of(events)
        for event, record in zip(events, records, strict=True):
            self._index(event, len(self._log))
            self._log.append(record)

    async def events(
        self,
        run_id: RunId,
        rollout_id: RolloutId | None = None,
        *,
        kinds: Collection[type[Event]] = (),
        files: bool = False,
    ) -> AsyncIterator[Event]:
        self._check_open()
        places = self._of_run.get(run_id) if rollout_id is None else self._of_rollout.get((run_id, rollout_id))
        for event in self._read(places or (), kinds, files):
            yield event

    async def events_of(
        self,
        run_id: RunId,
        rollout_ids: Collection[RolloutId],
        kinds: Collection[type[Event]] = (),
        *,
        files: bool = False,
    ) -> Sequence[Event]:
        self._check_open()
        places = sorted(place for id in rollout_ids for place in self._of_rollout.get((run_id, id), ()))
        return list(self._read(places, kinds, files))

    async def file(self, sha256: str) -> bytes | None:
        self._check_open()
        return self._images.get(sha256)

    async def runs(self) -> tuple[RunSummary, ...]:
        self._check_open()
        return tuple(self._summary(run) for run in reversed(list(self._state.runs.values())))

    async def rollouts(self, query: RolloutQuery) -> RolloutPage:
        self._check_open()
        last = position(query)
        matching = self._matching(query)
        after = (
            (place, rollout)
            for place, rollout in matching
            if last is None or (place < last if query.root is None else place > last)
        )
        page = list(islice(after, query.limit + 1))
        shown = page[: query.limit]
        cursor = next_cursor(query, shown[-1][0]) if len(page) > query.limit else ""
        return RolloutPage(tuple(rollout for _, rollout in shown), cursor, len(matching))

    async def rollout(self, rollout_id: RolloutId) -> RolloutSummary | None:
        self._check_open()
        return self._state.rollouts.get(rollout_id)

    async def groups(self, run_id: RunId) -> tuple[GroupSummary, ...]:
        self._check_open()
        groups = (group for group in self._state.groups.values() if group.run_id == run_id)
        return tuple(sorted(groups, key=lambda group: group.number))

    async def group(self, group_id: GroupId) -> GroupSummary | None:
        self._check_open()
        return self._state.groups.get(group_id)

    async def group_events(self, group_id: GroupId) -> Sequence[Event]:
        self._check_open()
        return [decode(*self._log[place]) for place in self._of_group.get(group_id, ())]

    async def run_events(self, run_id: RunId) -> Sequence[Event]:
        events = [event async for event in self.events(run_id)]
        return [event for event in events if not hasattr(event, "rollout_id") and not hasattr(event, "group_id")]

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        self._check_open()
        places = islice((place for place in self._of_run.get(run_id, ()) if place >= after), limit)
        return [StoredEvent(place + 1, *self._log[place]) for place in places]

    async def facts(self, after: int, limit: int) -> Sequence[RolloutFacts]:
        self._check_open()
        rollouts = islice(enumerate(self._state.rollouts.values(), start=1), after, after + limit)
        return [_facts(place, rollout) for place, rollout in rollouts]

    async def ended_facts(self, places: Collection[int]) -> Sequence[RolloutFacts]:
        rollouts = await self.rollouts_at(tuple(places))
        return [_facts(*found) for found in zip(places, rollouts, strict=True) if found[1].status is not None]

    async def rollouts_at(self, places: Sequence[int]) -> tuple[RolloutSummary, ...]:
        self._check_open()
        rollouts = list(self._state.rollouts.values())
        return tuple(rollouts[place - 1] for place in places if place <= len(rollouts))

    async def find_text(self, text: str) -> TextMatches:
        self._check_open()
        phrases, found = phrases_of(text), set[RolloutId]()
        for kind, payload in self._log:
            if kind in SPOKEN:
                said = words_of(text_of(kind, payload))
                if all(phrase.matches(said) for phrase in phrases):
                    found.add(decode(kind, payload).rollout_id)  # type: ignore[union-attr]  # kinds of rollouts only
        places = [place for place, id in enumerate(self._state.rollouts, start=1) if id in found]
        return TextMatches(places, len(self._log), len(self._log))

    async def close(self) -> None:
        self._closed = True

    def _read(self, places: Iterable[int], kinds: Collection[type[Event]], files: bool) -> Iterator[Event]:
        names = set(names_of(kinds))
        for place in places:
            if not names or self._log[place][0] in names:
                yield fill(decode(*self._log[place]), self._images if files else {})

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed; open a new one")

    def _index(self, event: Event, place: int) -> None:
        self._of_run[event.run_id].append(place)
        rollout_id = getattr(event, "rollout_id", None)
        if rollout_id is not None:
            self._of_rollout[event.run_id, rollout_id].append(place)
        elif (group_id := getattr(event, "group_id", None)) is not None:
            self._of_group[group_id].append(place)

    def _summary(self, run: RunRecord) -> RunSummary:
        groups = (group for group in self._state.groups.values() if group.run_id == run.run_id)
        by_state = Counter(state for group in groups for state in group.members)
        return RunSummary(run.run_id, run.started_at, run.seed, MemberCounts(run.submitted, by_state))

    def _matching(self, query: RolloutQuery) -> list[tuple[int, RolloutSummary]]:
        """Those that match, with their places from 1 on, in the order of the query's pages."""
        tree: set[RolloutId] = set() if query.root is None else {query.root}
        found = []
        for place, rollout in enumerate(self._state.rollouts.values(), start=1):
            if rollout.parent in tree:
                tree.add(rollout.rollout_id)
            if _matches(query, rollout) and (query.root is None or rollout.rollout_id in tree):
                found.append((place, rollout))
        return found if query.root is not None else found[::-1]


def _facts(place: int, rollout: RolloutSummary) -> RolloutFacts:
    known = {"place": place, "is_root": rollout.parent is None}
    return RolloutFacts._make(known.get(name, getattr(rollout, name, None)) for name in RolloutFacts._fields)


def _matches(query: RolloutQuery, rollout: RolloutSummary) -> bool:
    for name in ("run_id", "environment", "status", "group_id"):
        wanted = getattr(query, name)
        if wanted is not None and getattr(rollout, name) != wanted:
            return False
    reward = rollout.reward
    if query.reward_min is not None and (reward is None or reward < query.reward_min):
        return False
    if query.reward_max is not None and (reward is None or reward > query.reward_max):
        return False
    return rollout.parent is None or not query.roots_only
