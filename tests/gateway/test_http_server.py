"""The listener that gateway and dashboard share."""

import signal
import socket

import anyio
import pytest
from httpx import AsyncClient
from starlette.responses import PlainTextResponse

from envhub.errors import UsageError
from envhub.http_server import HANG_UP, is_loopback, listen, names_loopback, serve

pytestmark = pytest.mark.anyio

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
    with pytest.raises(UsageError, match=rf"port {port} of {host}"), listen(host, port, token="t"):
        pass


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
async def test_outside_is_refused_without_a_token(host, token):
    with pytest.raises(UsageError, match="needs a token"), listen(host, token=token):
        pass


async def test_outside_is_allowed_with_a_token():
    with listen("0.0.0.0", token="t") as listener:
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
