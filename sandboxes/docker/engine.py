"""A container engine as the back ends use it: the docker SDK's calls in threads of their own, its errors in our words.

Docker Engine and Podman speak the same API at a unix socket; only where they differ does a line here say so.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from envhub.errors import SandboxFault, UsageError
from sandboxes.docker import engine_socket

if TYPE_CHECKING:
    from docker import APIClient  # 0.2 s to import, which only who uses containers pays

T = TypeVar("T")
CALLS = 16  # at once; each holds a thread while the engine works
ANSWER_S = 60
REMOVED_S = 10.0
INSTALL = "pip install 'envhub-rl[docker]'"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine says of itself."""

    version: str
    rootless: bool  # it maps users: only some ids exist inside
    seccomp: bool
    limits: Mapping[str, bool]  # memory_mb, pids, cpus -> whether its cgroups bound it
    runtimes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Image:
    """What an image sets for the programs in it."""

    name: str
    id: str
    env: Sequence[str]
    volumes: Sequence[str]  # folders that the engine would make writable, on disk and of any size


class Engine:
    """One engine at one socket; connects at the first call and again after a failure."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self._limiter = anyio.CapacityLimiter(CALLS)
        self._client: APIClient | None = None
        self._left: set[str] = set()  # containers that could not be removed because the engine was gone

    async def abilities(self) -> Abilities:
        return await self._call(lambda client: abilities_of(client.info()))

    async def image(self, name: str) -> Image:
        """
        Raises:
            UsageError: the engine has no such image.
            SandboxFault: it does not answer.
        """
        return await self._call(lambda client: inspect(client, name, self.name))

    async def start(self, name: str, image: Image, config: Mapping[str, object]) -> socket.socket:
        """Makes and starts a container; the socket to its main process. Not interrupted by cancellation.

        Raises:
            UsageError: the image can't run it, or the engine does not know what the configuration asks for.
            SandboxFault: the engine does not answer, or could not.
        """
        for left in tuple(self._left):
            await self.remove(left)
        return await self._call(lambda client: started(client, name, image, config))

    async def remove(self, name: str) -> None:
        """Kills and removes a container; once the engine runs again, where it does not now. Idempotent."""
        self._left.add(name)
        with suppress(SandboxFault):
            await self._call(lambda client: removed(client, name))
            self._left.discard(name)

    async def aclose(self) -> None:
        for left in tuple(self._left):
            await self.remove(left)
        if self._client is not None:
            await anyio.to_thread.run_sync(self._client.close, limiter=self._limiter)
            self._client = None

    async def _call(self, function: "Callable[[APIClient], T]") -> T:
        return await anyio.to_thread.run_sync(self._called, function, limiter=self._limiter)

    def _called(self, function: "Callable[[APIClient], T]") -> T:
        with our_words(self.name, self.path):
            knock(self.path)
            if self._client is None:
                self._client = connect(self.path)
            return function(self._client)


def knock(path: str) -> None:
    """Finds out what the SDK would not tell: why an engine can't be reached.

    Raises:
        OSError: nobody listens there, or we may not ask.
        UsageError: that is no path of a socket.
    """
    if not path.startswith("/"):
        raise UsageError(
            f"container engine '{path}' is no unix socket, and sandboxes use no other; bring a remote engine's here "
            "(`ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`) and name unix:///tmp/engine.sock"
        )
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(path)


def connect(path: str) -> "APIClient":
    """
    Raises:
        UsageError: the docker SDK is missing.
    """
    try:
        from docker import APIClient
    except ImportError:
        raise UsageError(f"containers need the docker SDK; {INSTALL}") from None
    return APIClient(base_url=f"unix://{path}", version=engine_socket.Engine(path).api_version(), timeout=ANSWER_S)


@contextmanager
def our_words(engine: str, path: str) -> Iterator[None]:
    """Turns what the SDK raises into our errors."""
    try:
        yield
    except (UsageError, SandboxFault):
        raise
    except PermissionError:
        raise SandboxFault(
            f"{engine}: no permission to use {path}; join the group that owns it (docker, usually), or run a rootless "
            "engine and name its socket",
            retryable=False,
        ) from None
    except FileNotFoundError:
        raise SandboxFault(f"{engine}: there is no socket {path}; start the engine, or name another socket") from None
    except ConnectionError as error:
        raise SandboxFault(f"{engine}: nobody answers at {path} ({error.strerror}); start the engine") from None
    except sdk_error() as error:
        raise SandboxFault(f"{engine} refused: {explanation(error)}") from error
    except OSError as error:  # of which kind the errors of requests are, too
        raise SandboxFault(f"{engine} at {path} stopped answering: {error}") from error


def sdk_error() -> type[Exception]:
    from docker.errors import DockerException

    return DockerException


def explanation(error: Any) -> str:  # Any: the SDK has no types
    return str(getattr(error, "explanation", None) or error)


def abilities_of(info: Mapping[str, Any]) -> Abilities:  # Any: parsed JSON
    """Docker Engine API, SystemInfo."""
    options = info.get("SecurityOptions") or []
    return Abilities(
        version=str(info.get("ServerVersion")),
        rootless=any("name=rootless" in option or "name=userns" in option for option in options),
        seccomp=any("name=seccomp" in option for option in options),
        limits={
            "memory_mb": bool(info.get("MemoryLimit")),
            "pids": bool(info.get("PidsLimit")),
            "cpus": bool(info.get("CpuCfsQuota")),
        },
        runtimes=sorted(info.get("Runtimes") or {}),
    )


def inspect(client: "APIClient", name: str, engine: str) -> Image:
    from docker.errors import APIError

    try:
        found = client.inspect_image(name)  # type: ignore[no-untyped-call]
    except APIError as error:
        if error.status_code != 404:
            raise
        raise UsageError(
            f"{engine} has no image '{name}'; pull or build it first (`{engine} pull {name}`; ours are built "
            f"by `sandboxes/images/build {engine} base`), or name one that it has"
        ) from None
    config = found.get("Config") or {}
    return Image(name, found["Id"], config.get("Env") or (), sorted(config.get("Volumes") or {}))


def started(client: "APIClient", name: str, image: Image, config: Mapping[str, object]) -> socket.socket:
    from docker.errors import APIError

    client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
    try:
        end = attached(client, name)
        try:
            client.start(name)
        except BaseException:
            end.close()
            raise
    except APIError as error:
        removed(client, name)
        if "python3" in explanation(error):
            raise UsageError(
                f"image '{image.name}' has no python3 on its PATH; install one there, of version 3.8 or later"
            ) from None
        raise
    return end


def attached(client: "APIClient", name: str) -> socket.socket:
    """A connection to the container's stdin, stdout and stderr that outlives the SDK's response."""
    streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
    wrapped = client.attach_socket(name, params=streams)
    end = socket.socket(fileno=os.dup(wrapped.fileno()))
    wrapped._response.close()  # the SDK ties the two together
    return end


def removed(client: "APIClient", name: str) -> None:
    """Returns once the container has gone, whoever removes it: it removes itself when its main process ends, and until
    that is done an engine may refuse (Podman: "container state improper").

    Raises:
        APIError: it is still there after REMOVED_S.
    """
    from docker.errors import APIError

    give_up = time.monotonic() + REMOVED_S
    while exists(client, name):
        try:
            client.remove_container(name, force=True, v=True)
        except APIError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def exists(client: "APIClient", name: str) -> bool:
    """Whether the engine knows it; one that was killed may list containers that it does not know any more."""
    from docker.errors import NotFound

    try:
        client.inspect_container(name)
    except NotFound:
        return False
    return True
