"""Quotas move to where work waits, and together they are never more than their limit."""

from collections import deque
from dataclasses import dataclass, field
from random import Random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.ids import RolloutId
from envhub.contracts.quota import Quota
from envhub.contracts.waiting import Holder, Waits, Wish
from envhub.environments.places import Places
from envhub.rollouts import wire
from envhub.rollouts.quotas import Quotas
from envhub.testing import virtual_time

NAME = "max_running"


class Work:
    """A worker with so much to do, each piece of which holds a place for a while."""

    def __init__(self, total: int) -> None:
        self.places = Places(total, lambda: None)
        self.quota = self.places.quota
        self.quota.resize(0, final=False)
        self.number = -1
        self.done = 0
        self.sent: deque[tuple[float, wire.Allot]] = deque()

    async def piece(self, seconds: float) -> None:
        await self.places.take()
        await anyio.sleep(seconds)
        self.places.give_back()
        self.done += 1

    def usage(self) -> wire.Usage:
        return wire.Usage(NAME, self.quota.total, self.quota.bound, self.quota.demand, self.number)


@dataclass
class Crew:
    """Workers, and messages to and from them that take their time, in order."""

    total: int
    random: Random
    quotas: Quotas[Work] = field(default_factory=Quotas)
    workers: list[Work] = field(default_factory=list)

    @property
    def held(self) -> int:
        """What all may hold at this moment."""
        return sum(worker.quota.bound for worker in self.workers)

    def join(self, size: int) -> Work:
        worker = Work(self.total)
        self.workers.append(worker)
        self.allot((worker, one) for one in self.quotas.join(worker, {NAME: self.total}, size))
        return worker

    def die(self, worker: Work) -> None:
        self.workers.remove(worker)
        self.quotas.leave(worker)

    def allot(self, moves: object) -> None:
        for worker, allotted in moves:  # type: ignore[attr-defined]
            worker.sent.append((anyio.current_time() + self.random.uniform(0.0, 0.3), allotted))

    async def live(self, worker: Work) -> None:
        """Its end of the messages, until it is dead."""
        told: deque[tuple[float, wire.Usage]] = deque()
        while worker in self.workers:
            await anyio.sleep(self.random.uniform(0.01, 0.2))
            now = anyio.current_time()
            while worker.sent and worker.sent[0][0] <= now:
                _, allotted = worker.sent.popleft()
                worker.number = allotted.number
                worker.quota.resize(allotted.quota, final=allotted.final)
                assert self.held <= self.total
            told.append((now + self.random.uniform(0.0, 0.3), worker.usage()))
            while told and told[0][0] <= now and worker in self.workers:
                self.quotas.report(worker, told.popleft()[1])
            self.allot(self.quotas.moves())


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 12),
    work=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    deaths=st.integers(0, 2),
    seed=st.integers(0, 10**6),
)
def test_no_limit_is_passed_at_any_time_and_all_work_gets_done(
    total: int, work: list[int], deaths: int, seed: int
) -> None:
    async def play() -> None:
        random, crew = Random(seed), Crew(total, Random(seed))
        async with anyio.create_task_group() as tasks:

            async def begin(pieces: int) -> Work:
                worker = crew.join(len(work))
                tasks.start_soon(crew.live, worker)
                for _ in range(pieces):
                    tasks.start_soon(worker.piece, random.uniform(0.1, 3.0))
                return worker

            begun = [await begin(pieces) for pieces in work]
            for worker in begun[: min(deaths, len(begun) - 1)]:
                await anyio.sleep(random.uniform(0.0, 5.0))
                worker.quota.limit = 0  # what it does is dead with it: it takes no more
                crew.die(worker)
                assert crew.held <= total
            alive = {worker: pieces for worker, pieces in zip(begun, work, strict=True) if worker in crew.workers}
            with anyio.fail_after(1_000):
                while any(worker.done < pieces for worker, pieces in alive.items()):  # noqa: ASYNC110
                    await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()

    virtual_time.run(play, seed=seed)


def allotted(quotas: Quotas[str]) -> dict[str, int]:
    return {who: one.quota for who, one in quotas.moves()}


def joined(quotas: Quotas[str], who: str, total: int, workers: int) -> int:
    (one,) = quotas.join(who, {NAME: total}, workers)
    return one.quota


def usage(bound: int, demand: int, number: int = 0) -> wire.Usage:
    return wire.Usage(NAME, 0, bound, demand, number)


def test_workers_begin_with_even_parts() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 8, 3) for who in "abc"] == [3, 3, 2]


def test_what_one_does_not_need_goes_to_another_once_it_has_given_it_up() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 8, 2) for who in "ab"] == [4, 4]
    quotas.report("a", usage(4, 7))
    quotas.report("b", usage(4, 1))
    assert allotted(quotas) == {"b": 1}
    quotas.report("b", usage(2, 2, 1))  # one more had begun there
    assert allotted(quotas) == {"a": 6, "b": 2}
    quotas.report("b", usage(2, 1, 2))
    assert allotted(quotas)["b"] == 1
    quotas.report("b", usage(1, 1, 3))
    assert allotted(quotas)["a"] == 7


def test_what_was_reported_before_the_last_change_gives_nothing_up() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 2, 2) for who in "ab"] == [1, 1]
    quotas.report("a", usage(1, 2))
    quotas.report("b", usage(1, 0))
    assert allotted(quotas) == {"b": 0}
    quotas.report("b", usage(0, 0, 0))
    assert allotted(quotas) == {}


def test_the_dead_leave_their_part_to_the_others() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 8, 2) for who in "ab"] == [4, 4]
    quotas.leave("b")
    quotas.report("a", usage(4, 9))
    assert allotted(quotas) == {"a": 8}


def test_a_lower_limit_takes_from_those_that_have_more_than_their_part() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 8, 2) for who in "ab"] == [4, 4]
    quotas.resize(NAME, 4)
    assert allotted(quotas) == {"a": 2, "b": 2}


def test_where_there_are_fewer_than_want_one_they_take_turns() -> None:
    quotas: Quotas[str] = Quotas()
    assert [joined(quotas, who, 1, 2) for who in "ab"] == [1, 0]
    quotas.report("a", usage(1, 5))
    quotas.report("b", usage(0, 5))
    assert allotted(quotas)["a"] == 0
    quotas.report("a", usage(0, 4, 1))
    assert allotted(quotas)["b"] == 1
    quotas.report("b", usage(1, 5, 2))
    assert allotted(quotas)["b"] == 0


@pytest.mark.parametrize("final", [True, False])
def test_a_deadlock_is_one_only_where_nobody_else_has_a_place_to_spare(final: bool) -> None:
    refused: list[str] = []
    waits = Waits()
    quota = Quota(1, lambda: 1, lambda: 1, lambda: None)
    quota.resize(1, final=final)
    parent = Holder(RolloutId("parent"))
    child = Holder(RolloutId("parent.0"), (parent.rollout_id,))
    waits.hold(Wish(parent, {("environments", "one"): quota}, lambda: refused.append("parent")))
    waits.wait(Wish(child, {("environments", "one"): quota}, lambda: refused.append("child")))
    waits.look()
    assert refused == (["child"] if final else [])
