"""Sampling masks, routed experts and pictures: named by the rows of a delivery, and fetched by their hashes."""

from dataclasses import replace
from functools import partial
from hashlib import sha256

import numpy as np
import pytest

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.messages import Image
from envhub.contracts.token_file import SamplingMask, TokenFile
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import PromptImage
from envhub.errors import UsageError
from envhub.feed.client import FeedClient
from envhub.feed.codec import TrainerGroup, decode_group
from envhub.feed.encoding import encode_group
from envhub.feed.parts import PART_BYTES
from envhub.feed.server import serve
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from tests.feed.feeding import in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

PICTURE = Image("5" * 64, "image/png", 4, 4)
MASK = TokenFile.of_mask(SamplingMask.of([[3], [4, 9], [5], [6, 7, 8]]), 3)
EXPERTS = TokenFile.of_experts(np.arange(6 * 500 * 1000, dtype=np.uint16).reshape(6, 500, 1000), 0)
FILES = {file.sha256: file.data for file in (MASK, EXPERTS)}


def told(group: ClosedGroup, *files: TokenFile, images: tuple[PromptImage, ...] = ()) -> ClosedGroup:
    """The group, of whose rows the engine told this."""

    def with_files(row: Row) -> Row:
        return replace(row, files=tuple(replace(file, data=b"") for file in files), images=images)

    outcomes = (
        replace(outcome, trajectory=Trajectory(tuple(map(with_files, outcome.trajectory.rows))))
        for outcome in group.outcomes
    )
    return replace(group, outcomes=tuple(outcomes))


class Shelf:
    """Files by their hash, and how often each was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    async def find(self, sha256: str) -> bytes | None:
        self.asked.append(sha256)
        return self.files.get(sha256)


def fetch(address: str) -> TrainerGroup:
    with FeedClient(address, consumer="trainer") as feed:
        lease = next(feed.groups())
        group = feed.with_files(lease.group)
        assert feed.with_files(group) is group  # all are there: nothing more is asked
        lease.ack()
        return group


async def fetched(group: ClosedGroup, shelf: Shelf) -> TrainerGroup:
    run = FakeDeliveries([group])
    async with serve(run, run, blobs=shelf.find) as address:
        return await in_thread(partial(fetch, address))


async def test_each_file_is_fetched_once_and_given_to_every_row_that_names_it() -> None:
    shelf = Shelf(FILES)
    assert len(EXPERTS.data) > PART_BYTES  # it comes in parts
    group = await fetched(told(closed_group(0, [0.0, 1.0]), MASK, EXPERTS), shelf)
    assert sorted(shelf.asked) == sorted(FILES)
    for member in group.members:
        (row,) = (row.row for row in member.rows)
        mask = row.sampling_mask()
        assert mask is not None
        assert [mask.at(token).tolist() for token in range(7)] == [[], [], [], [3], [4, 9], [5], [6, 7, 8]]
        experts = row.routed_experts()
        assert experts is not None
        assert np.array_equal(experts, EXPERTS.experts())


async def test_pictures_come_as_well() -> None:
    data = b"a picture's file"
    shown = PromptImage(replace(PICTURE, sha256=sha256(data).hexdigest()), 0, 2)
    shelf = Shelf({shown.image.sha256: data})
    group = await fetched(told(closed_group(0, [1.0]), images=(shown,)), shelf)
    assert [image.image.data for image in group.members[0].rows[0].row.images] == [data]


async def test_of_a_group_that_names_no_file_nothing_is_asked() -> None:
    shelf = Shelf({})
    await fetched(closed_group(0), shelf)
    assert shelf.asked == []


async def test_a_file_that_the_run_has_not_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=f"no file of the hash {MASK.sha256}"):
        await fetched(told(closed_group(0, [1.0]), MASK), Shelf({}))


def test_a_kind_of_file_that_a_newer_server_knows_is_passed_over() -> None:
    from envhub.feed.v1 import feed_pb2 as pb

    wire = pb.Group.FromString(encode_group(told(closed_group(0, [1.0]), MASK)))
    wire.members[0].rows[0].files.add(kind=77, sha256="7" * 64, end=3)
    (member,) = decode_group(wire.SerializeToString()).members
    assert [file.sha256 for file in member.rows[0].row.files] == [MASK.sha256]
