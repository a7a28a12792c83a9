"""The filtering proxy of the network mode HOSTS: CONNECT and plain HTTP to listed hosts, one request a connection.

Invariants:
- A name is resolved once, here, and the connection goes to the address that was checked: no second look-up in between
  could say something else (DNS rebinding).
- What the target gets is written from what was understood, never the sender's own bytes.
- Each wait has a deadline.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteStream

from sandboxes.network.allow_list import Address, AllowList, address_of, check_addresses
from sandboxes.network.forward import CONNECT_S, GONE, Idle, carry_one_way, join
from sandboxes.network.http_request import Refused, Request, body, read_request

HEAD_S = 15.0
IDLE_S = 300.0
LINGER_S = 1.0
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Lookup = Callable[[str], Awaitable[Sequence[Address]]]


async def look_up(host: str) -> Sequence[Address]:
    """What the host's resolver says. Where it takes too long nobody waits for it any more, nor does the relay's end.

    Raises:
        OSError: it knows no such name.
    """
    ask = partial(socket.getaddrinfo, host.encode(), None, type=socket.SOCK_STREAM)
    found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    addresses = (address_of(str(entry[4][0]).partition("%")[0]) for entry in found)
    return tuple(dict.fromkeys(address for address in addresses if address))


class Proxy:
    """Serves the connections of one sandbox."""

    def __init__(self, hosts: Sequence[str], *, lookup: Lookup = look_up) -> None:
        self._allowed = AllowList(hosts)
        self._lookup = lookup

    async def serve(self, connection: ByteStream) -> None:
        """Serves one connection: one request, or one tunnel."""
        client = BufferedByteStream(connection)
        try:
            request = await first_request(client)
            target = await self._connect(request)
        except Refused as refused:
            await refuse(client, refused)
            return
        async with target:
            if request.method == b"CONNECT":
                await client.send(ESTABLISHED)
                await join(client, target, IDLE_S)
            else:
                await exchange(client, target, request)

    async def _connect(self, request: Request) -> ByteStream:
        """
        Raises:
            Refused: the list does not have it, or it does not answer.
        """
        host, port = request.host, request.port
        self._allowed.check(host, port)
        try:
            with anyio.fail_after(CONNECT_S):
                return await connect_first(await self._addresses(host, port), port)
        except TimeoutError:
            raise Refused(504, f"{host}:{port} did not answer within {CONNECT_S:g} s") from None
        except OSError as error:
            raise Refused(502, f"{host}:{port} can't be reached: {error.strerror or error}") from None

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        literal = address_of(host)
        if literal is not None:
            return (literal,)  # listed as such
        addresses = await self._lookup(host)
        check_addresses(host, port, addresses)
        return addresses


async def first_request(client: BufferedByteStream) -> Request:
    """
    Raises:
        Refused: none came, or none that is served.
    """
    try:
        with anyio.fail_after(HEAD_S):
            return await read_request(client)
    except TimeoutError:
        raise Refused(408, f"no whole request came within {HEAD_S:g} s") from None


async def connect_first(addresses: Sequence[Address], port: int) -> ByteStream:
    """A connection to the first address that takes one.

    Raises:
        OSError: none does.
    """
    failed = OSError("its name has no address")
    for address in addresses:
        try:
            return await anyio.connect_tcp(str(address), port)
        except OSError as error:
            failed = error
    raise failed


async def exchange(client: BufferedByteStream, target: ByteStream, request: Request) -> None:
    """Sends the request on and its answer back, which may come before the body has been sent."""
    idle = Idle(IDLE_S)
    with idle.scope:
        async with anyio.create_task_group() as ways:
            ways.start_soon(send_request, client, target, request, idle)
            await carry_one_way(target, client, idle)
            ways.cancel_scope.cancel()
    await linger(client)


async def send_request(client: BufferedByteStream, target: ByteStream, request: Request, idle: Idle) -> None:
    """What can't be understood any more ends the exchange: half a request must not look like a whole one."""
    try:
        await target.send(request.forwarded())
        async for piece in body(client, request.length):
            await target.send(piece)
            idle.push()
    except (*GONE, anyio.IncompleteRead, Refused):
        idle.scope.cancel()


async def refuse(client: ByteStream, refused: Refused) -> None:
    """Answers in words, in the status line too: many a client shows no more of what a proxy says."""
    text = f"envhub: {refused.reason}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}: {refused.reason}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    with suppress(*GONE):
        await client.send(head.encode() + text)
        await client.send_eof()
        await linger(client)


async def linger(client: ByteStream) -> None:
    """Reads on for a moment: a connection that is closed before all was read takes its last answer with it."""
    with anyio.move_on_after(LINGER_S), suppress(*GONE):
        async for _ in client:
            pass
