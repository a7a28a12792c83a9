"""The tables: the event log, and the projections of it that pages and lists are read from.

They hold no foreign keys: every row but an event's comes from projection.py, which refuses what refers to nothing.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# A 64-bit key that SQLite takes for its row id.
_Seq = BigInteger().with_variant(Integer(), "sqlite")

OF_GROUPS = "rollout_id IS NULL AND group_id IS NOT NULL"  # events of groups themselves,
OF_RUNS = "rollout_id IS NULL AND group_id IS NULL"  # and of runs


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
    )
    type_annotation_map: ClassVar = {int: BigInteger(), str: String(), bytes: LargeBinary()}


class EventRow(Base):
    """One event. Its order in the log is its `seq`."""

    __tablename__ = "events"
    __table_args__ = (  # SQLite adds seq to each
        Index(None, "run_id"),
        Index(None, "run_id", "rollout_id"),
        Index(None, "group_id", sqlite_where=text(OF_GROUPS), postgresql_where=text(OF_GROUPS)),
        Index("ix_events_of_runs", "run_id", sqlite_where=text(OF_RUNS), postgresql_where=text(OF_RUNS)),
    )

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True)
    run_id: Mapped[str]
    rollout_id: Mapped[str | None]
    group_id: Mapped[str | None]
    kind: Mapped[str]
    at: Mapped[float]
    payload: Mapped[bytes]


class RunRow(Base):
    __tablename__ = "runs"

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True)
    run_id: Mapped[str] = mapped_column(unique=True)
    started_at: Mapped[float]
    seed: Mapped[int]
    submitted: Mapped[int]


class GroupRow(Base):
    __tablename__ = "groups"
    __table_args__ = (Index(None, "run_id", "number"),)

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True)
    group_id: Mapped[str] = mapped_column(unique=True)
    run_id: Mapped[str]
    number: Mapped[int]
    environment: Mapped[str]
    task_id: Mapped[str]
    closed: Mapped[bool]
    deliveries: Mapped[int]
    lease: Mapped[str]  # of the live delivery; "": none


class FileRow(Base):
    """The file of a picture, or another one that events refer to, once for all of them; unless it is large, and at the
    place of payloads."""

    __tablename__ = "images"  # which the first files were

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    data: Mapped[bytes]


class PayloadPlaceRow(Base):
    """Where large payloads are; no row: all are in this database."""

    __tablename__ = "payload_place"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 1: there is one place
    url: Mapped[str]
    folder: Mapped[str]  # below it, which is this database's alone


class PayloadRow(Base):
    """One payload that is, or may be, at that place."""

    __tablename__ = "payloads"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    claimed_at: Mapped[float]  # when somebody last wanted it to be there, by the database's clock
    stored: Mapped[bool]  # it is there whole; else it may be there or not


class PayloadUseRow(Base):
    """A run whose events refer to a payload, wherever that is."""

    __tablename__ = "payload_uses"
    __table_args__ = (Index(None, "sha256"), {"sqlite_with_rowid": False})

    run_id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)


class MemberRow(Base):
    __tablename__ = "members"
    __table_args__ = (Index(None, "run_id", "state"), {"sqlite_with_rowid": False})

    group_id: Mapped[str] = mapped_column(primary_key=True)
    member: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str]
    state: Mapped[str]


class RolloutRow(Base):
    """One rollout, in the order in which rollouts started. Long lists are filtered in memory (monitor/rollouts.py): an
    index for each filter would cost every rollout that is written."""

    __tablename__ = "rollouts"
    __table_args__ = (
        Index(None, "run_id"),
        Index(None, "group_id"),
        Index(None, "parent"),
    )

    seq: Mapped[int] = mapped_column(_Seq, primary_key=True)
    rollout_id: Mapped[str] = mapped_column(unique=True)
    run_id: Mapped[str]
    group_id: Mapped[str]
    member: Mapped[int]
    attempt: Mapped[int]
    parent: Mapped[str | None]
    root: Mapped[str]
    environment: Mapped[str]
    task_id: Mapped[str]
    policy_id: Mapped[str]
    status: Mapped[str | None]
    truncated_by: Mapped[str]
    reward: Mapped[float | None]
    failure: Mapped[str | None]
    failure_message: Mapped[str]
    requeued: Mapped[bool]
    turns: Mapped[int]
    prompt_tokens: Mapped[int]
    sampled_tokens: Mapped[int]
    version_min: Mapped[int]
    version_max: Mapped[int]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
