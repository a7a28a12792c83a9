"""A proxy's reading of HTTP requests: strict, for whoever sends them is hostile (RFC 9112).

One request a connection, its body forwarded exactly as long as its framing says: nothing can hide behind it.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

HEAD_BYTES = 16 * 1024
LINE_BYTES = 256  # of a chunk's size
CHUNK = 1 << 16
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/(1\.[01])")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253}))(?::([0-9]{1,5}))?")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
# RFC 9110, section 7.6.1: what concerns one connection alone. Host and the framing are written anew.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"transfer-encoding", b"host"})


class Refused(Exception):
    """The proxy won't do it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request to a proxy, and how long its body is."""

    method: bytes
    host: str  # lower case, without a final dot; an address without brackets
    port: int
    path: bytes  # b"" of a CONNECT
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None  # bytes of the body; None: chunked

    def forwarded(self) -> bytes:
        """The head as the target gets it: its Host is that of the target, whatever the sender wrote there."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == 80 else f"{host}:{self.port}"
        named = {
            option.strip().lower()
            for name, value in self.headers
            if name == b"connection"
            for option in value.split(b",")
        }
        dropped = HOP_BY_HOP | named - {b"content-length"}
        kept = [(name, value) for name, value in self.headers if name not in dropped and not name.startswith(b"proxy-")]
        kept += [(b"host", authority.encode()), (b"connection", b"close")]
        kept += [(b"transfer-encoding", b"chunked")] if self.length is None else []
        lines = [b"%s %s HTTP/%s" % (self.method, self.path, self.version), *(b"%s: %s" % field for field in kept)]
        return b"\r\n".join([*lines, b"", b""])


async def read_request(stream: BufferedByteReceiveStream) -> Request:
    """The head of the next request.

    Raises:
        Refused: it is malformed, ambiguous, too long, or none that a proxy serves.
    """
    try:
        head = await stream.receive_until(b"\r\n\r\n", HEAD_BYTES)
    except anyio.DelimiterNotFound:
        raise too_long() from None
    except anyio.IncompleteRead:
        raise Refused(400, "the request's head is cut short") from None
    if len(head) > HEAD_BYTES:  # found in what was read beyond the bound
        raise too_long()
    return parse(head)


def too_long() -> Refused:
    return Refused(431, f"the request's head is longer than {HEAD_BYTES} bytes")


def parse(head: bytes) -> Request:
    """
    Raises:
        Refused: see read_request.
    """
    first, *rest = head.split(b"\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refused(400, "the request line is malformed")
    method, target, version = line.groups()
    headers = tuple(map(parse_header, rest))
    if method == b"CONNECT":
        host, port = parse_authority(target.decode(), None)
        return Request(method, host, port, b"", version, headers, 0)
    host, port, path = parse_absolute(target.decode())
    return Request(method, host, port, path, version, headers, body_length(headers, version))


def parse_header(line: bytes) -> tuple[bytes, bytes]:
    match = HEADER.fullmatch(line)
    if match is None:
        raise Refused(400, "a header line is malformed")
    return match[1].lower(), match[2].rstrip(b" \t")


def parse_absolute(target: str) -> tuple[str, int, bytes]:
    scheme, separator, rest = target.partition("://")
    if not separator:
        raise Refused(400, "this is a proxy: ask for a whole URL such as http://host/path")
    if scheme.lower() != "http":
        raise Refused(400, f"no '{scheme[:16]}' here: plain http by its URL, all else through CONNECT")
    end = min((rest.index(mark) for mark in "/?#" if mark in rest), default=len(rest))
    host, port = parse_authority(rest[:end], 80)
    path = rest[end:].partition("#")[0]
    return host, port, (path if path.startswith("/") else f"/{path}").encode()


def parse_authority(text: str, default: int | None) -> tuple[str, int]:
    match = AUTHORITY.fullmatch(text)
    port = int(match[3]) if match and match[3] else default
    if match is None or port is None or not 0 < port < 65536:
        raise Refused(400, "the host is malformed: 'name:port', an address as '[::1]:port', and no user or password")
    host = (match[1] or match[2]).lower().removesuffix(".")
    if not host or ".." in host:
        raise Refused(400, "the host is malformed: it has an empty label")
    return host, port


def body_length(headers: tuple[tuple[bytes, bytes], ...], version: bytes) -> int | None:
    """The body's bytes, None for chunked. RFC 9112, section 6.3, but for what it leaves to guess, which is refused."""
    lengths = {value for name, value in headers if name == b"content-length"}
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if codings != [b"chunked"] or lengths or version == b"1.0":
            raise Refused(
                400, "the body's length is ambiguous: 'Transfer-Encoding: chunked' alone, or a Content-Length"
            )
        return None
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not length.isdigit() or len(length) > 15:
        raise Refused(400, "the Content-Length is malformed")
    return int(length)


async def body(stream: BufferedByteReceiveStream, length: int | None) -> AsyncIterator[bytes]:
    """The body's bytes as they are to be sent on, in pieces; chunks are written anew, without what they carry beside.

    Raises:
        IncompleteRead, EndOfStream: the sender left.
        Refused: the chunks are malformed.
    """
    if length is not None:
        async for piece in exactly(stream, length):
            yield piece
        return
    while size := await chunk_size(stream):
        async for piece in exactly(stream, size):
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
        if await stream.receive_exactly(2) != b"\r\n":
            raise Refused(400, "a chunk is malformed")
    yield b"0\r\n\r\n"  # trailers stay unread: nothing that follows is passed on


async def exactly(stream: BufferedByteReceiveStream, count: int) -> AsyncIterator[bytes]:
    while count:
        piece = await stream.receive(min(count, CHUNK))
        count -= len(piece)
        yield piece


async def chunk_size(stream: BufferedByteReceiveStream) -> int:
    try:
        line = CHUNK_SIZE.fullmatch(await stream.receive_until(b"\r\n", LINE_BYTES))
    except anyio.DelimiterNotFound:
        line = None
    if line is None:
        raise Refused(400, "a chunk's size is malformed")
    return int(line[1], 16)
