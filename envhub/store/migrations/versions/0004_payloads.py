"""Where large payloads are, and which runs use which payload; those of pictures are taken from the events."""

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BATCH = 1_000


def upgrade() -> None:
    op.create_table(
        "payload_place",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
    )
    op.create_table(
        "payloads",
        sa.Column("sha256", sa.String(), primary_key=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "payload_uses",
        sa.Column("run_id", sa.String(), primary_key=True),
        sa.Column("sha256", sa.String(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_payload_uses_sha256", "payload_uses", ["sha256"])
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    """Finds the pictures that events show."""
    files = set(connection.execute(sa.text("SELECT sha256 FROM images")).scalars())
    if not files:
        return
    events = sa.text("SELECT seq, run_id, payload FROM events WHERE seq > :last ORDER BY seq LIMIT :n")
    use = sa.text("INSERT INTO payload_uses (run_id, sha256) VALUES (:run_id, :sha256)")
    known: set[tuple[str, str]] = set()
    last = 0
    while rows := connection.execute(events, {"last": last, "n": BATCH}).all():
        uses = {(row.run_id, sha256) for row in rows for sha256 in _hashes(msgspec.msgpack.decode(row.payload))}
        new = {use for use in uses if use[1] in files} - known
        if new:
            connection.execute(use, [{"run_id": run_id, "sha256": sha256} for run_id, sha256 in new])
        known |= new
        last = rows[-1].seq


def _hashes(data: Any) -> Iterator[str]:  # Any: whatever an event holds
    if isinstance(data, dict):
        if isinstance(data.get("sha256"), str):
            yield data["sha256"]
        for value in data.values():
            yield from _hashes(value)
    elif isinstance(data, list):
        for value in data:
            yield from _hashes(value)
