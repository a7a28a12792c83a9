"""The files that rows of a group name by their hashes: pictures, sampling masks, routed experts."""

from collections.abc import Mapping
from dataclasses import replace

from envhub.contracts.files import FileBytes
from envhub.contracts.trajectory import Row
from envhub.feed.codec import TrainerGroup


def missing(group: TrainerGroup) -> set[str]:
    """The hashes of those that it comes without."""
    rows = [row.row for member in group.members for row in member.rows]
    pictures = {shown.image.sha256 for row in rows for shown in row.images if not shown.image.data}
    return pictures | {file.sha256 for row in rows for file in row.files if not file.data}


def filled(group: TrainerGroup, files: Mapping[str, bytes]) -> TrainerGroup:
    """The group with these, by hash."""
    kept = {sha256: FileBytes(data) for sha256, data in files.items()}
    members = (
        replace(member, rows=tuple(replace(row, row=_filled(row.row, kept)) for row in member.rows))
        for member in group.members
    )
    return replace(group, members=tuple(members))


def _filled(row: Row, files: Mapping[str, FileBytes]) -> Row:
    return replace(
        row,
        files=tuple(replace(file, data=files.get(file.sha256, file.data)) for file in row.files),
        images=tuple(
            replace(shown, image=replace(shown.image, data=files.get(shown.image.sha256, shown.image.data)))
            for shown in row.images
        ),
    )
