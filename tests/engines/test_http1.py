"""HttpServer over servers that answer byte for byte as a test says."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSListener

from envhub.engines.over_http import http1
from envhub.engines.over_http.connection import HttpServer
from envhub.errors import EngineFault

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Answering: TypeAlias = Callable[[ByteStream], Awaitable[None]]


class Connected:
    """What a server has seen."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.asked = anyio.Event()
        self.requests: list[bytes] = []


@asynccontextmanager
async def serving(answer: Answering, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connected]:
    """A server that calls `answer` after each request, of one read at most, until the client leaves."""
    seen = Connected()

    async def handle(stream: ByteStream) -> None:
        seen.connections += 1
        async with stream:
            try:
                while True:
                    seen.requests.append(await stream.receive())
                    seen.asked.set()
                    await answer(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
                """The client left, or `answer` closed the connection."""

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon((TLSListener(listener, tls) if tls else listener).serve, handle)
        yield seen
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[HttpServer]:
    server = HttpServer(url)
    with anyio.fail_after(20):
        try:
            yield server
        finally:
            await server.close()


def saying(data: bytes) -> Answering:
    return lambda stream: stream.send(data)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with serving(saying(OK)) as seen, asking(seen.url + "/v1") as server:
        assert [await server.get("/a"), await server.post("/b", {"x": 1})] == [b"ok", b"ok"]
        assert seen.connections == 1
        first, second = seen.requests
        assert first.startswith(b"GET /v1/a HTTP/1.1\r\n")
        assert second.endswith(b'content-length: 7\r\n\r\n{"x":1}')


async def test_requests_at_once_have_a_connection_each() -> None:
    async def later(stream: ByteStream) -> None:
        await anyio.sleep(0.05)
        await stream.send(OK)

    async with serving(later) as seen, asking(seen.url) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(server.get, "/")
        assert seen.connections == 5


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def once(stream: ByteStream) -> None:
        await stream.send(OK)
        await stream.aclose()

    async with serving(once) as seen, asking(seen.url) as server:
        for _ in range(3):
            assert await server.get("/") == b"ok"
            await anyio.sleep(0.02)
        assert seen.connections == 3


@pytest.mark.parametrize("says", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", OK + b"!"])
async def test_a_connection_that_is_to_be_closed_or_says_too_much_is_not_used_again(says: bytes) -> None:
    async with serving(saying(says)) as seen, asking(seen.url) as server:
        assert [await server.get("/"), await server.get("/")] == [b"ok", b"ok"]
        assert seen.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "IDLE_S", -1.0)
    async with serving(saying(OK)) as seen, asking(seen.url) as server:
        assert [await server.get("/"), await server.get("/")] == [b"ok", b"ok"]
        assert seen.connections == 2


async def test_a_stream_that_is_left_early_is_hung_up_on() -> None:
    hung_up = anyio.Event()

    async def endless(stream: ByteStream) -> None:
        await stream.send(CHUNKED)
        try:
            while True:
                await stream.send(b"9\r\ndata: x\n\n\r\n")
                await anyio.sleep(0.01)
        except anyio.BrokenResourceError:
            hung_up.set()
            raise

    async with serving(endless) as seen, asking(seen.url) as server:
        async with aclosing(server.events("/", {})) as events:
            assert await anext(events) == [b"x"]
        await hung_up.wait()


async def test_events_are_whole_wherever_the_network_cuts_them() -> None:
    async def in_bytes(stream: ByteStream) -> None:
        events = (b"data: first\n", b"\n: a comment\n\ndata: sec", b"ond\n\ndata: [DONE]\n\n")
        said = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"
        for at in range(len(said)):
            await stream.send(said[at : at + 1])
            await checkpoint()

    async with serving(in_bytes) as seen, asking(seen.url) as server:
        for _ in range(2):
            assert [event async for some in server.events("/", {}) for event in some] == [b"first", b"second"]
        assert seen.connections == 1


async def test_a_body_without_a_length_lasts_until_the_connection_closes() -> None:
    async def closed(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        await stream.aclose()

    async with serving(closed) as seen, asking(seen.url) as server:
        assert await server.get("/") == b"all of it"


async def test_an_answer_may_be_announced_first() -> None:
    async with serving(saying(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)) as seen, asking(seen.url) as server:
        assert [await server.get("/"), await server.get("/")] == [b"ok", b"ok"]
        assert seen.connections == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "it closed the connection"),
        (b"HTTP/1.1 20", "it closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak HTTP"),
        (b"", "it closed the connection"),
    ],
    ids=["cut body", "cut head", "no HTTP", "nothing"],
)
async def test_what_is_no_whole_answer_is_a_fault_with_the_reason(said: bytes, reason: str) -> None:
    async def broken(stream: ByteStream) -> None:
        if said:
            await stream.send(said)
        await stream.aclose()

    async with serving(broken) as seen, asking(seen.url) as server:
        with pytest.raises(EngineFault, match=f"{seen.url} did not answer /x: {reason}.*; see that it runs") as caught:
            await server.get("/x")
        assert caught.value.retryable


async def test_an_answer_that_does_not_come_in_time_is_a_fault() -> None:
    async with serving(lambda stream: anyio.sleep_forever()) as seen, asking(seen.url) as server:
        with pytest.raises(EngineFault, match=r"no answer within 0\.05 s"):
            await server.post("/", timeout_s=0.05)


async def test_a_port_where_nobody_listens_is_told_in_words(free_tcp_port: int) -> None:
    async with asking(f"http://127.0.0.1:{free_tcp_port}") as server:
        with pytest.raises(EngineFault, match="did not answer /: connection refused; see that it runs"):
            await server.get("/")


async def test_closing_hangs_up_on_what_waits() -> None:
    async with serving(lambda stream: anyio.sleep_forever()) as seen, asking(seen.url) as server:

        async def ask() -> None:
            with pytest.raises(EngineFault, match="the engine is closed") as caught:
                await server.get("/")
            assert not caught.value.retryable

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await seen.asked.wait()
            await server.close()


async def test_a_server_that_sends_faster_than_is_taken_is_held_up() -> None:
    sent = 0

    async def flood(stream: ByteStream) -> None:
        nonlocal sent
        piece = b"data: " + b"x" * (1 << 20) + b"\n\n"
        await stream.send(CHUNKED)
        for _ in range(64):
            await stream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += 1
        await stream.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with serving(flood) as seen, asking(seen.url) as server, aclosing(server.events("/", {})) as events:
        count = len(await anext(events))
        before = -1
        while before < sent:
            before = sent
            await anyio.sleep(0.1)
        assert sent < 32  # MiB: some of them lie in the kernel's buffers
        async for some in events:
            count += len(some)
        assert count == 64


async def test_a_server_is_spoken_to_in_private_once_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1 -keyout {key}"
    await anyio.run_process(["openssl", *made.split(), "-out", str(certificate)], stderr=subprocess.DEVNULL)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with serving(saying(OK), tls=tls) as seen:
        async with asking(seen.url) as server:
            with pytest.raises(EngineFault, match=r"its certificate is not trusted: self.signed"):
                await server.get("/")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with asking(seen.url) as server:
            assert [await server.get("/"), await server.get("/")] == [b"ok", b"ok"]
