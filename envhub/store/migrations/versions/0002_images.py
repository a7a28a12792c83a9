"""The files of pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("sha256", name="uq_images_sha256"),
    )
    if op.get_bind().dialect.name == "postgresql":  # pictures are compressed
        op.execute("ALTER TABLE images ALTER data SET STORAGE EXTERNAL")
