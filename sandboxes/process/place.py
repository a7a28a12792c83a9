"""LocalPlace: a place whose outermost process is a child of this one, with a folder of its own on the host."""

from dataclasses import dataclass
from pathlib import Path

import anyio

from envhub.contracts.sandbox import SandboxSpec, SandboxStats
from sandboxes.inside.files import remove_tree
from sandboxes.place import Sockets
from sandboxes.spawner import AgentProcess


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A Place. `folder` goes with it; it holds the working directory where that lies on the host's disk."""

    id: str
    backend: str
    spec: SandboxSpec
    workdir: str
    process: AgentProcess
    folder: Path
    sockets: Sockets | None = None
    uid: int | None = None

    def messages(self) -> str:
        return self.process.messages()

    def stats(self) -> SandboxStats | None:
        return None

    async def end(self) -> None:
        await self.process.end()
        if self.folder.exists():
            await anyio.to_thread.run_sync(remove_tree, str(self.folder))
