"""Worker processes whose engines take new weights: of servers that they share, or of models of their own."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from envhub.contracts.engine import EngineChunk, EngineRequest, Model, ServedEngine
from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion
from envhub.engines.replicas import open_replicas
from envhub.engines.scripted import ScriptedEngine
from envhub.environments.pool import EnvironmentPool
from envhub.rollouts.admission import Slots
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import Platform, ServedPolicy
from envhub.rollouts.recorder import Recording
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from envhub.tokens.chat import ChatRenderer
from tests.rollouts.crews import answer

SHARED, OWN = f"{__name__}:shared_servers", f"{__name__}:own_models"
FROZEN = PolicyId("frozen")


class FileServer:
    """A server whose state is a folder, so that it is the same one in every process."""

    context_tokens = 8192

    def __init__(self, folder: Path, latency_s: float) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._engine = ScriptedEngine(answer, ByteTokenizer(), latency_s=latency_s)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        async for chunk in self._engine.generate(request):
            yield EngineChunk(chunk.ids, chunk.logprobs, await self.version(), chunk.finish)

    async def health(self) -> None:
        """It is there."""

    async def version(self) -> PolicyVersion:
        log = self.loads
        return PolicyVersion(int(log[-1].split()[1])) if log else PolicyVersion(0)

    async def pause(self, *, keep: bool) -> None:
        (self._folder / "paused").touch()

    async def resume(self) -> None:
        (self._folder / "paused").unlink(missing_ok=True)

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        with (self._folder / "loads").open("a") as log:
            log.write(f"{weights} {version}\n")

    async def close(self) -> None:
        await self._engine.close()

    @property
    def loads(self) -> list[str]:
        log = self._folder / "loads"
        return log.read_text().splitlines() if log.exists() else []


def loads(folder: Path) -> list[str]:
    """What a server took, each as "WEIGHTS VERSION"."""
    return FileServer(folder, 0.0).loads


@asynccontextmanager
async def shared_servers(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """`settings`: the folder of the servers a, b (of the policy that trains), c and d (of a frozen one)."""
    folder = Path(settings.decode())
    servers = {name: FileServer(folder / name, 0.2) for name in "abcd"}
    async with (
        open_replicas({name: servers[name] for name in "ab"}, places=16) as trained,
        open_replicas({name: servers[name] for name in "cd"}, places=16) as frozen,
    ):
        yield platform({TRAINED: trained, FROZEN: frozen}, recorder)


@asynccontextmanager
async def own_models(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """`settings`: a folder in which each process has one for its own engine, by its pid."""
    yield platform({TRAINED: FileServer(Path(settings.decode()) / str(os.getpid()), 0.2)}, recorder)


def platform(engines: dict[PolicyId, ServedEngine], recorder: Recording) -> Platform:
    tokenizer = ByteTokenizer()
    models = {policy: Model("files", engine, tokenizer, CHATML_TEMPLATE) for policy, engine in engines.items()}
    policies = {policy: ServedPolicy(model, ChatRenderer.of(model)) for policy, model in models.items()}
    return Platform(policies, EnvironmentPool(), Slots(16), recorder, Pauses())
