"""The filtering proxy, over real connections on loopback."""

import hashlib
import ipaddress
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import ByteStream

from envhub.testing.loopback import echo, read_all, serving
from sandboxes.network import proxy as proxy_module
from sandboxes.network.allow_list import Address
from sandboxes.network.proxy import Proxy

pytestmark = pytest.mark.anyio

MB = 1 << 20
CLOSED_PORT = 1


async def say(port: int, data: bytes, *, then_end: bool = False) -> bytes:
    """What the server at that port answers, to its end."""
    with anyio.fail_after(20):
        async with await anyio.connect_tcp("127.0.0.1", port) as connection:
            await connection.send(data)
            if then_end:
                await connection.send_eof()
            return await read_all(connection)


class Target:
    """An HTTP server that notes what reaches it, answers once, and closes."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello") -> None:
        self.answer = answer
        self.received = bytearray()
        self.connections = 0

    async def __call__(self, connection: ByteStream) -> None:
        self.connections += 1
        while b"\r\n\r\n" not in self.received:
            self.received += await connection.receive()
        await connection.send(self.answer)
        await connection.send_eof()
        self.received += await read_all(connection)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def proxied(handler: Callable[[ByteStream], Awaitable[None]], *also: str) -> AsyncIterator[tuple[int, str]]:
    """A proxy that allows a server and what else is named: the proxy's port, and the server's `host:port`."""
    async with serving(handler) as target, serving(Proxy((f"127.0.0.1:{target}", *also)).serve) as port:
        yield port, f"127.0.0.1:{target}"


async def test_plain_http_reaches_a_listed_host_as_the_proxy_understood_it() -> None:
    target = Target()
    async with proxied(target) as (port, host):
        request = (
            f"GET http://{host}/a?b=c#d HTTP/1.1\r\nHost: evil.example\r\nhost: other.example\r\nX-Kept: yes\r\n"
            "Proxy-Authorization: secret\r\nConnection: keep-alive, X-Dropped\r\nX-Dropped: 1\r\nUpgrade: h2c\r\n\r\n"
        )
        assert (await say(port, request.encode())).endswith(b"\r\n\r\nhello")
    assert bytes(target.received) == (
        f"GET /a?b=c HTTP/1.1\r\nx-kept: yes\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
    )


async def test_a_tunnel_carries_16_mb_both_ways_and_half_closes() -> None:
    data = os.urandom(16 * MB)
    async with proxied(echo) as (port, host), await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() + data[:5])
        assert await connection.receive(39) == b"HTTP/1.1 200 Connection established\r\n\r\n"

        async def send_rest() -> None:
            await connection.send(data[5:])
            await connection.send_eof()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_rest)
                assert digest(await read_all(connection)) == digest(data)


async def test_a_tunnel_stays_open_for_the_sender_when_its_target_has_finished() -> None:
    data, received = os.urandom(MB), bytearray()

    async def answer_first(connection: ByteStream) -> None:
        await connection.send(b"bye")
        await connection.send_eof()
        received.extend(await read_all(connection))

    async with proxied(answer_first) as (port, host), await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(f"CONNECT {host} HTTP/1.1\r\n\r\n".encode())
        assert (await read_all(connection)).endswith(b"\r\n\r\nbye")
        await connection.send(data)
        await connection.send_eof()
        with anyio.fail_after(10):
            while len(received) < MB:  # noqa: ASYNC110 - the other end notes it
                await anyio.sleep(0.01)
    assert bytes(received) == data


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_pass_up_whole(chunked: bool) -> None:
    data = os.urandom(16 * MB) + b"<end>"
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    sent = b"%x;name=value\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(data), data) if chunked else data
    received = bytearray()

    async def note(connection: ByteStream) -> None:
        while not received.endswith((b"<end>", b"<end>\r\n0\r\n\r\n")):
            received.extend(await connection.receive())
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\ndone")

    async with proxied(note) as (port, host):
        answer = await say(port, f"POST http://{host}/ HTTP/1.1\r\n{framing}\r\n\r\n".encode() + sent)
    assert answer.endswith(b"done")
    body = bytes(received).partition(b"\r\n\r\n")[2]
    assert digest(unchunked(body) if chunked else body) == digest(data)


def unchunked(body: bytes) -> bytes:
    data = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        data += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return bytes(data)


async def test_large_answers_pass_down_whole() -> None:
    data = os.urandom(16 * MB)
    target = Target(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    async with proxied(target) as (port, host):
        answer = await say(port, f"GET http://{host}/ HTTP/1.1\r\n\r\n".encode())
    assert digest(answer.partition(b"\r\n\r\n")[2]) == digest(data)


async def test_an_answer_before_the_body_ends_the_exchange() -> None:
    target = Target(b"HTTP/1.1 413 Too large\r\n\r\n")
    async with proxied(target) as (port, host), await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.send(f"POST http://{host}/ HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc".encode())
        assert (await read_all(connection)).startswith(b"HTTP/1.1 413 ")
        with anyio.fail_after(30), pytest.raises(anyio.BrokenResourceError):
            while True:
                await connection.send(b"x")
                await anyio.sleep(0.05)


async def test_64_tunnels_work_side_by_side() -> None:
    async with proxied(echo) as (port, host):

        async def one(number: int) -> None:
            data = b"%d " % number * 1000
            answer = await say(port, f"CONNECT {host} HTTP/1.1\r\n\r\n".encode() + data, then_end=True)
            assert answer.endswith(b"\r\n\r\n" + data)

        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(one, number)


async def test_what_follows_the_first_request_never_reaches_the_target() -> None:
    target = Target()
    async with proxied(target) as (port, host):
        second = b"GET /hidden HTTP/1.1\r\nHost: other\r\n\r\n"
        for head in ("", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"):
            body = b"0\r\n\r\n" if "chunked" in head else b""
            await say(port, f"POST http://{host}/ HTTP/1.1\r\n{head}\r\n".encode() + body + second)
    assert b"/hidden" not in target.received


HOSTILE = {
    "no line end": (b"A" * 70_000, 431),
    "cut short": (b"GET http://HOST/ HTTP/1.1\r\nHost", 400),
    "nothing": (b"", 400),
    "huge header": (b"GET http://HOST/ HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET http://HOST/ HTTP/1.1\r\n" + b"X: a\r\n" * 9000 + b"\r\n", 431),
    "noise": (bytes(range(256)) + b"\r\n\r\n", 400),
    "TLS": (bytes.fromhex("16030100f8010000f40303") + b"\r\n\r\n", 400),
    "bare line feeds": (b"GET http://HOST/ HTTP/1.1\nX: a\r\n\r\n", 400),
    "header with a bare line feed": (b"GET http://HOST/ HTTP/1.1\r\nX: a\nHost: b\r\n\r\n", 400),
    "header with a bare return": (b"GET http://HOST/ HTTP/1.1\r\nX: a\rHost: b\r\n\r\n", 400),
    "header with NUL": (b"GET http://HOST/ HTTP/1.1\r\nX: \0\r\n\r\n", 400),
    "folded header": (b"GET http://HOST/ HTTP/1.1\r\nX: a\r\n b\r\n\r\n", 400),
    "space before the colon": (b"GET http://HOST/ HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET http://HOST/\r\n\r\n", 400),
    "a path alone": (b"GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
    "https in the clear": (b"GET https://HOST/ HTTP/1.1\r\n\r\n", 400),
    "a file": (b"GET file:///etc/passwd HTTP/1.1\r\n\r\n", 400),
    "user and password": (b"GET http://HOST@evil.example/ HTTP/1.1\r\n\r\n", 400),
    "user before the host": (b"GET http://user:word@HOST/ HTTP/1.1\r\n\r\n", 400),
    "backslash": (b"GET http://evil.example\\@HOST/ HTTP/1.1\r\n\r\n", 400),
    "percent in the host": (b"GET http://127.0.0.1%2eevil.example/ HTTP/1.1\r\n\r\n", 400),
    "no port": (b"CONNECT pypi.org HTTP/1.1\r\n\r\n", 400),
    "port 0": (b"CONNECT pypi.org:0 HTTP/1.1\r\n\r\n", 400),
    "port too high": (b"CONNECT pypi.org:65536 HTTP/1.1\r\n\r\n", 400),
    "empty label": (b"CONNECT pypi..org:443 HTTP/1.1\r\n\r\n", 400),
    "CONNECT to a URL": (b"CONNECT http://HOST/ HTTP/1.1\r\n\r\n", 400),
    "not listed": (b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n", 403),
    "another port": (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", 403),
    "the address as a number": (b"CONNECT 2130706433:80 HTTP/1.1\r\n\r\n", 403),
    "the address in short": (b"CONNECT 127.1:80 HTTP/1.1\r\n\r\n", 403),
    "loopback's other name": (b"CONNECT localhost:80 HTTP/1.1\r\n\r\n", 403),
    "loopback in IPv6": (b"CONNECT [::1]:80 HTTP/1.1\r\n\r\n", 403),
    "mapped loopback": (b"CONNECT [::ffff:127.0.0.1]:80 HTTP/1.1\r\n\r\n", 403),
    "listed Host, other target": (b"GET http://evil.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 403),
    "two lengths": (b"POST http://HOST/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "a list of lengths": (b"POST http://HOST/ HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "a signed length": (b"POST http://HOST/ HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", 400),
    "length and chunks": (
        b"POST http://HOST/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks by another name": (b"POST http://HOST/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "two codings": (b"POST http://HOST/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST http://HOST/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_requests_are_refused_and_reach_nobody(name: str) -> None:
    request, status = HOSTILE[name]
    target = Target()
    async with proxied(target) as (port, host):
        answer = await say(port, request.replace(b"HOST", host.encode()), then_end=True)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"\r\nConnection: close\r\n" in answer
    assert target.connections == 0


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nabc", b"-1\r\nabc", b"3\r\nabcd\r\n0\r\n\r\n", b"3" * 300, b"f" * 16 + b"\r\n"]
)
async def test_malformed_chunks_end_the_exchange(chunks: bytes) -> None:
    target = Target()
    target.answer = b""
    finished = anyio.Event()

    async def wait_for_more(connection: ByteStream) -> None:
        target.received += await read_all(connection)
        finished.set()

    async with proxied(wait_for_more) as (port, host):
        head = f"POST http://{host}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        assert await say(port, head + chunks) == b""
        await finished.wait()
    assert not target.received.endswith(b"0\r\n\r\n")


async def test_refusal_names_host_and_rule_in_the_status_line_and_the_text() -> None:
    async with proxied(echo, "pypi.org") as (port, host):
        answer = await say(port, b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n")
    reason = f"evil.example:443 is not in this sandbox's network.hosts ({host}, pypi.org)"
    assert answer.startswith(f"HTTP/1.1 403 Forbidden: {reason}\r\n".encode())
    assert answer.endswith(f"\r\n\r\nenvhub: {reason}\n".encode())


async def test_a_target_that_is_down_is_a_502() -> None:
    async with serving(Proxy((f"127.0.0.1:{CLOSED_PORT}",)).serve) as port:
        for request in (f"CONNECT 127.0.0.1:{CLOSED_PORT}", f"GET http://127.0.0.1:{CLOSED_PORT}/"):
            answer = await say(port, f"{request} HTTP/1.1\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 502 Bad Gateway: 127.0.0.1:1 can't be reached")


def resolver(*addresses: str) -> Callable[[str], Awaitable[Sequence[Address]]]:
    async def look_up(host: str) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in addresses]

    return look_up


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["93.184.216.34"], ["127.0.0.1"]]  # a name that is rebound between two look-ups
    reached: list[str] = []

    async def look_up(host: str) -> Sequence[Address]:
        return [ipaddress.ip_address(address) for address in answers.pop(0)]

    async def connect_first(addresses: Sequence[Address], port: int) -> ByteStream:
        reached.extend(map(str, addresses))
        raise OSError("far away")

    monkeypatch.setattr(proxy_module, "connect_first", connect_first)
    async with serving(Proxy(("rebound.example",), lookup=look_up).serve) as port:
        assert (await say(port, b"CONNECT rebound.example:443 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    assert reached == ["93.184.216.34"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:a00:1"])
async def test_a_listed_name_that_resolves_to_an_internal_address_is_refused(address: str) -> None:
    async with serving(Proxy(("rebound.example",), lookup=resolver("93.184.216.34", address)).serve) as port:
        answer = await say(port, b"CONNECT rebound.example:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 403 Forbidden: rebound.example resolves to {address}".encode())


async def test_a_name_that_does_not_resolve_is_a_502() -> None:
    async def look_up(host: str) -> Sequence[Address]:
        raise OSError("no such name")

    async with serving(Proxy(("gone.example",), lookup=look_up).serve) as port:
        answer = await say(port, b"CONNECT gone.example:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway: gone.example:443 can't be reached: no such name")


async def test_the_hosts_own_resolver_is_asked() -> None:
    async with serving(Proxy(("localhost", "*.invalid")).serve) as port:
        answer = await say(port, b"GET http://localhost/ HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden: localhost resolves to ")
        too_long = b"CONNECT %s.invalid:443 HTTP/1.1\r\n\r\n" % (b"a" * 64)  # a label holds 63
        assert (await say(port, too_long)).startswith(b"HTTP/1.1 502 ")


async def test_a_sender_that_never_finishes_its_head_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_S", 0.1)
    async with proxied(echo) as (port, _):
        assert (await say(port, b"GET http")).startswith(b"HTTP/1.1 408 ")


async def test_a_tunnel_in_which_nothing_moves_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "IDLE_S", 0.1)
    async with proxied(echo) as (port, host):
        assert (await say(port, f"CONNECT {host} HTTP/1.1\r\n\r\n".encode())).endswith(b"established\r\n\r\n")
