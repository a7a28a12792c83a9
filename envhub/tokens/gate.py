"""Gate: what each generation passes before it begins and while it runs."""

from contextlib import AbstractContextManager
from typing import Protocol

import anyio

from envhub.contracts.ids import PolicyId


class Gate(Protocol):
    """What every generation passes: who may hold it, cut it or end it."""

    @property
    def aborted(self) -> bool:
        """The whole rollout is being ended; what it has so far is to be saved."""

    @property
    def pinned(self) -> bool:
        """A generation that was cut goes on under the version that it began with."""

    def keeps(self, policy_id: PolicyId) -> bool:
        """Whether a generation that runs is held where it is."""

    def shut(self, policy_id: PolicyId) -> bool:
        """Whether generations may not go on."""

    async def open(self, policy_id: PolicyId) -> None:
        """Returns once generations may go on."""

    def call(self, policy_id: PolicyId) -> AbstractContextManager[anyio.CancelScope]:
        """A generation within; a cancelled scope has cut it."""


class OpenGate:
    """A gate that nobody shuts."""

    aborted = pinned = False

    def keeps(self, policy_id: PolicyId) -> bool:
        return False

    def shut(self, policy_id: PolicyId) -> bool:
        return False

    async def open(self, policy_id: PolicyId) -> None:
        """At once."""

    def call(self, policy_id: PolicyId) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.CancelScope()
