"""What it costs to write rollouts to PostgreSQL: against COPY, binary and bare, of the bytes of the same events."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias
from uuid import uuid4

import numpy as np
import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.store.sealed import stored
from envhub.store.sql_store import open_store
from envhub.testing.traces import SampleRun, sample_turn

TOKENS, PROMPT = 4_096, 256  # sampled of a rollout, and before
ROLLOUTS = 256  # a transaction: about what a busy run commits at once
ROUNDS = 3  # of which the best counts: what else the machine does is not ours

Figure: TypeAlias = dict[str, object]
Batch: TypeAlias = Sequence[Event]


class Meter:
    """CPU and wall seconds of this process while it is entered; the least of several."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = float("inf")

    def __enter__(self) -> None:
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.cpu_s = min(self.cpu_s, time.process_time() - self._cpu_s)
        self.wall_s = min(self.wall_s, time.perf_counter() - self._wall_s)


async def ingest(server: str, *, batches: int = 8) -> list[Figure]:
    """Figures of a database that is made on this server, by its URL, and removed again."""
    name = f"envhub_bench_{uuid4().hex[:8]}"
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            return await _measure(url, batches)
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


async def _measure(url: str, batches: int) -> list[Figure]:
    ours, bare = Meter(), Meter()
    store = await open_store(url)
    await store.append([SampleRun(RunId("warm")).started()])
    for number in range(ROUNDS):  # by turns
        events = _batches(RunId(f"round-{number}"), batches)
        with ours:
            for batch in events:
                await store.append(batch)
        _copy(url, [[stored(event)[1] for event in batch] for batch in events], bare)
    await store.close()
    tokens = batches * ROLLOUTS * TOKENS / 1e6
    cpu, wall, floor_cpu, floor = (tokens / s for s in (ours.cpu_s, ours.wall_s, bare.cpu_s, bare.wall_s))
    return [
        _figure("postgres_ingest_of_client_cpu", cpu, "Mtok/CPU-s", floor_cpu, ">= 5", cpu >= 5),
        _figure("postgres_ingest", wall, "Mtok/s", floor, ">= 0.5x", wall >= 0.5 * floor),
    ]


def _batches(run_id: RunId, count: int) -> list[Batch]:
    """Of rollouts of one turn, whose tokens are random: nothing can compress them."""
    rng, run = np.random.default_rng(0), SampleRun(run_id)
    batches: list[Batch] = [[run.started()]]
    for group in range(count):
        batch: list[Event] = [run.submitted(group, k=ROLLOUTS)]
        for member in range(ROLLOUTS):
            turn = replace(
                sample_turn(0, delta=PROMPT, output=TOKENS),
                output_ids=rng.integers(0, 150_000, TOKENS, np.int32),
                logprobs=-rng.exponential(1.0, TOKENS).astype(np.float32),
            )
            start = run.start(group, member)
            batch += [start, run.turn(start, turn), run.end(start)]
        batches.append(batch)
    return batches


def _copy(url: str, batches: Sequence[Sequence[bytes]], meter: Meter) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS floor (payload bytea)")
        connection.execute("ALTER TABLE floor ALTER payload SET STORAGE EXTERNAL")  # as the store's own
        connection.commit()
        with meter:
            for batch in batches:
                with connection.cursor() as cursor, cursor.copy("COPY floor FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(["bytea"])
                    for payload in batch:
                        copy.write_row((payload,))
                connection.commit()


def _figure(name: str, value: float, unit: str, floor: float, goal: str, ok: bool) -> Figure:
    figures = {"name": name, "value": round(value, 1), "unit": unit, "floor": round(floor, 1)}
    return {**figures, "ratio": round(value / floor, 2), "goal": goal, "ok": ok}
