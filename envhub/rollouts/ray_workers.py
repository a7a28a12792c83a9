"""RayPosts: worker processes on the nodes of a Ray cluster.

Ray says on which node, and when a node is gone; all else is as with processes of one machine. Beside each worker there
is an actor (see ray_relay.py), and between it and the manager one call each way at a time, with all that has come since
the last one: a call costs as much as some ten turns.
"""

import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import ray
from anyio.abc import ByteStream
from ray.exceptions import RayActorError, RayError, RuntimeEnvSetupError

from envhub.errors import UsageError, WorkersLost
from envhub.registry import Requirements
from envhub.rollouts import ray_relay
from envhub.rollouts.posts import LAST_BREATH_S, end_of, own_folders
from envhub.rollouts.process_workers import ProcessWorkers, SharedPauses, open_process_workers
from envhub.rollouts.ray_places import CPU, RayPlaces
from envhub.rollouts.ray_relay import Relay
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.wire import release

logger = logging.getLogger(__name__)

PLACE_S = 60.0  # that a cluster has to find a place for a worker
ANSWER_S = 10.0  # that the head of a cluster has to take a connection
GONE_S = 10.0  # that an actor has to end: its node may be out of reach
MAX_LOST = 4  # actors in a row that died before their worker could start
CALLS_PER_S = 500  # that the manager makes to all workers together, at most: with more workers, more comes in each
SHORTEST_S = 0.1  # between two of them to one worker


class RelayStream(ByteStream):
    """Bytes to and from a worker, through its actor."""

    def __init__(self, actor: Any, gather_s: float) -> None:  # Any: an actor's methods are made from its class
        self._actor = actor
        self._gather_s = gather_s
        self._sent_at = -gather_s
        self._reading = anyio.CancelScope()
        self.fault = ""  # what Ray said when the worker was gone

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As much as came, though it be more than `max_bytes`."""
        data = b""
        try:
            with self._reading:
                data = await self._actor.get.remote(self._gather_s)
        except RayError as error:
            self.fault = gist_of(error)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await anyio.sleep_until(self._sent_at + self._gather_s)
        self._sent_at = anyio.current_time()
        try:
            await self._actor.put.remote(item)
        except RayError as error:
            self.fault = gist_of(error)
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """A worker ends by a message, not by the end of its stream."""

    async def aclose(self) -> None:
        self.cut()

    def cut(self) -> None:
        """Nothing comes any more."""
        self._reading.cancel()


class RayPost:
    """A worker process on some node."""

    def __init__(self, actor: Any, where: str, pid: int, gather_s: float) -> None:
        self.stream = RelayStream(actor, gather_s)
        self.pid = pid
        self.name = f"worker process {pid} on {where}"
        self.end = ""
        self._actor = actor

    def kill(self) -> None:
        self.stream.cut()  # `leave` does the rest, and knows whether it worked
        self._actor.end.remote(0.0)

    async def leave(self) -> None:
        with anyio.move_on_after(GONE_S) as waiting:
            try:
                self.end = end_of(await self._actor.end.remote(LAST_BREATH_S))
            except RayError as error:
                self.end = f"is gone: {self.stream.fault or gist_of(error)}"
        if waiting.cancelled_caught:
            self.end = f"did not answer for {GONE_S:g} s; its node may be out of reach"
        ray.kill(self._actor)


class RayPosts:
    """Nodes of the Ray cluster that this process is connected to."""

    def __init__(self, places: RayPlaces, bounds: Bounds) -> None:
        self._places = places
        self._gather_s = max(SHORTEST_S, bounds.most / CALLS_PER_S)
        self._patient = set(range(bounds.least, bounds.most))  # workers that wait for a place as long as it takes

    @property
    def path(self) -> list[str]:
        return own_folders()  # a node has its own Python and packages

    async def hire(self, index: int, requires: Requirements) -> RayPost:
        for _ in range(MAX_LOST):
            actor = self._actor(index)
            try:
                where, pid, missing = await self._opened(actor, index, requires)
            except RayActorError as error:
                logger.warning("the actor of worker %d died before its worker could start: %s", index, gist_of(error))
                lost = error
                continue
            except BaseException:
                ray.kill(actor)
                raise
            if missing:
                ray.kill(actor)
                raise UsageError(f"{where} {missing}; or keep workers off that node, by what they need or by labels")
            self._patient.add(index)  # it had one before
            return RayPost(actor, where, pid, self._gather_s)
        raise WorkersLost(f"{MAX_LOST} Ray actors in a row died before a worker could start, the last: {gist_of(lost)}")

    def _actor(self, index: int) -> Any:
        needs = dict(self._places.needs)
        options = {
            "num_cpus": needs.pop(CPU, 0.0),
            "num_gpus": needs.pop("GPU", 0.0),
            "memory": needs.pop("memory", None),
            "resources": needs,
            "label_selector": dict(self._places.labels),
            "scheduling_strategy": "SPREAD",
            "max_restarts": 0,
        }
        return ray.remote(Relay).options(**options).remote()

    async def _opened(self, actor: Any, index: int, requires: Requirements) -> tuple[str, int, str]:
        """What `Relay.open` says."""
        opening = actor.open.remote(release(), requires)
        while True:
            with anyio.move_on_after(PLACE_S):
                try:
                    opened: tuple[str, int, str] = await opening
                    return opened
                except RuntimeEnvSetupError as error:
                    raise UsageError(f"Ray can't set up a worker's runtime environment: {gist_of(error)}") from error
            if index not in self._patient:
                raise UsageError(f"{self._no_place(index)}; add nodes, run fewer workers, or let them need less")
            logger.warning("%s; it waits for one", self._no_place(index))

    def _no_place(self, index: int) -> str:
        free = {name: amount for name, amount in ray.available_resources().items() if not name.startswith("node:")}
        found = ", ".join(f"{amount:g} {name}" for name, amount in sorted(free.items()))
        return f"the Ray cluster has no place for worker {index}, which needs {self._places}; free in it: {found}"


@asynccontextmanager
async def open_ray_workers(
    places: RayPlaces, crew: Crew, recorder: Recorder, pauses: SharedPauses
) -> AsyncIterator[ProcessWorkers]:
    """Workers in those places; as `open_process_workers`.

    Raises:
        UsageError: the cluster does not answer, or has no place for them, or lacks what they need.
    """
    async with (
        connected(places.address),
        open_process_workers(crew, recorder, pauses, RayPosts(places, crew.bounds)) as workers,
    ):
        yield workers


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[None]:
    """This process as part of that cluster; it stays as it is where it was before."""
    ray.cloudpickle.register_pickle_by_value(ray_relay)
    if ray.is_initialized():
        yield
        return
    try:
        await _look_for(address)
        await anyio.to_thread.run_sync(_connect, address)
        _take_back_sigterm()
    except (OSError, RayError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster answers at '{address}': {gist_of(error)}; `ray start --head` makes one"
        ) from error
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(ray.shutdown)


async def _look_for(address: str) -> None:
    """
    Raises:
        OSError: nobody listens there. Ray would try for minutes.
    """
    host, _, port = address.rpartition(":")
    if host:
        with anyio.fail_after(ANSWER_S):
            stream = await anyio.connect_tcp(host, int(port))
        await stream.aclose()


def _connect(address: str) -> None:
    ray.init(address=address, configure_logging=False)


def _take_back_sigterm() -> None:
    """Ray's handler of it would abort this process three seconds later, in the middle of a drain."""
    if threading.current_thread() is threading.main_thread() and (handler := signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, handler)
        signal.siginterrupt(signal.SIGTERM, False)  # as the event loop had it


def gist_of(error: Exception) -> str:
    """What Ray says, without what it suggests."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("class_name:", "actor_id:", "pid:", "namespace:", "ip:"))]
    return " ".join(told).partition(" Some common causes")[0]
