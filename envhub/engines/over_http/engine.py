"""HttpEngine: what engines on servers share: a generation is a stream of events, its tokens checked, each of a version
that is certain, and with logprobs that are known to be of the distribution that was sampled from."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from itertools import count

import anyio

from envhub.contracts.engine import EngineChunk, EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish, Sampling
from envhub.engines.over_http.connection import HttpServer, may_pass
from envhub.engines.over_http.held_tokens import HeldTokens, Piece
from envhub.engines.over_http.version_watch import VersionWatch
from envhub.engines.request_check import check_request
from envhub.errors import EngineFault

GIVING_UP_S = 5.0
HELD_S = 0.1  # about the longest that tokens wait until their version is asked for
# Both choose the likeliest token. At the second that choice is all but certain: a server that gives logprobs of the
# distribution it samples from says so, one that gives those before temperature says the same of both.
PROBES = (Sampling(temperature=0.0, max_tokens=16, seed=1), Sampling(temperature=0.01, max_tokens=16, seed=1))
# Likewise of truncated sampling: the one id that is left is certain. A server that tells what is left takes no others.
TRUNCATED_PROBE = Sampling(temperature=1.0, max_tokens=16, seed=1, top_k=1)
ROUNDING = 1e-5  # nats


class HttpEngine(ABC):
    """An engine on a server. A subclass says how its kind of server is spoken to.

    A stream that stays silent is waited for; who uses the engine bounds the wait.
    """

    def __init__(
        self, server: HttpServer, context_tokens: int, *, takes_images: bool, gives_masks: bool = False
    ) -> None:
        """`takes_images`: the server makes of each placeholder in a prompt what its model sees of the image there.
        `gives_masks`: it can say which ids truncated sampling leaves."""
        self.context_tokens = context_tokens
        self.takes_images = takes_images
        self.gives_masks = gives_masks
        self._server = server
        self._versions = VersionWatch(self._ask_version)
        self._probing = anyio.Lock()
        self._follows_sampling: bool | None = None  # its logprobs do; None: not known yet
        self._numbers = count()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        check_request(request, self.context_tokens, takes_images=self.takes_images, gives_masks=self.gives_masks)
        sampling = request.sampling
        # At 1 and of all ids every server means the same, and at 0 the choice is certain.
        if sampling.temperature not in (0.0, 1.0) or sampling.truncated:
            await self._require_sampled_from(request)
        held = HeldTokens(
            await self._versions.known(),
            greedy=sampling.temperature == 0.0,
            masked=sampling.truncated,
            unrouted=len(request.prompt_ids) - request.routed_from,
        )
        due_at = anyio.current_time() + HELD_S  # when the versions are asked for
        async with aclosing(self._arrivals(request, held)) as arrivals:
            async for _ in arrivals:
                if held.finish is None and (held.told or (held.waits and anyio.current_time() > due_at)):
                    for chunk in await self._settled(held):
                        yield chunk
                    due_at = anyio.current_time() + HELD_S
        if held.finish is None:
            raise EngineFault("the server ended its answer without a finish reason")
        if held.finish is Finish.LENGTH and held.received < sampling.max_tokens:
            held.finish = Finish.CONTEXT
        for chunk in await self._settled(held):
            yield chunk

    async def health(self) -> None:
        await self._server.get("/health")

    async def version(self) -> PolicyVersion:
        return await self._versions.after(anyio.current_time())

    async def close(self) -> None:
        await self._server.close()

    @abstractmethod
    async def _ask_version(self) -> PolicyVersion:
        """Of the weights that the server generates with now."""

    @abstractmethod
    def _asked(self, request: EngineRequest) -> tuple[str, Mapping[str, object]]:
        """Where and how the server is asked to generate: a path and a body."""

    @abstractmethod
    def _read(self, event: bytes, received: int) -> Piece | None:
        """What an event brought after `received` tokens; None: nothing of the generation.

        Raises:
            EngineFault: retryable, it can't be read, or tells of an error.
        """

    async def _arrivals(self, request: EngineRequest, held: HeldTokens) -> AsyncGenerator[None, None]:
        """Lets `held` have what comes, as it comes."""
        asked = self._bounded(request)
        try:
            async with aclosing(self._server.events(*self._asked(asked))) as arrivals:
                async for events in arrivals:
                    for event in events:
                        piece = self._read(event, held.received)
                        if piece is not None:
                            held.add(piece)
                    yield
        finally:
            if held.finish is None:
                with anyio.move_on_after(GIVING_UP_S, shield=True):
                    await self._give_up(asked.request_id)

    async def _give_up(self, request_id: str) -> None:  # noqa: B027 - most servers need no more than to be hung up on
        """Nobody waits any more for a request, whose connection is closed."""

    def _bounded(self, request: EngineRequest) -> EngineRequest:
        """With no more tokens than the context has room for, as servers refuse to be asked for more; and with an id
        that no other request of this engine has, not even the same one again."""
        sampling, room = request.sampling, self.context_tokens - len(request.prompt_ids)
        if sampling.max_tokens > room:
            sampling = replace(sampling, max_tokens=room)
        return replace(request, request_id=f"{request.request_id}~{next(self._numbers)}", sampling=sampling)

    async def _settled(self, held: HeldTokens) -> list[EngineChunk]:
        return held.settle(None if held.told else await self._versions.after(anyio.current_time()))

    async def _require_version(self, version: PolicyVersion) -> None:
        """To be called after a reload.

        Raises:
            EngineFault: the server has another one.
        """
        now = await self.version()
        if now != version:
            raise EngineFault(f"the server {self._server.url} has version {now} after it was told {version}")

    def _failed(self, reason: str, status: int = 500) -> EngineFault:
        """For a generation that the server ended by an error."""
        return EngineFault(f"the server {self._server.url} failed: {reason}", retryable=may_pass(status))

    async def _require_sampled_from(self, request: EngineRequest) -> None:
        """
        Raises:
            EngineFault: not retryable, the server's logprobs are of another distribution than the one it samples from.
        """
        async with self._probing:
            if self._follows_sampling is None:
                self._follows_sampling = await self._probed(request)
        if not self._follows_sampling:
            truncated = request.sampling.truncated
            raise EngineFault(
                f"the temperature is {request.sampling.temperature}{' and not all ids may be drawn' * truncated}, but "
                f"the server {self._server.url} gives logprobs of the distribution before temperature; start it so "
                "that it gives those it samples from (docs/engines.md), or sample at temperature 1 from all ids",
                retryable=False,
            )

    async def _probed(self, request: EngineRequest) -> bool:
        if request.sampling.truncated:
            return await self._probe(request, TRUNCATED_PROBE) > -ROUNDING
        greedy, cold = [await self._probe(request, sampling) for sampling in PROBES]
        return cold > greedy / 2

    async def _probe(self, request: EngineRequest, sampling: Sampling) -> float:
        """The logprob of a short answer."""
        probe = EngineRequest(f"{request.request_id}~probe", request.prompt_ids, sampling, frozenset())
        held = HeldTokens(PolicyVersion(0), greedy=False)
        async with aclosing(self._arrivals(probe, held)) as arrivals:
            async for _ in arrivals:
                pass
        return float(held.logprobs.sum())
