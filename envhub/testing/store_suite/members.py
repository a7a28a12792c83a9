"""Members, groups and runs: they are where the events put them, and nothing impossible happens."""

from dataclasses import replace

import pytest

from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.contracts.store import TraceStore
from envhub.errors import StoreError
from envhub.testing.store_suite.base import Base
from envhub.testing.store_suite.tools import RUN, everything, refuses, summaries
from envhub.testing.traces import SampleRun, sample_events, sample_turn

ACKED, CANCELLED, DROPPED, FAILED = MemberState.ACKED, MemberState.CANCELLED, MemberState.DROPPED, MemberState.FAILED
LEASED, QUEUED, RUNNING, SCORED = MemberState.LEASED, MemberState.QUEUED, MemberState.RUNNING, MemberState.SCORED


class Members(Base):
    """Members, groups and runs: they are where the events put them, and nothing impossible happens."""

    async def test_members_end_where_the_events_put_them(self, store: TraceStore) -> None:
        await store.append(sample_events())
        groups = await store.groups(RUN)
        assert [group.members for group in groups] == [
            (ACKED, ACKED), (FAILED, ACKED), (DROPPED, DROPPED), (CANCELLED, CANCELLED), (FAILED, FAILED)
        ]  # fmt: skip
        assert [(group.number, group.closed, group.deliveries) for group in groups] == [
            (0, True, 2), (1, True, 0), (2, True, 0), (3, False, 0), (4, True, 0)
        ]  # fmt: skip

    async def test_one_batch_is_the_same_as_many(self, store: TraceStore) -> None:
        one, many = sample_events("one"), sample_events("many")
        await store.append(one)
        for start in range(0, len(many), 3):
            await store.append(many[start : start + 3])
        groups = [[(group.members, group.closed, group.deliveries) for group in await store.groups(RunId(run))]
                  for run in ("one", "many")]  # fmt: skip
        assert groups[0] == groups[1]
        assert await summaries(store, "one") == await summaries(store, "many")

    async def test_counts_are_conserved_after_every_event(self, store: TraceStore) -> None:
        submitted = 0
        for event in sample_events():
            await store.append([event])
            submitted += 2 if type(event).__name__ == "GroupSubmitted" else 0
            (run,) = await store.runs()
            assert run.members.conserved and run.members.submitted == submitted
        assert run.members.drained and (run.seed, run.run_id) == (7, RUN)

    async def test_member_moves_one_state_at_a_time(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start, again = run.start(0, 0), run.start(0, 0, 1)
        await store.append([run.started(), run.submitted(0, k=1)])
        moves: list[tuple[Event, MemberState]] = [
            (start, RUNNING), (run.fail(start, requeued=True), QUEUED), (again, RUNNING), (run.end(again), SCORED),
            (run.closed(0, 0), SCORED), (run.leased(0, 1), LEASED), (run.returned(0, 1), SCORED),
            (run.leased(0, 2), LEASED), (run.acked(0, 2), ACKED),
        ]  # fmt: skip
        for event, state in moves:
            await store.append([event])
            (group,) = await store.groups(RUN)
            assert group.members == (state,), type(event).__name__

    async def test_impossible_events_are_refused_by_name(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        ran, failed = run.start(0, 0), run.start(0, 1)
        await store.append([run.started(), run.submitted(0), run.submitted(1)])
        await refuses(store, run.started(), "already")
        await refuses(store, run.submitted(0), "before")
        await refuses(store, SampleRun(RunId("other")).submitted(5), "no such run")
        await refuses(store, run.start(9, 0), "no group")
        await refuses(store, run.start(0, 2), "no member 2")
        await refuses(store, run.child(ran), "not running")
        await refuses(store, run.log(ran), "no such rollout")
        await store.append([ran, failed, run.fail(failed)])
        await refuses(store, ran, "before")
        await refuses(store, run.start(0, 0, 1), "is running")
        await refuses(store, run.fail(failed), "ended before")
        await refuses(store, replace(run.end(ran), score=None), "without a score")
        await refuses(store, run.closed(0), "have not ended")
        await store.append([run.end(ran)])
        await refuses(store, run.leased(0), "not closed")
        await refuses(store, run.acked(0), "not closed")
        await store.append([run.closed(0, 0)])
        await refuses(store, run.closed(0, 0), "before")
        await refuses(store, run.returned(0), "not its live one")
        await store.append([run.leased(0)])
        await refuses(store, run.leased(0, 2), "leased")
        await refuses(store, run.acked(0), "not its live one")
        await store.append([run.acked(0, 1)])
        await refuses(store, run.acked(0, 1), "not its live one")
        await refuses(store, run.acked(0), "acked")

    async def test_ack_of_a_failed_member_is_refused(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 0)
        await store.append([run.started(), run.submitted(0, k=1), start, run.fail(start), run.closed(0)])
        await refuses(store, run.acked(0), "its members are failed")

    async def test_batch_with_an_impossible_event_leaves_nothing(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        await store.append([run.started(), run.submitted(0)])
        before = await everything(store)
        start = run.start(0, 0)
        with pytest.raises(StoreError, match="RolloutEnded"):
            await store.append(
                [run.submitted(1), start, run.turn(start, sample_turn(0)), run.end(start), run.end(start)]
            )
        assert await everything(store) == before
        await store.append([start, run.end(start)])

    async def test_runs_come_newest_first(self, store: TraceStore) -> None:
        for id in ("b", "a", "c"):
            await store.append([SampleRun(RunId(id)).started()])
        assert [run.run_id for run in await store.runs()] == ["c", "a", "b"]

    async def test_groups_come_in_order_of_submission(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        await store.append([run.started(), *(run.submitted(number, k=1) for number in (0, 2, 11, 1))])
        assert [group.number for group in await store.groups(RUN)] == [0, 1, 2, 11]
