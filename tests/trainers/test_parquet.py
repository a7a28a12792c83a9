"""Groups in Parquet files and back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.messages import Image
from envhub.contracts.turn import PromptImage
from envhub.errors import UsageError
from envhub.feed.codec import TrainerGroup
from envhub.testing.traces import plain
from tests.trainers.delivered import delivered, replayed

pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")

from envhub.trainers.parquet import GroupFile, read_groups  # noqa: E402


def written(file: Path, groups: list[TrainerGroup]) -> int:
    with GroupFile(file) as writing:
        for group in groups:
            writing.write(group)
    return writing.count


def test_groups_come_back_as_they_went(tmp_path: Path):
    groups = [delivered(number) for number in range(40)]  # more rows than are read at a time
    assert written(tmp_path / "groups.parquet", groups) == 40
    assert plain(list(read_groups(tmp_path / "groups.parquet"))) == plain(groups)


def test_members_without_rows_and_pictures_come_back_too(tmp_path: Path):
    group = delivered()
    first, second, third = group.members
    shown = PromptImage(Image("0" * 64, "image/png", 3, 4), 1, 2)
    row = dataclasses.replace(first.rows[0], row=dataclasses.replace(first.rows[0].row, images=(shown,)))
    odd = dataclasses.replace(
        group, members=(dataclasses.replace(first, rows=(row,)), dataclasses.replace(second, rows=()), third)
    )
    empty = dataclasses.replace(delivered(1), members=())
    written(tmp_path / "groups.parquet", [odd, empty])
    assert plain(list(read_groups(tmp_path / "groups.parquet"))) == plain([odd, empty])


def test_rewards_of_turns_and_names_of_files_come_back_too(tmp_path: Path):
    bare = replayed(here=False)
    written(tmp_path / "groups.parquet", [bare])
    assert plain(list(read_groups(tmp_path / "groups.parquet"))) == plain([bare])


def test_a_file_from_before_there_were_any_is_read(tmp_path: Path):
    written(tmp_path / "groups.parquet", [delivered()])
    table = pa.parquet.read_table(tmp_path / "groups.parquet").drop_columns(["files", "rewards"])
    pa.parquet.write_table(table, tmp_path / "before.parquet")
    assert plain(list(read_groups(tmp_path / "before.parquet"))) == plain([delivered()])


def test_a_file_is_written_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("envhub.trainers.parquet.TOKENS_IN_MEMORY", 60)
    groups = [delivered(number) for number in range(5)]
    written(tmp_path / "groups.parquet", groups)
    assert pa.parquet.ParquetFile(tmp_path / "groups.parquet").num_row_groups == 3
    assert plain(list(read_groups(tmp_path / "groups.parquet"))) == plain(groups)


def test_other_programs_find_a_mask_beside_the_tokens(tmp_path: Path):
    written(tmp_path / "groups.parquet", [delivered()])
    table = pa.parquet.read_table(tmp_path / "groups.parquet").to_pydict()
    assert [len(ids) for ids in table["ids"]] == [len(mask) for mask in table["trainable"]] == [10, 10, 10, 5, 5]
    assert sum(map(sum, table["trainable"])) == 12
    assert table["reward"] == [1.0, 0.0, 0.0, 0.5, 0.5]


def test_logprobs_keep_every_bit(tmp_path: Path):
    written(tmp_path / "groups.parquet", [delivered()])
    (group,) = read_groups(tmp_path / "groups.parquet")
    for there, here in zip(group.members, delivered().members, strict=True):
        for row, own in zip(there.rows, here.rows, strict=True):
            assert row.row.logprobs.dtype == np.float32
            assert row.row.logprobs.tobytes() == own.row.logprobs.tobytes()


def test_what_is_no_file_of_groups_is_refused(tmp_path: Path):
    (tmp_path / "text").write_text("no")
    other = pa.table({"a": [1]})
    pa.parquet.write_table(other, tmp_path / "other.parquet")
    for name, message in {"none": "No such file", "text": "can't read", "other.parquet": "has format ''"}.items():
        with pytest.raises(UsageError, match=message):
            next(read_groups(tmp_path / name))
    with pytest.raises(UsageError, match="can't write to"):
        GroupFile(tmp_path / "no" / "folder")
