"""Ports of a sandbox as the host serves them; the agent's part is played by a thread."""

import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from envhub.contracts.network import NetworkMode
from envhub.errors import SandboxFault, UsageError
from envhub.testing.loopback import GONE, echo, serving
from sandboxes.inside.forwarder import open_port
from sandboxes.network import forward as forward_module
from sandboxes.network import relay as relay_module
from sandboxes.network.ports import Ports
from sandboxes.place import Sockets

pytestmark = pytest.mark.anyio

MB = 1 << 20
GATEWAY = NetworkMode.GATEWAY


async def agent(folder: str, name: str, token: str) -> int:
    """The agent opens a port when it is asked to."""
    return await anyio.to_thread.run_sync(open_port, folder.encode(), name.encode(), token.encode())


@pytest.fixture
async def sockets(tmp_path: Path) -> Sockets:
    folder = tmp_path / ("deep" * 30)  # longer than the address of a unix socket may be
    folder.mkdir()
    return Sockets(folder, str(folder))


@pytest.fixture
async def ports(sockets: Sockets) -> AsyncIterator[Ports]:
    ports = Ports(sockets, agent)
    yield ports
    await ports.aclose()


async def answer_at_the_end(connection: ByteStream) -> None:
    count = 0
    async for chunk in connection:
        count += len(chunk)
    await connection.send(b"%d" % count)


async def connect(endpoint: str) -> SocketStream:
    host, _, port = endpoint.rpartition(":")
    return await anyio.connect_tcp(host, int(port))


async def exchange(endpoint: str, data: bytes) -> bytes:
    """Sends, ends its direction, and reads to the end of the other."""
    received = bytearray()
    with anyio.fail_after(20):
        async with await connect(endpoint) as connection, anyio.create_task_group() as tasks:

            async def send() -> None:
                await connection.send(data)
                await connection.send_eof()

            tasks.start_soon(send)
            async for chunk in connection:
                received += chunk
    return bytes(received)


async def test_a_forward_carries_bytes_both_ways_and_half_closes(ports: Ports) -> None:
    data = os.urandom(16 * MB)
    async with serving(echo) as port:
        assert await exchange(await ports.forward(GATEWAY, "127.0.0.1", port), data) == data
    async with serving(answer_at_the_end) as port:
        assert await exchange(await ports.forward(GATEWAY, "127.0.0.1", port), data) == b"%d" % len(data)


async def test_64_connections_share_a_port(ports: Ports) -> None:
    async with serving(echo) as port:
        endpoint = await ports.forward(GATEWAY, "127.0.0.1", port)

        async def one(number: int) -> None:
            assert await exchange(endpoint, b"%d" % number) == b"%d" % number

        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(one, number)


async def test_the_same_endpoint_has_one_port(ports: Ports) -> None:
    first = await ports.forward(GATEWAY, "127.0.0.1", 8000)
    assert await ports.forward(GATEWAY, "127.0.0.1", 8000) == first
    assert await ports.forward(GATEWAY, "127.0.0.1", 8001) != first


async def test_a_target_that_is_down_closes_the_connection_and_the_port_lives_on(ports: Ports) -> None:
    async with serving(echo) as port:
        pass
    endpoint = await ports.forward(GATEWAY, "127.0.0.1", port)
    with suppress(*GONE, ExceptionGroup):
        assert await exchange(endpoint, b"") == b""
    async with serving(echo, port):
        assert await exchange(endpoint, b"again") == b"again"


async def test_a_slow_reader_holds_its_sender_back(ports: Ports) -> None:
    sent = 0

    async def flood(connection: ByteStream) -> None:
        nonlocal sent
        while True:
            await connection.send(bytes(MB))
            sent += 1

    async with serving(flood) as port, await connect(await ports.forward(GATEWAY, "127.0.0.1", port)) as connection:
        await connection.receive(1)
        before = -1
        while before != sent:  # until the sender stands still
            before = sent
            await anyio.sleep(0.1)
    assert sent < 32


async def test_closing_ends_ports_connections_and_the_relay(sockets: Sockets) -> None:
    ports = Ports(sockets, agent)
    before = set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with serving(echo) as port:
        endpoint = await ports.forward(GATEWAY, "127.0.0.1", port)
        async with await connect(endpoint) as connection:
            await connection.send(b"x")
            assert await connection.receive() == b"x"
            await ports.aclose()
            await ports.aclose()
            with suppress(*GONE):
                assert await connection.receive() == b""
        with pytest.raises(OSError):
            await connect(endpoint)
    assert not [thread.name for thread in threading.enumerate() if "portal" in thread.name and thread not in before]
    assert len(os.listdir("/proc/self/fd")) <= files + 1  # noqa: PTH208
    assert list(sockets.host.iterdir()) == []


async def test_commands_are_told_of_the_proxy_and_what_needs_none(ports: Ports) -> None:
    env = await ports.proxy(("pypi.org", "127.0.0.1:8000"))
    assert set(env) == {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"}
    assert env["https_proxy"].startswith("http://127.0.0.1:")
    assert env["no_proxy"] == "localhost,::1"  # 127.0.0.1 is listed, so it is the host's that is meant


async def test_who_does_not_know_the_token_hands_nothing_over(sockets: Sockets) -> None:
    async def hostile(folder: str, name: str, token: str) -> int:
        guesses = (b"", b"x" * len(token), token[:-1].encode())
        for guess in guesses:
            await anyio.to_thread.run_sync(open_port, folder.encode(), name.encode(), guess)
        return 1

    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(SandboxFault, match="did not hand it over"):
        await Ports(sockets, hostile).forward(GATEWAY, "127.0.0.1", 8000)

    async def hostile_then_agent(folder: str, name: str, token: str) -> int:
        await hostile(folder, name, token)
        return await agent(folder, name, token)

    ports = Ports(sockets, hostile_then_agent)
    async with serving(echo) as port:
        assert await exchange(await ports.forward(GATEWAY, "127.0.0.1", port), b"mine") == b"mine"
    await ports.aclose()
    assert len(os.listdir("/proc/self/fd")) <= files + 1  # noqa: PTH208


async def test_connections_above_the_bound_wait_for_their_turn(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "CONNECTIONS", 2)
    async with serving(echo) as port:
        endpoint = await ports.forward(GATEWAY, "127.0.0.1", port)
        async with (
            await connect(endpoint) as first,
            await connect(endpoint) as second,
            await connect(endpoint) as third,
        ):
            for connection in (first, second, third):
                await connection.send(b"x")
            assert await first.receive() + await second.receive() == b"xx"
            with anyio.move_on_after(0.1) as scope:
                await third.receive()
            assert scope.cancelled_caught
            await second.send_eof()
            with anyio.fail_after(30):
                assert await third.receive() == b"x"


async def test_a_connection_that_is_idle_for_too_long_is_closed(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "IDLE_S", 0.1)
    async with serving(echo) as port, await connect(await ports.forward(GATEWAY, "127.0.0.1", port)) as connection:
        with anyio.fail_after(30), pytest.raises(GONE):
            await connection.receive()


async def test_network_none_forwards_nothing_and_full_needs_nothing(sockets: Sockets) -> None:
    ports = Ports(None, agent)
    with pytest.raises(UsageError, match="make the sandbox with"):
        await ports.forward(NetworkMode.NONE, "127.0.0.1", 80)
    assert await ports.forward(NetworkMode.FULL, "10.0.0.1", 80) == "10.0.0.1:80"
    assert await ports.forward(NetworkMode.FULL, "::1", 80) == "[::1]:80"


@pytest.mark.parametrize(("host", "port"), [("", 80), ("127.0.0.1", 0), ("127.0.0.1", 65536)])
async def test_what_is_no_endpoint_is_refused(ports: Ports, host: str, port: int) -> None:
    with pytest.raises(UsageError, match="is no endpoint"):
        await ports.forward(GATEWAY, host, port)


async def test_a_cancelled_forward_leaves_nothing(sockets: Sockets) -> None:
    async def never(folder: str, name: str, token: str) -> int:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.move_on_after(0.05):
        await Ports(sockets, never).forward(GATEWAY, "127.0.0.1", 80)
    assert list(sockets.host.iterdir()) == []


def test_a_port_is_the_loopbacks_alone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as meeting:
        meeting.bind(str(tmp_path / "x"))
        meeting.listen()
        port = open_port(str(tmp_path).encode(), b"x", b"token")
        with meeting.accept()[0] as caller:
            said, fds, _, _ = socket.recv_fds(caller, 64, 4)
        assert said == b"token"
        with socket.socket(fileno=fds[0]) as listener:
            assert listener.getsockname() == ("127.0.0.1", port)
