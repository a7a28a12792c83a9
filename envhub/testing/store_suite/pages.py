"""Summaries of rollouts, and pages of them."""

from dataclasses import replace

import pytest

from envhub.contracts.ids import EnvironmentId, RunId
from envhub.contracts.outcome import Failure, Status
from envhub.contracts.store import RolloutQuery, TraceStore
from envhub.contracts.turn import NO_VERSION
from envhub.errors import Boundary, UsageError
from envhub.testing.store_suite.base import Base
from envhub.testing.store_suite.tools import HOSTILE, RUN, summary, walk, with_rollouts
from envhub.testing.traces import SampleRun, sample_events, sample_turn


class Pages(Base):
    """Summaries of rollouts, and pages of them."""

    async def test_rollout_summary_says_what_its_events_said(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        start = run.start(0, 1)
        await store.append([run.started(), run.submitted(0), start])
        running = await summary(store, start.rollout_id)
        assert (running.status, running.reward, running.ended_at, running.version_min) == (None, None, None, NO_VERSION)
        await store.append(
            [run.turn(start, sample_turn(0, version=5)), run.turn(start, sample_turn(1, parent=0, version=3))]
        )
        end = replace(run.fail(start), failure=Failure(Boundary.SANDBOX, HOSTILE))
        await store.append([end])
        ended = await summary(store, start.rollout_id)
        assert (ended.turns, ended.prompt_tokens, ended.sampled_tokens) == (2, 8, 16)
        assert (ended.version_min, ended.version_max) == (3, 5)
        assert (ended.status, ended.failure, ended.failure_message) == (
            Status.FAILED,
            Boundary.SANDBOX,
            HOSTILE.replace("\0", "\ufffd"),
        )
        assert (ended.started_at, ended.ended_at) == (start.at, end.at)
        assert (ended.run_id, ended.group_id, ended.member, ended.attempt) == (RUN, start.group_id, 1, 0)
        assert (ended.environment, ended.task_id) == ("demo/sums-v0", "task-0")

    async def test_pages_come_newest_first_and_whole(self, store: TraceStore) -> None:
        ids = await with_rollouts(store, 7)
        pages = [page async for page in walk(store, RolloutQuery(limit=3))]
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [id for page in pages for id in page] == ids[::-1]
        assert (await store.rollouts(RolloutQuery(limit=3))).total == 7
        exact = await store.rollouts(RolloutQuery(limit=7))
        assert exact.next_cursor == ""

    async def test_pages_are_stable_while_rollouts_are_added(self, store: TraceStore) -> None:
        ids = await with_rollouts(store, 6)
        first = await store.rollouts(RolloutQuery(limit=3))
        await with_rollouts(store, 6, run=RunId("later"))
        second = await store.rollouts(RolloutQuery(limit=3, cursor=first.next_cursor))
        assert [rollout.rollout_id for rollout in (*first.rollouts, *second.rollouts)] == ids[::-1]
        assert (second.next_cursor, second.total) == ("", 12)

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            (RolloutQuery(), 12),
            (RolloutQuery(run_id=RUN), 12),
            (RolloutQuery(run_id=RunId("other")), 0),
            (RolloutQuery(environment=EnvironmentId("demo/sums-v0")), 12),
            (RolloutQuery(environment=EnvironmentId("demo/other-v0")), 0),
            (RolloutQuery(status=Status.COMPLETED), 6),
            (RolloutQuery(status=Status.TRUNCATED), 1),
            (RolloutQuery(status=Status.FAILED), 4),
            (RolloutQuery(status=Status.CANCELLED), 1),
            (RolloutQuery(reward_min=0.5), 5),
            (RolloutQuery(reward_max=0.5), 4),
            (RolloutQuery(reward_min=0.25, reward_max=0.75), 2),
            (RolloutQuery(group_id=SampleRun(RUN).group(1)), 3),
            (RolloutQuery(roots_only=True), 10),
            (RolloutQuery(roots_only=True, reward_max=0.5, status=Status.COMPLETED, run_id=RUN), 2),
        ],
        ids=str,
    )
    async def test_page_has_what_matches_and_nothing_else(
        self, store: TraceStore, query: RolloutQuery, count: int
    ) -> None:
        await store.append(sample_events())
        whole = await store.rollouts(query)
        assert (len(whole.rollouts), whole.total) == (count, count)
        ids = [id async for page in walk(store, replace(query, limit=2)) for id in page]
        assert ids == [rollout.rollout_id for rollout in whole.rollouts]

    async def test_tree_comes_parents_first(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        root, other = run.start(0, 0), run.start(0, 1)
        one, two = run.child(root, 0), run.child(root, 1)
        below = run.child(one)
        tree = [root, one, two, below]
        await store.append([run.started(), run.submitted(0), root, other, *tree[1:]])
        page = await store.rollouts(RolloutQuery(root=root.rollout_id))
        assert [rollout.rollout_id for rollout in page.rollouts] == [start.rollout_id for start in tree]
        assert (page.total, page.next_cursor) == (4, "")
        pages = [page async for page in walk(store, RolloutQuery(root=root.rollout_id, limit=3))]
        assert pages == [[start.rollout_id for start in tree[:3]], [below.rollout_id]]
        page = await store.rollouts(RolloutQuery(root=one.rollout_id))
        assert [rollout.rollout_id for rollout in page.rollouts] == [one.rollout_id, below.rollout_id]

    @pytest.mark.parametrize(
        "cursor", ["x", "newest-0", "newest-01", "newest--1", "newest-1 ", "tree-1", "newest-٣", "newest-" + "9" * 30]
    )
    async def test_cursor_that_no_page_gave_is_refused(self, store: TraceStore, cursor: str) -> None:
        with pytest.raises(UsageError, match="next_cursor"):
            await store.rollouts(RolloutQuery(cursor=cursor))

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    async def test_limit_out_of_range_is_refused(self, store: TraceStore, limit: int) -> None:
        with pytest.raises(UsageError, match=f"limit is {limit}"):
            await store.rollouts(RolloutQuery(limit=limit))
