"""A used sandbox serves again only when it is clean, and says so itself: with a real back end."""

from collections.abc import AsyncIterator

import pytest

from envhub.contracts.command import ExecRequest
from envhub.contracts.ids import RolloutId
from envhub.contracts.sandbox import Sandbox, SandboxSpec
from envhub.contracts.waiting import Holder
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool

pytestmark = [pytest.mark.anyio, pytest.mark.sandboxes]
SPEC = SandboxSpec(reusable=True)
HOLDER = Holder(RolloutId("a"))


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    backend = BubblewrapBackend()
    async with open_pool(backend, PoolLimits(1)) as pool:
        yield pool
    await backend.aclose()


async def shell(sandbox: Sandbox, command: str) -> str:
    result = await sandbox.exec(ExecRequest(("sh", "-c", command)))
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode()


async def leased_again(pool: Pool, *argv: str) -> tuple[bool, str]:
    """Whether the sandbox in which that ran serves the next lease, and what is left in it."""
    async with pool.lease(SPEC, HOLDER) as lease:
        first = lease.sandbox.id
        result = await lease.sandbox.exec(ExecRequest(argv))
        assert result.exit_code == 0, result.stderr
    async with pool.lease(SPEC, HOLDER) as lease:
        left = await shell(lease.sandbox, "ls -A . /tmp /dev/shm; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        return lease.sandbox.id == first, left


async def test_files_and_processes_of_the_last_lease_are_gone_from_the_same_sandbox(pool: Pool) -> None:
    again, left = await leased_again(pool, "sh", "-c", "echo x > .secret; mkdir d; setsid sleep 600 >/dev/null 2>&1 &")
    assert again
    assert "secret" not in left
    assert "sleep 600" not in left


@pytest.mark.parametrize("place", ["/tmp/.left", "/dev/shm/left", "/tmp/..left/d"])
async def test_what_the_last_lease_left_elsewhere_is_never_seen_by_the_next(pool: Pool, place: str) -> None:
    _, left = await leased_again(pool, "sh", "-c", f"mkdir -p $(dirname {place}) && echo x > {place}")
    assert "left" not in left


async def test_a_locked_folder_hides_nothing_from_the_next_lease(pool: Pool) -> None:
    _, left = await leased_again(pool, "sh", "-c", "echo x > left; chmod 000 .; echo x > /tmp/left; chmod 000 /tmp")
    assert "left" not in left
