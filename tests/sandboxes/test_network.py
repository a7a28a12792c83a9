"""What a sandbox may talk to, in each network mode of each back end, found with real connections on loopback."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import anyio
import pytest
from anyio.abc import ByteStream

from envhub.contracts.command import ExecRequest
from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from envhub.errors import UsageError
from envhub.testing.loopback import echo, serving
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.docker.backend import DockerBackend, PodmanBackend
from sandboxes.process.backend import ProcessBackend
from sandboxes.zygote.backend import ZygoteBackend
from tests.sandboxes.containers import need

pytestmark = pytest.mark.anyio

ISOLATING = [
    *(pytest.param(kind, marks=pytest.mark.sandboxes) for kind in (BubblewrapBackend, ZygoteBackend)),
    *(pytest.param(kind, marks=pytest.mark.containers) for kind in (DockerBackend, PodmanBackend)),
]
NONE, GATEWAY, FULL = (
    SandboxSpec(network=Network(mode)) for mode in (NetworkMode.NONE, NetworkMode.GATEWAY, NetworkMode.FULL)
)
ELSEWHERE = SandboxSpec(network=Network.only("pypi.org"))

FETCH = """if True:
    import sys, urllib.error, urllib.request
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
    except OSError as error:
        print(error)
    """
CONNECT = """if True:
    import socket, sys
    family, address = socket.AF_INET, (sys.argv[1], int(sys.argv[2] or 0))
    if sys.argv[1].startswith("@"):
        family, address = socket.AF_UNIX, chr(0) + sys.argv[1][1:]
    try:
        with socket.socket(family) as end:
            end.settimeout(5)
            end.connect(address)
            print("connected")
    except OSError as error:
        print(type(error).__name__)
    """
UPLOAD = """if True:
    import hashlib, os, socket, sys, threading
    end = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    data, received = os.urandom(16 << 20), hashlib.sha256()

    def send():
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)

    threading.Thread(target=send).start()
    while chunk := end.recv(1 << 16):
        received.update(chunk)
    print(received.digest() == hashlib.sha256(data).digest())
    """
PARALLEL = """if True:
    import socket, sys
    ends = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(64)]
    for number, end in enumerate(ends):
        end.sendall(b"%d" % number)
        end.shutdown(socket.SHUT_WR)
    print(all(end.recv(8) == b"%d" % number and end.recv(8) == b"" for number, end in enumerate(ends)))
    """


async def opened(kind: type[SandboxBackend]) -> AsyncIterator[SandboxBackend]:
    if issubclass(kind, DockerBackend):
        await need(kind)
    backend = kind()
    yield backend
    await backend.aclose()


@pytest.fixture(params=[ProcessBackend, *ISOLATING])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[SandboxBackend]:
    async for backend in opened(request.param):
        yield backend


@pytest.fixture(params=ISOLATING)
async def isolating(request: pytest.FixtureRequest) -> AsyncIterator[SandboxBackend]:
    async for backend in opened(request.param):
        yield backend


async def python(sandbox: Sandbox, code: str, *arguments: str) -> str:
    result = await sandbox.exec(ExecRequest(("python3", "-c", code, *arguments)))
    return (result.stdout + result.stderr).decode().strip()


async def page(connection: ByteStream) -> None:
    """Answers each connection's first request with what was asked for, as the web does."""
    request = bytearray()
    while b"\r\n\r\n" not in request:
        request += await connection.receive()
    path = bytes(request).split()[1]
    await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nyou asked for " + path)
    await connection.send_eof()


def port_of(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


async def reached(sandbox: Sandbox, port: int, abstract: str) -> dict[str, str]:
    """What a command gets when it connects to the host's loopback, an outside address and an abstract socket."""
    places = {"loopback": ("127.0.0.1", str(port)), "outside": ("192.0.2.1", "80"), "abstract": ("@" + abstract, "")}
    return {name: await python(sandbox, CONNECT, *arguments) for name, arguments in places.items()}


@pytest.fixture
def abstract() -> Iterator[str]:
    """The name of an abstract socket of the host that takes connections."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        name = f"envhub-test-{id(listener)}"
        listener.bind(f"\0{name}")
        listener.listen()
        yield name


async def test_gateway_reaches_the_forwarded_endpoint(backend: SandboxBackend) -> None:
    sandbox = await backend.create(GATEWAY)
    async with serving(page) as port:
        endpoint = await sandbox.forward("127.0.0.1", port)
        assert await python(sandbox, FETCH, f"http://{endpoint}/v1/models") == "you asked for /v1/models"
        assert await sandbox.forward("127.0.0.1", port) == endpoint


@pytest.mark.parametrize("spec", [NONE, GATEWAY, ELSEWHERE], ids=["none", "gateway", "hosts"])
async def test_nothing_else_can_be_reached(isolating: SandboxBackend, spec: SandboxSpec, abstract: str) -> None:
    sandbox = await isolating.create(spec)
    async with serving(page) as port, serving(page) as other:
        if spec is not NONE:
            await sandbox.forward("127.0.0.1", port)
        found = await reached(sandbox, other, abstract)
    assert found == {"loopback": "ConnectionRefusedError", "outside": "OSError", "abstract": "ConnectionRefusedError"}


async def test_none_forwards_nothing(backend: SandboxBackend) -> None:
    sandbox = await backend.create(NONE)
    with pytest.raises(UsageError, match="network 'none' forwards nothing"):
        await sandbox.forward("127.0.0.1", 8000)


async def test_full_reaches_what_the_host_does(backend: SandboxBackend, abstract: str) -> None:
    sandbox = await backend.create(FULL)
    async with serving(page) as port:
        found = await reached(sandbox, port, abstract)
        assert await sandbox.forward("127.0.0.1", port) == f"127.0.0.1:{port}"
    assert found["loopback"] == found["abstract"] == "connected"


async def test_hosts_reaches_the_listed_hosts_by_the_proxy_of_the_environment(isolating: SandboxBackend) -> None:
    async with serving(page) as port, serving(page) as other:
        sandbox = await isolating.create(SandboxSpec(network=Network.only(f"127.0.0.1:{port}")))
        assert await python(sandbox, FETCH, f"http://127.0.0.1:{port}/simple") == "you asked for /simple"
        refused = await python(sandbox, FETCH, f"http://127.0.0.1:{other}/simple")
        tunnel = await python(sandbox, FETCH, "https://evil.example/")
    rule = f"is not in this sandbox's network.hosts (127.0.0.1:{port})"
    assert refused == f"403 envhub: 127.0.0.1:{other} {rule}"
    assert f"evil.example:443 {rule}" in tunnel


async def test_variables_that_the_spec_sets_stay(isolating: SandboxBackend) -> None:
    sandbox = await isolating.create(SandboxSpec(network=Network.only("pypi.org"), env={"HTTP_PROXY": "mine"}))
    shown = await sandbox.exec(ExecRequest(("sh", "-c", "echo $HTTP_PROXY $https_proxy $NO_PROXY")))
    assert shown.stdout.startswith(b"mine http://127.0.0.1:")
    assert shown.stdout.endswith(b" localhost,127.0.0.1,::1\n")


async def test_16_mb_pass_both_ways_and_64_connections_at_once(backend: SandboxBackend) -> None:
    sandbox = await backend.create(GATEWAY)
    async with serving(echo) as port:
        inside = port_of(await sandbox.forward("127.0.0.1", port))
        assert await python(sandbox, UPLOAD, inside) == "True"
        assert await python(sandbox, PARALLEL, inside) == "True"


async def test_a_port_is_not_seen_in_another_sandbox(isolating: SandboxBackend) -> None:
    one, other = await isolating.create(GATEWAY), await isolating.create(GATEWAY)
    async with serving(page) as port:
        inside = port_of(await one.forward("127.0.0.1", port))
        assert await python(one, CONNECT, "127.0.0.1", inside) == "connected"
        assert await python(other, CONNECT, "127.0.0.1", inside) == "ConnectionRefusedError"


async def test_ports_survive_the_end_of_all_processes(isolating: SandboxBackend) -> None:
    sandbox = await isolating.create(GATEWAY)
    async with serving(page) as port:
        endpoint = await sandbox.forward("127.0.0.1", port)
        await sandbox.exec(ExecRequest(("sh", "-c", "kill -9 -1")))
        await sandbox.end_processes()
        assert await python(sandbox, FETCH, f"http://{endpoint}/again") == "you asked for /again"


async def test_commands_find_no_socket_and_no_place_to_write(isolating: SandboxBackend) -> None:
    sandbox = await isolating.create(GATEWAY)
    await sandbox.forward("127.0.0.1", 8000)
    script = "ls /.envhub/sockets; touch /.envhub/sockets/x; chmod 777 /.envhub/sockets; echo done"
    result = await sandbox.exec(ExecRequest(("sh", "-c", script)))
    assert result.stdout == b"done\n"
    assert result.stderr.count(b"Read-only file system") == 2


async def test_ports_end_with_their_sandbox(backend: SandboxBackend) -> None:
    sandbox = await backend.create(GATEWAY)
    seen = anyio.Event()
    ended = anyio.Event()

    async def until_it_ends(connection: ByteStream) -> None:
        seen.set()
        try:
            await connection.receive()
        finally:
            ended.set()

    async with serving(until_it_ends) as port:
        inside = port_of(await sandbox.forward("127.0.0.1", port))
        hold = f"import socket; socket.create_connection(('127.0.0.1', {inside})); input()"
        command = ("sh", "-c", f'exec 3<>/dev/null; (sleep 60 | python3 -c "{hold}") >/dev/null 2>&1 &')
        await sandbox.exec(ExecRequest(command))
        with anyio.fail_after(10):
            await seen.wait()
            await sandbox.close()
            await ended.wait()


async def test_the_process_back_end_says_that_it_restricts_nothing() -> None:
    backend = ProcessBackend()
    assert "network" in (await backend.probe()).detail
    with pytest.raises(UsageError, match="can't keep commands from other hosts"):
        await backend.create(ELSEWHERE)
    await backend.aclose()
