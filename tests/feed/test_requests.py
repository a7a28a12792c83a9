"""Prompts in, and groups for trainers that work in steps: calls beside the stream."""

from functools import partial

import anyio
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.messages import Message, Role
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.feed.client import FeedClient
from envhub.feed.codec import read_group
from envhub.feed.parts import PART_BYTES, Parts, parts_of
from envhub.feed.requests import decode_submission, encode_submission
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from envhub.testing.runs import open_scripted_run
from tests.feed.feeding import call, fake, ids, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
prompts = st.lists(st.builds(Message, st.sampled_from(Role), st.text(min_size=1, max_size=9)), min_size=1, max_size=3)


samplings = st.builds(
    Sampling,
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 9),
    st.none(),
    st.sampled_from([0.25, 1.0]),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.5]),
)


@given(
    prompts,
    json_values,
    st.dictionaries(st.text(max_size=3), json_values, max_size=2),
    st.integers(0, 2**60),
    samplings,
)
def test_submission_survives_the_wire(prompt, answer, metadata, seed, sampling):
    task = Task("an id", (*prompt, Message.user("and more")), answer, metadata, seed)
    sent = encode_submission("a/b-v0", task, k=3, key="key", policy_id="p", sampling=sampling, priority=-2)
    received = decode_submission(pb.SubmitRequest.FromString(sent.SerializeToString()))
    assert received.rollout.task == task
    assert (received.rollout.environment.id, received.rollout.policy_id) == ("a/b-v0", "p")
    assert (received.rollout.sampling, received.k, received.key, received.priority) == (sampling, 3, "key", -2)


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (pb.SubmitRequest(environment="a/b-v0"), "a task has an empty id"),
        (pb.SubmitRequest(task=pb.Task(id="t", prompt=[pb.Message(role=9, content="?")])), "has role 9"),
        (pb.SubmitRequest(environment_json="[1]", task=pb.Task(id="t")), "environment_json is a JSON list"),
        (pb.SubmitRequest(environment_json="{", task=pb.Task(id="t")), "environment_json is no JSON"),
        (
            pb.SubmitRequest(task=pb.Task(id="t", prompt=[pb.Message(role=2, content="?")]), temperature=-1),
            "temperature is -1.0",
        ),
        (pb.SubmitRequest(task=pb.Task(id="t", prompt=[pb.Message(role=2, content="?")]), k=2, min_k=3), "min_k is 3"),
    ],
)
async def test_submission_that_can_not_be_is_refused_with_the_rule(request_, rule):
    run = fake(0)
    async with serve(run, run) as address:
        with pytest.raises(grpc.RpcError) as caught:
            await in_thread(partial(call, address, "Rollouts", "Submit", request_))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rule in caught.value.details()


async def test_submitted_task_is_run_and_delivered_and_its_key_means_it_from_then_on():
    task = Task.ask("What is 2 + 2?", "4", id="mine")

    async with open_scripted_run(lambda asked: "4", lease_s=60) as run, serve(run.feed, run.manager) as address:

        def work() -> None:
            with FeedClient(address, consumer="trainer") as feed:
                group = feed.submit("envhub/arithmetic-v0", task, k=3, key="step-0")
                assert feed.submit("envhub/arithmetic-v0", task, k=3, key="step-0") == group
                with pytest.raises(UsageError, match="key 'step-0' belongs to 3 rollouts of task 'mine'"):
                    feed.submit("envhub/arithmetic-v0", task, k=2, key="step-0")
                with pytest.raises(UsageError, match="no environment 'no/such-v0'"):
                    feed.submit("no/such-v0", task)
                (lease,) = feed.fetch(1)
                assert (lease.group_id, lease.group.task_id) == (group, "mine")
                assert len(lease.group.members) == 3
                assert lease.ack()

        await in_thread(work)
        assert (await run.manager.state()).members.submitted == 3


async def test_submissions_of_one_key_that_race_start_one_group():
    task = Task.ask("What is 2 + 2?", "4")
    async with open_scripted_run(lambda asked: "4", lease_s=60) as run:
        request = decode_submission(
            encode_submission(
                "envhub/arithmetic-v0", task, k=2, key="same", policy_id="", sampling=Sampling(), priority=0
            )
        )
        groups = []

        async def submit() -> None:
            groups.append(await run.manager.submit(request))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(submit)
        assert len(groups) == 8
        assert len(set(groups)) == 1
        assert (await run.manager.state()).members.submitted == 2


async def test_cancelled_group_is_not_delivered_and_an_unknown_one_is_an_error():
    run = fake(2)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            feed.cancel("run-1")
            with pytest.raises(UsageError, match="group 'run-9' is not running"):
                feed.cancel("run-9")
            assert [lease.group_id for lease in feed.groups() if lease.ack()] == ids(0)

    async with serve(run, run) as address:
        await in_thread(work, address)


def fetched(address: str, **asked) -> tuple[list[pb.Delivery], str]:
    """The deliveries, and how the answer ended."""
    parts, deliveries = Parts(), []
    messages = call(address, "Rollouts", "Fetch", pb.FetchRequest(consumer="step", **asked), streams=True)
    for message in messages[:-1]:
        whole = parts.add(message.part) if message.WhichOneof("kind") == "part" else None
        if message.WhichOneof("kind") == "delivery":
            deliveries.append(message.delivery)
        elif whole is not None:
            deliveries.append(pb.Delivery.FromString(whole))
    return deliveries, messages[-1].WhichOneof("kind")


async def test_fetch_gives_the_groups_of_a_step_and_the_same_again_under_its_key():
    run = fake(5)
    async with serve(run, run) as address:
        first, ended = await in_thread(partial(fetched, address, groups=2, key="step-0", wait_s=5))
        again, _ = await in_thread(partial(fetched, address, groups=2, key="step-0", wait_s=5))
        assert [one.group.group_id for one in first] == [one.group.group_id for one in again] == ids(0, 1)
        assert [one.lease_id for one in first] == [one.lease_id for one in again]
        assert ended == "done"
        for one in first:
            await run.ack(one.lease_id)
        rest, _ = await in_thread(partial(fetched, address, groups=3, key="step-1", wait_s=5))
        assert [one.group.group_id for one in rest] == ids(2, 3, 4)
        for one in rest:
            await run.ack(one.lease_id)
        assert await in_thread(partial(fetched, address, groups=3, key="step-2", wait_s=5)) == ([], "end")


async def test_fetch_takes_what_is_there_once_its_time_is_over_and_the_rest_under_its_key():
    run = fake(1)
    other = await run.lease("other")
    async with serve(run, run) as address:
        assert await in_thread(partial(fetched, address, groups=1, key="step", wait_s=0.1)) == ([], "done")
        await run.expire(other.lease_id)
        (one,), _ = await in_thread(partial(fetched, address, groups=1, key="step", wait_s=5))
        assert one.group.group_id == "run-0"


async def test_fetch_gives_others_in_place_of_those_whose_leases_are_lost():
    run = fake(3)
    async with serve(run, run) as address:
        first, _ = await in_thread(partial(fetched, address, groups=2, key="step", wait_s=5))
        await run.ack(first[0].lease_id)
        again, _ = await in_thread(partial(fetched, address, groups=2, key="step", wait_s=5))
        assert [one.group.group_id for one in again] == ids(1, 2)


async def test_fetch_splits_what_is_too_large_for_a_message():
    large = closed_group(0, [0.0] * 4, sampled=400_000)
    run = FakeDeliveries([large])
    async with serve(run, run) as address:
        (one,), _ = await in_thread(partial(fetched, address, groups=1, key="step", wait_s=5))
    assert len(read_group(one.group).members[3].rows[0].row.ids) == 400_003


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"groups": 0, "key": "k"}, "0 groups are fetched"),
        ({"groups": 1}, "a fetch has no key"),
        ({"groups": 1, "key": "k", "wait_s": -1}, "a fetch waits -1.0 s"),
        ({"groups": 1, "key": "k", "rank": 3, "ranks": 2}, "rank 3 of 2 ranks"),
    ],
)
async def test_fetch_that_can_not_be_is_refused_with_the_rule(asked, rule):
    run = fake(1)
    async with serve(run, run) as address:
        with pytest.raises(grpc.RpcError, match=rule):
            await in_thread(partial(fetched, address, **asked))
    assert run.consumers == []


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_parts_are_the_whole_again(size):
    whole = bytes(size)
    parts, pieces = Parts(), list(parts_of(whole))
    assert all(len(part) < 1 << 20 for part in pieces)
    assert [parts.add(pb.Part.FromString(part)) for part in pieces] == [None] * (len(pieces) - 1) + [whole]
