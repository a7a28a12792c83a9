"""Which back end to use: the one asked for, or the first that isolates here."""

from collections.abc import Callable, Mapping

from envhub.contracts.sandbox import SandboxBackend
from envhub.errors import UnknownName, UsageError


async def choose(name: str, backends: Mapping[str, Callable[[], SandboxBackend]]) -> SandboxBackend | None:
    """The back end called `name`, probed. With "auto": the first that works and isolates, or None where none does, for
    code that a model wrote is not run without isolation unless somebody asks for it by name.

    Raises:
        UnknownName: no such back end.
        UsageError: it does not work here.
    """
    if name == "auto":
        return await first_isolating(backends)
    if name not in backends:
        raise UnknownName.of("sandbox back end", name, ["auto", *backends], "envhub doctor")
    backend = backends[name]()
    probe = await backend.probe()
    if not probe.works:
        raise UsageError(f"sandbox back end '{name}' does not work here: {probe.detail}")
    return backend


async def first_isolating(backends: Mapping[str, Callable[[], SandboxBackend]]) -> SandboxBackend | None:
    for make in backends.values():
        backend = make()
        probe = await backend.probe()
        if probe.works and probe.isolates:
            return backend
    return None
