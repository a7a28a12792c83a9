"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    seq = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "events",
        sa.Column("seq", seq, primary_key=True),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("rollout_id", sa.String()),
        sa.Column("group_id", sa.String()),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("seq", seq, primary_key=True),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("submitted", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("run_id", name="uq_runs_run_id"),
    )
    op.create_table(
        "groups",
        sa.Column("seq", seq, primary_key=True),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("deliveries", sa.BigInteger(), nullable=False),
        sa.Column("lease", sa.String(), nullable=False),
        sa.UniqueConstraint("group_id", name="uq_groups_group_id"),
    )
    op.create_table(
        "members",
        sa.Column("group_id", sa.String(), primary_key=True),
        sa.Column("member", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollouts",
        sa.Column("seq", seq, primary_key=True),
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("member", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("parent", sa.String()),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("status", sa.String()),
        sa.Column("truncated_by", sa.String(), nullable=False),
        sa.Column("reward", sa.Double()),
        sa.Column("failure", sa.String()),
        sa.Column("failure_message", sa.String(), nullable=False),
        sa.Column("requeued", sa.Boolean(), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("sampled_tokens", sa.BigInteger(), nullable=False),
        sa.Column("version_min", sa.BigInteger(), nullable=False),
        sa.Column("version_max", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.UniqueConstraint("rollout_id", name="uq_rollouts_rollout_id"),
    )
    if op.get_bind().dialect.name == "postgresql":  # else it tries to compress tokens, for most of a write's time
        op.execute("ALTER TABLE events ALTER payload SET STORAGE EXTERNAL")
    for table, columns in INDEXES:
        op.create_index("_".join(("ix", table, *columns)), table, list(columns))


INDEXES = (
    ("events", ("run_id",)),
    ("events", ("run_id", "rollout_id")),
    ("groups", ("run_id", "number")),
    ("members", ("run_id", "state")),
    ("rollouts", ("run_id",)),
    ("rollouts", ("environment",)),
    ("rollouts", ("status",)),
    ("rollouts", ("reward",)),
    ("rollouts", ("group_id",)),
    ("rollouts", ("parent",)),
)
