"""Every attack of the escape and abuse suite against every back end that isolates here."""

from collections.abc import AsyncIterator
from importlib import import_module

import anyio
import pytest

from envhub.testing.escape_suite import ATTACKS, Ground, open_ground
from envhub.testing.escapes.attack import Attack
from tests.sandboxes.conftest import VERDICTS
from tests.sandboxes.containers import need

pytestmark = [pytest.mark.anyio, pytest.mark.sandboxes]
BACKENDS = {
    "bubblewrap": "sandboxes.bubblewrap.backend:BubblewrapBackend",
    "zygote": "sandboxes.zygote.backend:ZygoteBackend",
    "docker": "sandboxes.docker.backend:DockerBackend",
    "podman": "sandboxes.docker.backend:PodmanBackend",
}
CONTAINERS = {"docker", "podman"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.containers] if name in CONTAINERS else []) for name in BACKENDS],
)
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    module, _, name = BACKENDS[request.param].partition(":")
    make = getattr(import_module(module), name)
    if request.param in CONTAINERS:
        await need(make)
    async with open_ground(make) as ground:
        yield ground


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_attack_is_contained(ground: Ground, attack: Attack, request: pytest.FixtureRequest) -> None:
    with anyio.fail_after(60):
        verdict = await ground.assault(attack)
    request.config.stash.setdefault(VERDICTS, []).append(verdict)
    assert not verdict.breaches, attack.attempt
    if verdict.unmet:
        pytest.skip(str(verdict))


async def test_host_is_as_it_was(ground: Ground) -> None:
    assert await ground.changes() == []
