"""Rows of the table of rollouts as a run leaves them: a million of them in seconds, without their events."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path


def fill(path: Path, count: int) -> None:
    """Puts a run of so many rollouts into the database."""
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(rollouts)")]
        places = ", ".join("?" * len(columns))
        rows = (tuple(row[name] for name in columns) for row in _rows(count))
        connection.execute(
            "INSERT INTO runs (run_id, started_at, seed, submitted) VALUES ('big', 1.7e9, 1, ?)", (count,)
        )
        connection.executemany(f"INSERT INTO rollouts ({', '.join(columns)}) VALUES ({places})", rows)


def _rows(count: int) -> Iterator[dict[str, object]]:
    chance = random.Random(1)
    for at in range(count):
        group, version = at // 8, at * 200 // count
        status = chance.choices(("completed", "truncated", "failed", "cancelled"), (85, 8, 5, 2))[0]
        scored, failed = status in ("completed", "truncated"), status == "failed"
        started = 1.7e9 + at / 1000
        yield {
            "seq": at + 1,
            "rollout_id": f"big-{group}-{at % 8}-0",
            "run_id": "big",
            "group_id": f"big-{group}",
            "member": at % 8,
            "attempt": 0,
            "parent": None,
            "root": f"big-{group}-{at % 8}-0",
            "environment": f"demo/env-{group % 12}-v0",
            "task_id": f"task-{group % 997}",
            "policy_id": "policy",
            "status": status,
            "truncated_by": "turns" if status == "truncated" else "",
            "reward": chance.choice((0.0, 0.5, 1.0)) + chance.random() / 100 if scored else None,
            "failure": chance.choice(("engine", "sandbox", "judge", "tool")) if failed else None,
            "failure_message": "lost" if failed else "",
            "requeued": False,
            "turns": chance.randint(1, 9),
            "prompt_tokens": chance.randint(50, 5_000),
            "sampled_tokens": chance.randint(10, 9_000),
            "version_min": version,
            "version_max": version + chance.randint(0, 2),
            "started_at": started,
            "ended_at": started + chance.expovariate(1 / 30),
        }
