"""Reference: what stands in the log for an event whose bytes are in the payload store."""

from typing import NamedTuple

_MARK = b"\xc1"  # the one byte that no msgpack document begins with
_DIGEST, _SIZE = 32, 8  # bytes


class Reference(NamedTuple):
    sha256: str
    size_bytes: int

    def as_bytes(self) -> bytes:
        return _MARK + bytes.fromhex(self.sha256) + self.size_bytes.to_bytes(_SIZE, "little")

    @classmethod
    def read(cls, payload: bytes) -> "Reference | None":
        """None: the payload is the event itself."""
        if not payload.startswith(_MARK):
            return None
        digest, size = payload[1 : 1 + _DIGEST], payload[1 + _DIGEST :]
        return cls(digest.hex(), int.from_bytes(size, "little"))
