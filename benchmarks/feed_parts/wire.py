"""What the way from the server to numpy records costs: against gRPC itself, from memory and from SQLite."""

import json
import sys
import tempfile
import time
from collections.abc import Iterable

import anyio
import numpy as np

from benchmarks.feed_parts.bare import conversing_server, raw_server
from benchmarks.feed_parts.groups import group_of
from benchmarks.feed_parts.measure import Figure, at_most, best_ms, share_of
from benchmarks.feed_parts.receiver import CONSUMERS, CROWD_BYTES
from benchmarks.feed_parts.recorded import record
from envhub.contracts.delivery import Admits, ClosedGroup, Delivery, admit_all
from envhub.contracts.ids import LeaseId, RunId
from envhub.feed.codec import decode_group
from envhub.feed.encoding import delivery_pieces, encode_group
from envhub.feed.parts import delivered
from envhub.feed.server import serve
from envhub.rollouts.deliveries import open_deliveries
from envhub.rollouts.recorder import open_recorder
from envhub.rollouts.resume import leftover
from envhub.rollouts.versions import Versions
from envhub.store.sql_store import open_store
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group

LONG, SHORT, ROW = 32_768, 256, 8_192
PREFIX = "benchmarks.feed_parts.receiver"


async def received(kind: str, address: str) -> dict:
    """What a receiver in a process of its own says."""
    result = await anyio.run_process([sys.executable, "-m", PREFIX, kind, address], stderr=None)
    return json.loads(result.stdout)


async def throughput(groups: int) -> list[Figure]:
    """MiB/s of long groups: from memory and from SQLite, against gRPC's streaming of the same bytes."""
    data = [encode_group(group_of(number, LONG)) for number in range(groups)]
    mib = sum(map(len, data)) / 2**20
    async with raw_server(data) as address:
        floor = mib / (await received("raw", address))["seconds"]
    run = FakeDeliveries([group_of(number, LONG) for number in range(groups)])
    async with serve(run, run) as address:
        warm = mib / (await received("feed", address))["seconds"]
    with tempfile.TemporaryDirectory() as folder:
        stored = mib / await _seconds_from_sqlite(f"{folder}/bench.db", groups)
    return [
        share_of("from_memory", warm, "MiB/s", 0.5, floor),
        share_of("from_sqlite", stored, "MiB/s", 0.25, floor),
    ]


async def _seconds_from_sqlite(database: str, groups: int) -> float:
    """As a run that goes on delivers what it had closed: read, put together, leased, sent, received, acked; an ack is
    durable before it counts."""
    store = await open_store(database)
    await record(store, groups, LONG)
    await store.close()
    store = await open_store(database)
    async with open_recorder(store) as recorder, open_deliveries(recorder, Versions(), lease_s=60.0) as queue:
        began = time.perf_counter()
        for stored in (await leftover(store, RunId("run"))).undelivered:
            await queue.put_stored(stored)
        queue.close()
        resumed = time.perf_counter() - began
        async with serve(queue, FakeDeliveries([])) as address:
            sent = (await received("feed", address))["seconds"]
    await store.close()
    return resumed + sent


async def server_cpu(groups: int) -> Figure:
    """Of a short group, sent and acked; the floor is gRPC alone, with messages that are made already."""
    short = [group_of(number, SHORT) for number in range(groups)]
    run = FakeDeliveries(short)
    deliveries = [Delivery(LeaseId(f"lease-{group.number}"), group, 1, 2e9, 60.0) for group in short]
    messages = [message for each in deliveries for message in delivered(delivery_pieces(each))]
    async with conversing_server(messages) as address:
        floor = await _cpu_s(address)
    async with serve(run, run) as address:
        used = await _cpu_s(address)
    return at_most("server_cpu_per_group", used / groups * 1e6, "us", 400.0, floor / groups * 1e6)


async def _cpu_s(address: str) -> float:
    """Of this process, while a receiver takes all that it serves."""
    began = time.process_time()
    await received("feed", address)
    return time.process_time() - began


def codec(rounds: int) -> Figure:
    """A row of 8,192 tokens there and back; the floor copies its bytes once each way."""
    group = closed_group(0, [1.0], prompt=ROW // 2, sampled=ROW // 2)
    row = group.outcomes[0].trajectory.rows[0]
    floor = best_ms(lambda: [(row.ids.tobytes(), row.logprobs.tobytes()) for _ in range(100)], rounds)

    def there_and_back() -> None:
        for _ in range(100):
            decode_group(encode_group(group))

    empty = closed_group(0, [1.0], prompt=1, sampled=1)

    def without_tokens() -> None:
        for _ in range(100):
            decode_group(encode_group(empty))

    whole, around = best_ms(there_and_back, rounds), best_ms(without_tokens, rounds)
    print(f"codec: {around * 10:.1f} us of it are the group and member around the row", file=sys.stderr)
    return at_most("codec_of_a_row", (whole - around) * 10, "us", 20.0, floor * 10)


class Metered(FakeDeliveries):
    """Notes the most bytes that one consumer had unsettled at once."""

    def __init__(self, groups: Iterable[ClosedGroup]) -> None:
        super().__init__(groups)
        self.most_bytes = 0
        self._bytes: dict[str, dict[str, int]] = {}

    async def lease(self, consumer: str, admits: Admits = admit_all) -> Delivery | None:
        delivery = await super().lease(consumer, admits)
        if delivery is not None:
            mine = self._bytes.setdefault(consumer, {})
            mine[delivery.lease_id] = 8 * sum(
                len(outcome.trajectory.rows[0].ids) for outcome in delivery.group.outcomes
            )
            held = sum(size for lease_id, size in mine.items() if lease_id in self.leased)
            self.most_bytes = max(self.most_bytes, held)
        return delivery


async def crowd(groups: int) -> list[Figure]:
    """64 consumers of groups from 1 KiB to 16 MiB, each with a credit of bytes."""
    sizes = np.geomspace(1 << 10, 16 << 20, groups)
    np.random.default_rng(0).shuffle(sizes)
    made = [closed_group(number, [0.0], prompt=1, sampled=int(size) // 8) for number, size in enumerate(sizes)]
    run = Metered(made)
    async with serve(run, run) as address:
        got = (await received("crowd", address))["groups"]
    fair = groups / CONSUMERS
    starved = sum(count == 0 for count in got)
    print(f"crowd: {min(got)} to {max(got)} groups a consumer, {fair:g} on average", file=sys.stderr)
    return [
        at_most("consumers_that_starved", starved, "of 64", 0, 0),
        at_most("most_unsettled_of_a_consumer", run.most_bytes / 2**20, "MiB", CROWD_BYTES / 2**20, 16),
    ]
