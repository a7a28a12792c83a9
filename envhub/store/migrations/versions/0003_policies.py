"""The policy of each rollout; indexes of the events of groups and runs, and none that only lists were filtered by."""

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = (
    ("ix_events_group_id", "group_id", "rollout_id IS NULL AND group_id IS NOT NULL"),
    ("ix_events_of_runs", "run_id", "rollout_id IS NULL AND group_id IS NULL"),
)
BATCH = 10_000


class _Request(msgspec.Struct):
    policy_id: str = "policy"


class _Started(msgspec.Struct):
    rollout_id: str
    request: _Request


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("policy_id", sa.String(), nullable=False, server_default=""))
    _fill(op.get_bind())
    for column in ("environment", "status", "reward"):
        op.drop_index(f"ix_rollouts_{column}", "rollouts")
    for name, column, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "events", [column], sqlite_where=where, postgresql_where=where)


def _fill(connection: sa.Connection) -> None:
    """Takes the policy of each rollout from the event of its start."""
    decoder = msgspec.msgpack.Decoder(_Started)
    started = sa.text(
        "SELECT seq, payload FROM events WHERE kind = 'rollout_started' AND seq > :last ORDER BY seq LIMIT :n"
    )
    change = sa.text("UPDATE rollouts SET policy_id = :policy_id WHERE rollout_id = :rollout_id")
    last = 0
    while rows := connection.execute(started, {"last": last, "n": BATCH}).all():
        events = [decoder.decode(row.payload) for row in rows]
        connection.execute(change, [{"policy_id": e.request.policy_id, "rollout_id": e.rollout_id} for e in events])
        last = rows[-1].seq
