"""Whether a container engine is here: its tests are skipped without, or fail where they were asked for."""

import os

import pytest

from sandboxes.docker.backend import DockerBackend
from sandboxes.docker.gvisor import GvisorBackend

MISSING: dict[type[DockerBackend], str] = {}  # why a back end does not work here; "" where it does


async def need(kind: type[DockerBackend]) -> None:
    """Skips the test where that back end does not work, or fails it where it must."""
    if kind not in MISSING:
        backend = kind()
        probe = await backend.probe()
        await backend.aclose()
        MISSING[kind] = "" if probe.works else probe.detail
    if MISSING[kind] and os.environ.get("ENVHUB_REQUIRE_CONTAINERS") == "1" and kind is not GvisorBackend:
        pytest.fail(f"ENVHUB_REQUIRE_CONTAINERS is 1, but {MISSING[kind]}")
    if MISSING[kind]:
        pytest.skip(MISSING[kind])
