"""Groups in Parquet files and back, exactly. Needs the extra `parquet`.

A line is one row of tokens, with what its group and its member are beside it; a member without rows has a line with
none. `trainable` is for programs that read the file without envhub: the spans tell it, and more.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId, PolicyVersion, RolloutId, RunId, TaskId
from envhub.contracts.messages import Image, Role
from envhub.contracts.outcome import Status
from envhub.contracts.token_file import TokenFile, TokenFileKind
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import PromptImage, Span
from envhub.errors import UsageError
from envhub.feed.codec import TrainerGroup, TrainerMember, TrainerRow, TurnReward

IMAGE_FIELDS = ("sha256", "media_type", "width", "height")
FORMAT = b"envhub.groups.1"
TOKENS_IN_MEMORY = 1 << 20  # that a file is written by

SPAN = pa.struct(
    {
        "start": pa.int32(),
        "end": pa.int32(),
        "role": pa.string(),
        "sampled": pa.bool_(),
        "trainable": pa.bool_(),
        "policy_id": pa.string(),
        "policy_version": pa.int64(),
        "temperature": pa.float64(),
        "turn": pa.int32(),
    }
)
IMAGE = pa.struct(
    {
        "sha256": pa.string(),
        "media_type": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "start": pa.int32(),
        "end": pa.int32(),
    }
)
FILE = pa.struct({"kind": pa.string(), "sha256": pa.string(), "start": pa.int32(), "end": pa.int32()})
REWARD = pa.struct({"turn": pa.int32(), "end": pa.int32(), "reward": pa.float64()})
SCHEMA = pa.schema(
    {
        "run_id": pa.string(),
        "group_id": pa.string(),
        "number": pa.int64(),
        "environment": pa.string(),
        "task_id": pa.string(),
        "k": pa.int32(),
        "policy_version": pa.int64(),
        "member": pa.int32(),
        "member_rollout_id": pa.string(),
        "attempt": pa.int32(),
        "status": pa.string(),
        "truncated_by": pa.string(),
        "reward": pa.float64(),
        "components": pa.map_(pa.string(), pa.float64()),
        "rollout_id": pa.string(),  # of the row; null: the member has none
        "parent_rollout_id": pa.string(),
        "ids": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float32()),
        "trainable": pa.list_(pa.bool_()),
        "prompt_length": pa.int32(),
        "spans": pa.list_(SPAN),
        "turns": pa.list_(pa.int32()),
        "parent_row": pa.int32(),
        "fork_at": pa.int32(),
        "images": pa.list_(IMAGE),
        "files": pa.list_(FILE),
        "rewards": pa.list_(REWARD),  # of turns
    },
    metadata={b"format": FORMAT},
)


class GroupFile:
    """A file to write groups to, one by one; whole once it is closed.

    Raises:
        UsageError: the file can't be written.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._writer = parquet.ParquetWriter(file, SCHEMA, compression="zstd")
        except OSError as error:
            raise UsageError(f"can't write to '{file}': {error.strerror or error}") from error
        self._lines: list[dict[str, Any]] = []
        self._tokens = 0
        self.count = 0  # groups

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, group: TrainerGroup) -> None:
        lines = list(_lines(group))
        self._lines += lines
        self._tokens += sum(len(line.get("ids", ())) for line in lines)
        self.count += 1
        if self._tokens >= TOKENS_IN_MEMORY:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._lines, SCHEMA))
        self._lines, self._tokens = [], 0


def read_groups(file: Path) -> Iterator[TrainerGroup]:
    """The groups of a file, in the order in which they were written, some of them in memory at a time.

    Raises:
        UsageError: there is no such file, or GroupFile did not write it.
    """
    try:
        opened = parquet.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(
            f"can't read '{file}' ({error}); give one of `envhub trace export --format parquet`"
        ) from error
    with opened:
        found = (opened.schema_arrow.metadata or {}).get(b"format", b"").decode()
        if found != FORMAT.decode():
            raise UsageError(f"'{file}' has format '{found}'; it must be {FORMAT.decode()}, as GroupFile writes it")
        lines = (line for batch in opened.iter_batches(batch_size=64) for line in _records(batch))
        for _, of_group in groupby(lines, key=lambda line: line["group_id"]):
            yield _group(list(of_group))


def _lines(group: TrainerGroup) -> Iterator[dict[str, Any]]:
    """By column of SCHEMA; what is missing is null."""
    of_group = {
        "run_id": group.run_id,
        "group_id": group.group_id,
        "number": group.number,
        "environment": group.environment,
        "task_id": group.task_id,
        "k": group.k,
        "policy_version": group.policy_version,
    }
    if not group.members:
        yield of_group
    for member in group.members:
        of_member = {
            **of_group,
            "member": member.index,
            "member_rollout_id": member.rollout_id,
            "attempt": member.attempt,
            "status": str(member.status),
            "truncated_by": member.truncated_by,
            "reward": member.reward,
            "components": list(member.components.items()),
        }
        if not member.rows:
            yield of_member
        for row in member.rows:
            yield {**of_member, **_row_columns(row)}


def _row_columns(row: TrainerRow) -> dict[str, Any]:
    return {
        "rollout_id": row.rollout_id,
        "parent_rollout_id": row.parent_rollout_id,
        "ids": row.row.ids,
        "logprobs": row.row.logprobs,
        "trainable": row.row.mask(trainable=True),
        "prompt_length": row.prompt_length,
        "spans": [_fields(span, SPAN) for span in row.row.spans],
        "turns": row.row.turns,
        "parent_row": row.row.parent,
        "fork_at": row.row.fork_at,
        "images": [
            {**{name: getattr(shown.image, name) for name in IMAGE_FIELDS}, "start": shown.start, "end": shown.end}
            for shown in row.row.images
        ],
        "files": [_fields(file, FILE) for file in row.row.files],
        "rewards": [_fields(earned, REWARD) for earned in row.rewards],
    }


def _fields(record: object, struct: pa.StructType) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in struct}


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The lines of a batch; ids and logprobs are arrays."""
    arrays = {name: batch.column(name) for name in ("ids", "logprobs")}
    for index, line in enumerate(batch.drop_columns([*arrays, "trainable"]).to_pylist(maps_as_pydicts="strict")):
        yield {**line, **{name: _values(column, index) for name, column in arrays.items()}}


def _values(column: pa.ListArray, index: int) -> np.ndarray[Any, Any]:
    start, end = column.offsets[index].as_py(), column.offsets[index + 1].as_py()
    return np.asarray(column.values[start:end].to_numpy(zero_copy_only=False))


def _group(lines: list[Mapping[str, Any]]) -> TrainerGroup:
    first = lines[0]
    members = groupby((line for line in lines if line["member"] is not None), key=lambda line: line["member"])
    return TrainerGroup(
        run_id=RunId(first["run_id"]),
        group_id=GroupId(first["group_id"]),
        number=first["number"],
        environment=EnvironmentId(first["environment"]),
        task_id=TaskId(first["task_id"]),
        k=first["k"],
        policy_version=PolicyVersion(first["policy_version"]),
        members=tuple(_member(list(of_member)) for _, of_member in members),
    )


def _member(lines: list[Mapping[str, Any]]) -> TrainerMember:
    first = lines[0]
    return TrainerMember(
        index=first["member"],
        rollout_id=RolloutId(first["member_rollout_id"]),
        attempt=first["attempt"],
        status=Status(first["status"]),
        truncated_by=first["truncated_by"],
        reward=first["reward"],
        components=first["components"],
        rows=tuple(_row(line) for line in lines if line["rollout_id"] is not None),
    )


def _row(line: Mapping[str, Any]) -> TrainerRow:
    parent = line["parent_rollout_id"]
    return TrainerRow(
        rollout_id=RolloutId(line["rollout_id"]),
        parent_rollout_id=None if parent is None else RolloutId(parent),
        row=Row(
            ids=line["ids"],
            logprobs=line["logprobs"],
            spans=tuple(_span(span) for span in line["spans"]),
            turns=tuple(line["turns"]),
            parent=line["parent_row"],
            fork_at=line["fork_at"],
            images=tuple(
                PromptImage(Image(*(shown[name] for name in IMAGE_FIELDS)), shown["start"], shown["end"])
                for shown in line["images"]
            ),
            files=tuple(
                TokenFile(TokenFileKind(file["kind"]), file["sha256"], file["start"], file["end"])
                for file in line.get("files") or ()  # a file of before has no such column
            ),
        ),
        prompt_length=line["prompt_length"],
        rewards=tuple(TurnReward(**earned) for earned in line.get("rewards") or ()),
    )


def _span(fields: Mapping[str, Any]) -> Span:
    typed = {
        "role": Role(fields["role"]),
        "policy_id": PolicyId(fields["policy_id"]),
        "policy_version": PolicyVersion(fields["policy_version"]),
    }
    return Span(**{**fields, **typed})
