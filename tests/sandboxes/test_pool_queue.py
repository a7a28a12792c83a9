"""The queue is fair: priorities first, then tenants in turn, then as they came; nobody is forgotten or served twice."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.ids import RolloutId
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.waiting import Holder
from sandboxes.pool.queue import FairQueue, Request

SPECS = (SandboxSpec(), SandboxSpec(cpus=2))
asked = st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.sampled_from(SPECS))


def request(tenant: str, priority: int = 0, spec: SandboxSpec = SPECS[0]) -> Request:
    return Request(spec, Holder(RolloutId(tenant), (), tenant, priority))


def everybody(tenant: str, spec: SandboxSpec) -> bool:
    return True


def drained(queue: FairQueue) -> list[Request]:
    order = list[Request]()
    while (turn := queue.next(everybody)) is not None:
        queue.take(turn)
        order.append(turn)
    return order


@given(st.lists(asked))
def test_every_request_is_served_once_the_higher_priority_first(wanted: list[tuple[str, int, SandboxSpec]]) -> None:
    queue, requests = FairQueue(), [request(*one) for one in wanted]
    for one in requests:
        queue.push(one)
    order = drained(queue)
    assert sorted(one.number for one in order) == list(range(len(requests)))
    assert [one.holder.priority for one in order] == sorted((one[1] for one in wanted), reverse=True)
    assert (len(queue), queue._lines) == (0, {})


@given(st.lists(asked))
def test_tenants_requests_are_served_in_the_order_of_asking(wanted: list[tuple[str, int, SandboxSpec]]) -> None:
    queue = FairQueue()
    for one in wanted:
        queue.push(request(*one))
    order = drained(queue)
    for tenant in "abc":
        for priority in (0, 1):
            own = [one.number for one in order if (one.holder.tenant, one.holder.priority) == (tenant, priority)]
            assert own == sorted(own)


@given(st.lists(st.one_of(asked, st.none()), max_size=60))
def test_no_tenant_waits_while_another_is_served_twice(steps: list[tuple[str, int, SandboxSpec] | None]) -> None:
    queue, passed_over = FairQueue(), Counter[tuple[str, str]]()
    for step in steps:
        if step is not None:
            queue.push(request(step[0], 0, step[2]))
        elif (turn := queue.next(everybody)) is not None:
            queue.take(turn)
            served = turn.holder.tenant
            for waiting in {one.holder.tenant for one in queue} - {served}:
                passed_over[waiting, served] += 1
                assert passed_over[waiting, served] <= 1
            passed_over = Counter({key: n for key, n in passed_over.items() if key[0] != served})


@given(st.lists(asked, min_size=1), st.data())
def test_who_gives_up_leaves_no_trace(wanted: list[tuple[str, int, SandboxSpec]], data: st.DataObject) -> None:
    queue, requests = FairQueue(), [request(*one) for one in wanted]
    for one in requests:
        queue.push(one)
    gone = data.draw(st.sets(st.sampled_from(requests)))
    for one in gone:
        queue.remove(one)
    assert set(drained(queue)) == set(requests) - gone
    assert not queue._lines


def test_who_comes_back_goes_first_then_children_then_by_priority() -> None:
    member, urgent = Holder(RolloutId("m")), Holder(RolloutId("u"), priority=9)
    child = Holder(RolloutId("c"), (RolloutId("p"),))
    wanted = [Request(SPECS[0], member), Request(SPECS[0], urgent), Request(SPECS[0], child)]
    back = Request(SPECS[0], member, returns=True)
    queue = FairQueue()
    for one in (*wanted, back):
        queue.push(one)
    assert drained(queue) == [back, wanted[2], wanted[1], wanted[0]]


def test_request_at_its_quota_does_not_hold_up_its_tenants_others() -> None:
    queue = FairQueue()
    for one in (request("a", spec=SPECS[0]), request("a", spec=SPECS[1])):
        queue.push(one)
    turn = queue.next(lambda tenant, spec: spec is SPECS[1])
    assert turn is not None
    assert turn.spec is SPECS[1]
    assert queue.next(lambda tenant, spec: False) is None


def test_tenant_that_comes_late_is_served_before_the_backlog_of_another() -> None:
    queue = FairQueue()
    for one in [request("busy") for _ in range(5)] + [request("late")]:
        queue.push(one)
    assert [one.holder.tenant for one in drained(queue)][:3] == ["busy", "late", "busy"]
