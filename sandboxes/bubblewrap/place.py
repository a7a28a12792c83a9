"""BubblewrapPlace: what the host makes for one sandbox of bubblewrap, from its first preparation to its end."""

from dataclasses import dataclass
from pathlib import Path

import anyio

from envhub.contracts.sandbox import SandboxSpec, SandboxStats
from sandboxes.bubblewrap.root_folder import RootFolder
from sandboxes.cgroup import Cgroup
from sandboxes.inside.files import remove_tree
from sandboxes.layers import Layer
from sandboxes.place import Sockets
from sandboxes.root_view import WORKDIR
from sandboxes.spawner import AgentProcess


@dataclass(slots=True, eq=False)
class BubblewrapPlace:
    """A Place. What is asked for comes first, then what has been made so far."""

    id: str
    backend: str
    spec: SandboxSpec
    root: RootFolder | None  # None: the host's /usr
    files: Layer | None  # held until the end
    folder: Path
    uid: int | None = None
    group: Cgroup | None = None
    ooms: int = -1  # the descriptor of the group that counts what was killed for memory; inside it has the same number
    sockets: Sockets | None = None
    process: AgentProcess | None = None
    workdir: str = WORKDIR

    def messages(self) -> str:
        return self.process.messages() if self.process else ""

    def stats(self) -> SandboxStats | None:
        return self.group.stats() if self.group else None

    async def end(self) -> None:
        if self.group:
            self.group.kill()
        if self.process:
            await self.process.end()
        if self.group:
            await self.group.remove()
        files, self.files = self.files, None
        if files:
            await files.release()
        if self.folder.exists():
            await anyio.to_thread.run_sync(remove_tree, str(self.folder))
