"""Replicas: several servers of the same weights as one engine.

Invariants: each token of a generation is given once. Where a server fails in the middle, the generation goes on
elsewhere from the tokens that it has: these were sampled as they should be, and to throw them away would favour short
answers, which are cut less often. One that gets no further in `ATTEMPTS` attempts in a row fails as a whole.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import numpy as np
from anyio.abc import TaskGroup

from envhub.contracts.engine import EngineChunk, EngineRequest, ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.quota import Quota
from envhub.contracts.turn import Finish
from envhub.engines.progress import Progress
from envhub.engines.replica import ANSWER_S, Replica
from envhub.engines.rotation import Rotation
from envhub.errors import EngineFault

ATTEMPTS = 3  # in a row that bring a generation no further
STALL_S = 120.0  # without a chunk, after which a server counts as failed
RELOAD_S = 300.0  # that a server has to take new weights
CLOSED = "the engine is closed; open another one"


class Replicas:
    """Open it with `open_replicas`. A server runs at most as many generations as its quota says; more wait here."""

    def __init__(self, tasks: TaskGroup, context_tokens: int, places: int) -> None:
        self.context_tokens = context_tokens
        self._tasks = tasks
        self._rotation = Rotation()
        self.quota = Quota(places, self._running, self._waiting, self._resized)  # of generations on one server
        self._expected: PolicyVersion | None = None  # of the weights; None: whatever each server has
        self._held = False  # they generate nothing
        self._aborts = False  # what ran when they were held

    @property
    def outages(self) -> Mapping[str, str]:
        """Why which servers are out of rotation."""
        return {name: replica.out for name, replica in self._rotation.replicas.items() if replica.out}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._rotation.replicas)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        progress = Progress(request, self.context_tokens)
        vain = 0  # attempts in a row
        while progress.finish is None:
            before = progress.tokens
            async with self._rotation.place(request.request_id) as replica:
                try:
                    async with aclosing(self._part(replica, progress.next_part())) as chunks:
                        async for chunk in chunks:
                            progress.add(chunk)
                            if len(chunk.ids) or chunk.finish:
                                yield chunk
                            if chunk.finish:
                                replica.succeed()
                                return
                except EngineFault as fault:
                    if not fault.retryable:  # it is the request's, not the server's
                        raise
                    replica.fail(str(fault))
                    reason = f"{replica.name}: {fault}"
                else:
                    reason = f"{replica.name}: it was cut there"
            vain = 0 if progress.tokens > before else vain + 1
            if vain == ATTEMPTS:
                raise EngineFault(f"a generation got no further in {ATTEMPTS} attempts, the last one on {reason}")
        yield EngineChunk(np.empty(0, np.int32), np.empty(0, np.float32), progress.version, progress.finish)

    async def _part(self, replica: Replica, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """What one server gives, until it finishes, or the generation is cut there."""
        async with aclosing(replica.engine.generate(request)) as chunks:
            while not replica.left and (chunk := await self._next(replica, chunks)):
                replica.heard_at = anyio.current_time()
                cut = chunk.finish is Finish.ABORT and not self._aborts  # by nobody here
                yield replace(chunk, finish=None) if cut else chunk
                if chunk.finish:
                    return

    async def _next(self, replica: Replica, chunks: AsyncGenerator[EngineChunk, None]) -> EngineChunk | None:
        """The next chunk; None where the server left meanwhile."""
        with anyio.CancelScope(deadline=self._silent_until) as silence:
            replica.silences.add(silence)
            try:
                return await anext(chunks)
            except StopAsyncIteration:
                raise EngineFault("it stopped without a finish reason") from None
            finally:
                replica.silences.discard(silence)
        if replica.left:
            return None
        raise EngineFault(f"it was silent for {STALL_S:g} s")

    @property
    def _silent_until(self) -> float:
        return float("inf") if self._held else anyio.current_time() + STALL_S

    async def health(self) -> None:
        if self._rotation.closed:
            raise EngineFault(self._rotation.closed, retryable=False)
        if not self._rotation.replicas.keys() - self.outages.keys():
            raise EngineFault(f"no server is in rotation: {self._rotation.outages}")

    async def version(self) -> PolicyVersion:
        versions: list[PolicyVersion] = []

        async def ask(replica: Replica) -> None:
            versions.append(await replica.engine.version())

        await self._each(ask, ANSWER_S)
        return min(versions)

    async def pause(self, *, keep: bool) -> None:
        self._hold(True)
        self._aborts = not keep
        await self._each(lambda replica: replica.hold(keep=keep), ANSWER_S)

    async def resume(self) -> None:
        try:
            await self._each(lambda replica: replica.release(), ANSWER_S)
        finally:
            self._hold(False)
            self._aborts = False
            self._rotation.grant()

    async def reload(self, weights: str, version: PolicyVersion, *, server_s: float = RELOAD_S) -> None:
        """As ServedEngine says; a server that takes longer than `server_s` is left behind."""

        async def reload(replica: Replica) -> None:
            if replica.out:
                with anyio.fail_after(ANSWER_S):
                    await replica.engine.health()  # lest one that is gone makes all wait
            await replica.engine.reload(weights, version)

        await self._each(reload, server_s)
        await self.expect(version)

    async def expect(self, version: PolicyVersion) -> None:
        """From now on only servers with that version of the weights generate.

        Raises:
            EngineFault: none has it; nothing has changed.
        """
        faults: dict[Replica, str] = {}

        async def look(replica: Replica) -> None:
            faults[replica] = await replica.fault(version)

        await self._side_by_side(look)
        if all(faults.values()):
            found = "; ".join(f"{replica.name}: {fault}" for replica, fault in faults.items())
            raise EngineFault(f"no server has version {version} of the weights ({found})")
        self._expected = version
        for replica, fault in faults.items():
            replica.judge(fault)

    async def follow(self, version: PolicyVersion) -> None:
        """Like expect, where another process has seen a server with that version."""
        self._expected = version

        async def look(replica: Replica) -> None:
            replica.judge(await replica.fault(version))

        await self._side_by_side(look)

    def leave(self, name: str) -> ServedEngine:
        """The server of that name, which is no longer one of these: what runs there goes on elsewhere.

        Raises:
            EngineFault: it is the only one.
        """
        if len(self._rotation.replicas) == 1:
            raise EngineFault(f"{name} is the only server of its policy, which could then generate nothing")
        replica = self._rotation.replicas.pop(name)
        replica.leave()
        return replica.engine

    async def join(self, name: str, engine: ServedEngine) -> None:
        """One more server, in rotation once it has the expected version of the weights."""
        replica = Replica(name, engine, self.quota.limit, self._rotation.grant)
        replica.judge(await replica.fault(self._expected))
        self._rotation.replicas[name] = replica
        self._tasks.start_soon(self._watch, replica)
        self._rotation.grant()

    def _running(self) -> int:
        return max((replica.running for replica in self._rotation.replicas.values()), default=0)

    def _waiting(self) -> int:
        in_rotation = sum(not replica.out for replica in self._rotation.replicas.values())
        return -(-self._rotation.waiting // max(1, in_rotation))

    def _resized(self) -> None:
        for replica in self._rotation.replicas.values():
            replica.places = self.quota.limit
        self._rotation.grant()

    async def close(self) -> None:
        self._rotation.close(CLOSED)
        await self._side_by_side(lambda replica: replica.engine.close())

    def _hold(self, held: bool) -> None:
        self._held = held
        for replica in self._rotation.replicas.values():
            for silence in replica.silences:
                silence.deadline = self._silent_until

    async def _watch(self, replica: Replica) -> None:
        while not replica.left:
            await replica.due()
            if not self._held:
                await replica.check(self._expected)

    async def _each(self, act: Callable[[Replica], Awaitable[None]], seconds: float) -> None:
        """Does it with all servers side by side; those where it fails are out of rotation.

        Raises:
            EngineFault: it failed with all of them.
        """
        done: list[Replica] = []

        async def attempt(replica: Replica) -> None:
            try:
                with anyio.fail_after(seconds):
                    await act(replica)
            except EngineFault as fault:
                replica.eject(str(fault))
            except TimeoutError:
                replica.eject(f"it did not answer within {seconds:g} s")
            else:
                done.append(replica)

        await self._side_by_side(attempt)
        if not done:
            raise EngineFault(f"it failed with every server: {self._rotation.outages}")

    async def _side_by_side(self, act: Callable[[Replica], Awaitable[None]]) -> None:
        async def do(replica: Replica) -> None:
            await act(replica)

        async with anyio.create_task_group() as tasks:
            for replica in list(self._rotation.replicas.values()):
                tasks.start_soon(do, replica)


@asynccontextmanager
async def open_replicas(engines: Mapping[str, ServedEngine], *, places: int) -> AsyncIterator[Replicas]:
    """The servers as one engine, watched meanwhile. Closing them is up to who opened them."""
    async with anyio.create_task_group() as tasks:
        replicas = Replicas(tasks, min(engine.context_tokens for engine in engines.values()), places)
        try:
            async with anyio.create_task_group() as joining:
                for name, engine in engines.items():
                    joining.start_soon(replicas.join, name, engine)
            yield replicas
        finally:
            tasks.cancel_scope.cancel()
