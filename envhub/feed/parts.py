"""Parts: what is too large for one message, in pieces well below gRPC's own limit of 4 MiB."""

from collections.abc import Iterator

from envhub.errors import UsageError
from envhub.feed.pieces import head
from envhub.feed.v1 import feed_pb2 as pb

PART_BYTES = (1 << 20) - 64  # the message around it keeps below 1 MiB: larger ones are no faster
MOST_BYTES = 1 << 31  # of a whole: protobuf takes no larger ones
LAST = pb.Part(last=True).SerializeToString()


def delivered(delivery: bytes) -> Iterator[bytes]:
    """A Delivery in the ServerMessages that bring it, in order: one, or as many parts as it takes."""
    if len(delivery) <= PART_BYTES:
        yield head(pb.ServerMessage.DELIVERY_FIELD_NUMBER, len(delivery)) + delivery
        return
    for part in parts_of(delivery):
        yield head(pb.ServerMessage.PART_FIELD_NUMBER, len(part)) + part


def parts_of(whole: bytes) -> Iterator[bytes]:
    """A whole in serialized Parts, in order; the last one says so."""
    view = memoryview(whole)
    for start in range(0, max(len(whole), 1), PART_BYTES):
        data = view[start : start + PART_BYTES]
        last = LAST if start + PART_BYTES >= len(whole) else b""
        yield b"".join((head(pb.Part.DATA_FIELD_NUMBER, len(data)), data, last))


class Parts:
    """Puts parts together as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, part: pb.Part) -> bytes | None:
        """The whole, once its last part is there.

        Raises:
            UsageError: the parts are more than a whole may be.
        """
        self._pieces.append(part.data)
        self._size += len(self._pieces[-1])
        if self._size > MOST_BYTES:
            raise UsageError(f"{self._size} bytes in parts, and no last one; the most are {MOST_BYTES}")
        if not part.last:
            return None
        whole = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return whole
