"""Sessions: which key acts for which rollout.

Invariants: a key opens one rollout and only until its endpoint closes; what is in flight then is cancelled, and no call
is answered after its session ended, not even one that takes longer than GRACE_S to clean up; keys are kept as digests,
so that none can be logged.
"""

import hmac
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlsplit

import anyio

from envhub.contracts.context import Endpoint
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action, Policy, PolicyInput
from envhub.contracts.turn import Sampling
from envhub.errors import Boundary, boundary
from envhub.gateway.desk import Desk
from envhub.gateway.errors import ApiError

MAX_CALLS = 64  # in flight, a session
GRACE_S = 5.0  # for calls that were cancelled to clean up


class Session:
    """One rollout as the gateway sees it: whose policy acts, and which calls are in flight."""

    def __init__(self, rollout_id: RolloutId, policy: Policy, sampling: Sampling, *, max_calls: int) -> None:
        self.rollout_id = rollout_id
        self.sampling = sampling
        self._policy = policy
        self._max_calls = max_calls
        self._calls: set[anyio.CancelScope] = set()
        self._ended = False
        self._idle = anyio.Event()

    async def act(self, input: PolicyInput) -> Action:
        """One call of the rollout's policy, cut when the session ends.

        Raises:
            ApiError: too many calls are in flight, or the session has ended.
            Truncated, Fault: as of the policy.
        """
        self._admit()
        with anyio.CancelScope() as call:
            self._calls.add(call)
            try:
                with boundary(Boundary.POLICY):
                    action = await self._policy.act(input)
                if not self._ended:
                    return action
            finally:
                self._leave(call)
        raise self._over()

    async def end(self) -> None:
        """Cancels what is in flight and waits until it is gone, for GRACE_S at most."""
        self._ended = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            with anyio.move_on_after(GRACE_S, shield=True):
                await self._idle.wait()

    def _admit(self) -> None:
        if self._ended:
            raise self._over()
        if len(self._calls) >= self._max_calls:
            message = f"{self._max_calls} calls of this rollout are in flight, which is its limit; wait for one to end"
            raise ApiError(429, "rate_limit_exceeded", message, retryable=True)

    def _over(self) -> ApiError:
        return ApiError(401, "rollout_ended", f"rollout '{self.rollout_id}' has ended, and with it this key")

    def _leave(self, call: anyio.CancelScope) -> None:
        self._calls.discard(call)
        if self._ended and not self._calls:
            self._idle.set()


class Sessions:
    """The open sessions of one listener, by key."""

    def __init__(self, base_url: str, *, max_calls: int = MAX_CALLS) -> None:
        self.desk = Desk()
        self._url = f"{_reachable(base_url)}/v1"
        self._max_calls = max_calls
        self._open: dict[str, tuple[bytes, Session]] = {}  # by the public half of the key; digests of the whole

    @asynccontextmanager
    async def open(self, rollout_id: RolloutId, policy: Policy, sampling: Sampling) -> AsyncIterator[Endpoint]:
        """A URL and a key whose calls are `policy.act`; `sampling` is the rollout's, which calls may only shorten."""
        name, key = _new_key()
        session = Session(rollout_id, policy, sampling, max_calls=self._max_calls)
        self._open[name] = (_digest(key), session)
        try:
            yield _Endpoint(self._url, key, rollout_id, self.desk)
        finally:
            del self._open[name]
            await session.end()

    def find(self, key: str) -> Session:
        """
        Raises:
            ApiError: no open session has that key.
        """
        digest, session = self._open.get(_public_half(key), (b"", None))
        if not hmac.compare_digest(digest, _digest(key)) or session is None:
            raise unknown_key()
        return session


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    key: str = field(repr=False)
    rollout_id: RolloutId
    desk: Desk = field(repr=False)

    async def ask(self, messages: Sequence[Message]) -> str:
        return await self.desk.ask(self.rollout_id, self, messages)


def _reachable(url: str) -> str:
    """The URL as programs of this machine reach it: a listener on all addresses has none that one can connect to."""
    parts = urlsplit(url)
    if parts.hostname in (None, "0.0.0.0", "::"):
        loopback = "[::1]" if parts.hostname == "::" else "127.0.0.1"
        return f"{parts.scheme}://{loopback}:{parts.port}"
    return url


def unknown_key() -> ApiError:
    return ApiError(401, "invalid_api_key", "the API key is unknown or revoked: a key is valid until its rollout ends")


def _new_key() -> tuple[str, str]:
    """The public half, by which a session is found, and the whole, which alone opens it."""
    name = secrets.token_hex(8)
    return name, f"envhub-{name}-{secrets.token_urlsafe(32)}"


def _public_half(key: str) -> str:
    return key[len("envhub-") :][:16]


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
