"""The listener that gateway and dashboard share."""

import signal
import socket

import anyio
import pytest
from httpx import AsyncClient
from starlette.responses import PlainTextResponse

from envhub.contracts.access import Access, Role
from envhub.errors import UsageError
from envhub.http_server import HANG_UP, is_loopback, listen, names_loopback, protocol, serve
from tests.guarding import access

pytestmark = pytest.mark.anyio

SECRET = {"a-secret-of-agents": Role.AGENT}
OURS = access(SECRET, proxied=True)

hello = PlainTextResponse("hello")


async def test_an_app_is_served_while_the_block_runs():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with listen() as listener:
        async with serve(hello, listener) as url, AsyncClient() as http:
            assert url == listener.url
            assert (await http.get(url)).text == "hello"
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with pytest.raises(OSError, match=r"refused|failed"):
        await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def test_a_taken_port_is_named():
    with listen() as listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is in use"), listen(port=port):
            pass


@pytest.mark.parametrize(("host", "port"), [("203.0.113.9", 0), ("127.0.0.1", 99_999), ("no.such.host.invalid", 0)])
async def test_a_place_that_cannot_be_bound_is_named(host, port):
    with pytest.raises(UsageError, match=rf"port {port} of {host}"), listen(host, port, access=OURS):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
async def test_outside_is_refused_without_a_token_and_tls(host):
    for lacking, what in ((Access(), "a token and TLS"), (access(SECRET), "TLS"), (Access(proxied=True), "a token")):
        with pytest.raises(UsageError, match=f"which needs {what};"), listen(host, access=lacking):
            pass


async def test_outside_is_allowed_with_a_token_behind_a_proxy_that_ends_tls():
    with listen("0.0.0.0", access=OURS) as listener:
        assert listener.url.startswith("http://0.0.0.0:")


def test_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example.org")))


def test_a_host_header_names_loopback_with_and_without_a_port():
    assert all(map(names_loopback, ("127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "localhost:80", "LOCALHOST")))
    assert not any(
        map(names_loopback, ("", ":80", "localhost.example.org:80", "10.0.0.1", "[::", "[x]:80", "127.0.0.1@x"))
    )


async def test_cancelling_the_block_shuts_the_server_down():
    with listen() as listener:
        with anyio.CancelScope() as scope:
            async with serve(hello, listener) as url, AsyncClient() as http:
                await http.get(url)
                scope.cancel()
                await anyio.sleep_forever()
        assert listener.socket.fileno() == -1


async def test_an_answer_under_way_may_end():
    started, finish = anyio.Event(), anyio.Event()

    async def slow(scope, receive, send):
        started.set()
        await finish.wait()
        await PlainTextResponse("done")(scope, receive, send)

    answers = []

    async def get(url):
        async with AsyncClient() as http:
            answers.append((await http.get(url)).text)

    with listen() as listener:
        async with anyio.create_task_group() as tasks, serve(slow, listener) as url:
            tasks.start_soon(get, url)
            await started.wait()
            tasks.start_soon(_later, finish)
    assert answers == ["done"]


async def _later(event):
    await anyio.sleep(0.15)
    event.set()


async def test_an_ipv6_listener_has_brackets_in_its_url():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listen("::1") as listener:
        assert listener.url.startswith("http://[::1]:")


async def test_an_app_is_told_when_its_client_hangs_up_also_when_it_asks_too_late():
    began, left, told_late = anyio.Event(), anyio.Event(), anyio.Event()

    async def waits(scope, receive, send):
        on_hang_up = scope["extensions"][HANG_UP]
        on_hang_up(left.set)
        began.set()
        await left.wait()
        on_hang_up(told_late.set)

    with listen() as listener:
        async with serve(waits, listener) as url:
            port = int(url.rpartition(":")[2])
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                await began.wait()
                assert not left.is_set()
            with anyio.fail_after(30):
                await left.wait()
                await told_late.wait()


async def test_an_app_that_took_back_its_wish_is_not_told():
    told = []

    async def answers(scope, receive, send):
        scope["extensions"][HANG_UP](lambda: told.append(scope["path"]))
        await hello(scope, receive, send)
        scope["extensions"][HANG_UP](None)

    with listen() as listener:
        async with serve(answers, listener) as url:
            async with AsyncClient() as http:
                assert (await http.get(url)).text == "hello"
            await anyio.sleep(0.05)
    assert told == []


async def talk(url: str, *pieces: bytes) -> bytes:
    """What the server says to these bytes, until it closes the connection."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    said = b""
    with anyio.fail_after(30):
        async with await anyio.connect_tcp(host, int(port)) as stream:
            try:
                for piece in pieces:
                    await stream.send(piece)
                async for some in stream:
                    said += some
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass  # it was cut off while it still sent
    return said


async def test_headers_without_end_are_cut_off():
    with listen() as listener:
        async with serve(hello, listener) as url:
            endless = (b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(10_000))
            said = await talk(url, b"GET / HTTP/1.1\r\nHost: x\r\n", *endless)
            assert not said or said.startswith(b"HTTP/1.1 400")  # a reset may overtake it
            one_line = await talk(url, b"GET /", *(b"x" * 1000 for _ in range(200)))
            assert not one_line or one_line.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("said", [(), (b"GET / HTTP/1.1\r\nHost:",)], ids=["nothing", "half a head"])
async def test_a_client_that_never_ends_its_head_is_cut_off(said, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with listen() as listener:
        async with serve(hello, listener) as url:
            assert await talk(url, *said) == b""


async def test_a_second_head_on_a_connection_is_bounded_as_the_first(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with listen() as listener:
        async with serve(hello, listener) as url:
            said = await talk(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n")
    assert said.startswith(b"HTTP/1.1 200")


async def test_what_takes_longer_than_a_head_may_take_is_not_cut_off(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_S", 0.1)

    async def slow(scope, receive, send):
        await anyio.sleep(0.5)
        await hello(scope, receive, send)

    with listen() as listener:
        async with serve(slow, listener) as url, AsyncClient(timeout=30) as http:
            assert (await http.get(url)).text == "hello"


async def test_nobody_gets_a_websocket():
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with listen() as listener:
        async with serve(hello, listener) as url:
            assert (await talk(url, upgrade)).startswith(b"HTTP/1.1 200")


async def test_who_is_said_to_be_spoken_for_is_believed_of_a_proxy_alone():
    seen = []

    async def noting(scope, receive, send):
        seen.append(scope["client"][0])
        await hello(scope, receive, send)

    for told in (Access(), OURS):
        with listen(access=told) as listener:
            async with serve(noting, listener) as url, AsyncClient() as http:
                await http.get(url, headers={"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "https"})
    assert seen == ["127.0.0.1", "10.9.8.7"]
