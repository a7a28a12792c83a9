"""Ports: loopback ports inside one sandbox whose connections the host serves.

The sandbox's agent opens a port in its own network namespace and hands the listening socket to the host (handoff.py):
inside runs no process for it that a command could kill, and nothing is left there for a command to take over. A port is
seen in its own sandbox alone, and closes with it.
"""

from collections.abc import Mapping, Sequence

import anyio

from envhub.contracts.network import NetworkMode
from envhub.errors import UsageError
from sandboxes.network.forward import Handler, forward_to
from sandboxes.network.handoff import Ask, take_over
from sandboxes.network.proxy import Proxy
from sandboxes.network.relay import Served
from sandboxes.place import Sockets

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIED = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
DIRECT = ("no_proxy", "NO_PROXY")


class Ports:
    """The ports of one sandbox. `sockets` is None where its network policy has none."""

    def __init__(self, sockets: Sockets | None, ask: Ask) -> None:
        self._sockets = sockets
        self._ask = ask
        self._ports: dict[tuple[str, int], int] = {}
        self._served = Served()
        self._lock = anyio.Lock()

    async def forward(self, mode: NetworkMode, host: str, port: int) -> str:
        """`host:port` as the inside reaches that endpoint of the host; the same each time for the same endpoint.

        Raises:
            SandboxFault: the sandbox has died or was closed.
            UsageError: the mode is NONE, or that is no endpoint.
        """
        if mode is NetworkMode.NONE:
            raise UsageError("network 'none' forwards nothing; make the sandbox with Network(NetworkMode.GATEWAY)")
        if not host or not 0 < port < 65536:
            raise UsageError(f"'{host}:{port}' is no endpoint; name a host and a port from 1 to 65535")
        if self._sockets is None:  # the inside is on the host's own network
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        async with self._lock:
            if (host, port) not in self._ports:
                self._ports[host, port] = await self._open(self._sockets, forward_to(host, port))
            return f"127.0.0.1:{self._ports[host, port]}"

    async def proxy(self, hosts: Sequence[str]) -> Mapping[str, str]:
        """Opens the proxy to the listed hosts; the variables that tell programs inside of it.

        Raises:
            SandboxFault: the sandbox has died or was closed.
        """
        assert self._sockets is not None, "every back end gives a sandbox of the mode HOSTS its sockets"
        async with self._lock:
            port = await self._open(self._sockets, Proxy(hosts).serve)
        listed = {host.partition(":")[0] for host in hosts}  # an address of the host's loopback may be
        direct = ",".join(name for name in LOOPBACK if name not in listed)
        return {**dict.fromkeys(PROXIED, f"http://127.0.0.1:{port}"), **dict.fromkeys(DIRECT, direct)}

    async def aclose(self) -> None:
        """Closes every port and its connections. Idempotent."""
        async with self._lock:
            self._ports.clear()
            await anyio.to_thread.run_sync(self._served.end)

    async def _open(self, sockets: Sockets, handler: Handler) -> int:
        listener, port = await take_over(sockets, self._ask)
        with anyio.CancelScope(shield=True):  # the listener has an owner afterwards
            await anyio.to_thread.run_sync(self._served.add, listener, handler)
        return port
