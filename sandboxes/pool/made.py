"""Made: a sandbox with what the pool has to know of it, and its certain end."""

from dataclasses import dataclass

import anyio

from envhub.contracts.sandbox import Sandbox, SandboxSpec
from envhub.errors import SandboxFault

CLOSE_S = 30.0  # a back end's own deadline is shorter; past this one the place is given on


@dataclass(frozen=True, slots=True)
class Made:
    """A sandbox of a spec."""

    sandbox: Sandbox
    spec: SandboxSpec
    made_at: float
    idle_pids: int = 0  # of a reusable one, before it served anybody

    async def destroy(self) -> None:
        await destroy(self.sandbox)

    async def ended_processes(self) -> bool:
        """Whether none is left in it."""
        try:
            await self.sandbox.end_processes()
        except SandboxFault:
            return False
        return True


async def destroy(sandbox: Sandbox) -> None:
    """Closes it, also where the caller is cancelled."""
    with anyio.move_on_after(CLOSE_S, shield=True):
        await sandbox.close()
