"""The frames that host and agent exchange: a fixed head, fields separated by NUL, then a body of raw bytes."""

from __future__ import annotations

import struct

FRAME = struct.Struct("!BIIQ")  # kind, number of the request, bytes of its fields, bytes of its body
SETUP, EXEC, CANCEL, WRITE, READ, END = range(6)  # from the host
DONE, REFUSED, FAILED = range(6, 9)  # to the host: done, the caller's mistake, the sandbox's trouble


class Decoder:
    """Whole frames out of a byte stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, list[bytes], bytes]]:
        """The frames that `data` completes: kind, number, fields, body."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= FRAME.size:
            kind, number, head, body = FRAME.unpack_from(self._buffer)
            start, end = FRAME.size + head, FRAME.size + head + body
            if len(self._buffer) < end:
                break
            fields = bytes(self._buffer[FRAME.size : start]).split(b"\0")
            frames.append((kind, number, fields, bytes(self._buffer[start:end])))
            del self._buffer[:end]
        return frames


def encode(kind: int, number: int, fields: list[bytes], body: bytes = b"") -> bytes:
    """One frame. No field may hold a NUL byte, which neither a path nor an argument can."""
    head = b"\0".join(fields)
    return FRAME.pack(kind, number, len(head), len(body)) + head + body
