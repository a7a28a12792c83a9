"""Parts: what is too large for one message, in pieces well below gRPC's own limit of 4 MiB."""

from collections.abc import Iterable, Iterator

from envhub.errors import UsageError
from envhub.feed.pieces import Piece, Pieces, head
from envhub.feed.v1 import feed_pb2 as pb

PART_BYTES = (1 << 20) - 64  # the message around it keeps below 1 MiB: larger ones are no faster
MOST_BYTES = 1 << 31  # of a whole: protobuf takes no larger ones
LAST = pb.Part(last=True).SerializeToString()


def delivered(delivery: Pieces) -> Iterator[bytes]:
    """A Delivery in the ServerMessages that bring it, in order: one, or as many parts as it takes."""
    if delivery.size <= PART_BYTES:
        yield b"".join((head(pb.ServerMessage.DELIVERY_FIELD_NUMBER, delivery.size), *delivery))
        return
    for part in _parts(delivery, delivery.size):
        size = sum(map(len, part))
        yield b"".join((head(pb.ServerMessage.PART_FIELD_NUMBER, size), *part))


def parts_of(whole: bytes) -> Iterator[bytes]:
    """A whole in serialized Parts, in order; the last one says so."""
    return map(b"".join, _parts([whole], len(whole)))


def _parts(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """The Parts of what these pieces of `size` bytes are, each in pieces: they are copied once, by who joins them."""
    for run in _runs(pieces, PART_BYTES):
        length = sum(map(len, run))
        size -= length
        yield [head(pb.Part.DATA_FIELD_NUMBER, length), *run, b"" if size else LAST]


def _runs(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """The pieces in runs of `size` bytes, the last one of what is left."""
    run: list[Piece] = []
    room = size
    for piece in pieces:
        left = memoryview(piece)
        while len(left) > room:
            yield [*run, left[:room]]
            left, run, room = left[room:], [], size
        run.append(left)
        room -= len(left)
    yield run


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
