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
from itertools import count
from urllib.parse import urlsplit

import anyio

from envhub.contracts.context import Endpoint
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action, Policy, PolicyInput
from envhub.contracts.raw_call import RawCall
from envhub.contracts.turn import Finish, Fork, Sampling
from envhub.errors import Boundary, Truncated, boundary
from envhub.gateway.call_rules import CallRules
from envhub.gateway.desk import Desk
from envhub.gateway.errors import ApiError
from envhub.gateway.kept_calls import RecordCall
from envhub.gateway.places import PATIENCE_S, Places, Room

MAX_CALLS = 64
ALL_ENFORCED = CallRules()
MAX_ALL_CALLS = 4096  # in flight, a listener
MAX_ROOM = 256 * 2**20  # bytes of bodies that are being received, a session, and as many that wait for their answers
MAX_ALL_ROOM = 2 * 2**30  # that are being received, a listener
MAX_KEPT = 256  # conversations, a session: messages are shared between those that go on from each other
GRACE_S = 5.0  # for calls that were cancelled to clean up


class Session:
    """One rollout as the gateway sees it: whose policy acts, and which calls are in flight."""

    def __init__(
        self,
        rollout_id: RolloutId,
        policy: Policy,
        sampling: Sampling,
        rules: CallRules,
        own: Places,
        shared: Places,
        room: Room,
        record: RecordCall | None = None,
    ) -> None:
        """`own` places are for its calls alone, the `shared` ones for those of all sessions; `room` is for their
        bodies. `record` gets each call as it went over the wire, where the rules say so."""
        self.rollout_id = rollout_id
        self.sampling = sampling
        self.rules = rules
        self._policy = policy
        self._record = record if rules.keep_bodies else None
        self._own = own
        self._shared = shared
        self.room = room
        self.unanswered = Room(MAX_ROOM, "this rollout")
        self.kept: dict[str, tuple[Message, ...]] = {}  # conversations by the id of the answer that ended them
        self._numbers = count()
        self.answer: Message | None = None  # the newest of the main conversation
        self.limit = ""  # of the rollout, that a call has met
        self.limit_met = anyio.Event()
        self._calls: set[anyio.CancelScope] = set()
        self._ended = False
        self._idle = anyio.Event()

    def new_id(self) -> str:
        """Of one answer."""
        return f"{self.rollout_id}-{next(self._numbers)}"

    async def act(self, input: PolicyInput, call: anyio.CancelScope) -> Action | None:
        """One call of the rollout's policy, once there is a place for it. It runs within the scope `call`, which the
        end of the session cancels; None where its client has.

        Raises:
            ApiError: too many calls are in flight, or the session has ended.
            Truncated, Fault: as of the policy.
        """
        if self._ended:
            raise self._over()
        with call:
            self._calls.add(call)
            try:
                action = await self._placed(input)
                if not self._ended:
                    if input.fork is Fork.NONE and action.finish is not Finish.ABORT:
                        self.answer = action.message
                    return action
            except Truncated as truncated:
                self.limit = truncated.reason
                self.limit_met.set()
                raise
            finally:
                self._leave(call)
        if not self._ended:
            return None
        raise self._over()

    def keep(self, id: str, conversation: tuple[Message, ...]) -> None:
        """Remembers what a later call may go on from; of many, the newest."""
        self.kept[id] = conversation
        if len(self.kept) > MAX_KEPT:
            del self.kept[next(iter(self.kept))]

    @property
    def keeps_calls(self) -> bool:
        """Whether calls are recorded as they went over the wire."""
        return self._record is not None and not self._ended

    def record(self, call: RawCall) -> None:
        """Records it, while there is a rollout to record it of."""
        if self._record is not None and not self._ended:
            self._record(call)

    def count(self, input: PolicyInput) -> int:
        """The tokens of a prompt, were it sent.

        Raises:
            Fault: as of the policy.
        """
        with boundary(Boundary.POLICY):
            return self._policy.count(input)

    async def end(self) -> None:
        """Cancels what is in flight and waits until it is gone, for GRACE_S at most."""
        self._ended = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            with anyio.move_on_after(GRACE_S, shield=True):
                await self._idle.wait()

    async def _placed(self, input: PolicyInput) -> Action:
        await self._own.take()
        try:
            await self._shared.take()
            try:
                with boundary(Boundary.POLICY):
                    return await self._policy.act(input)
            finally:
                self._shared.give_back()
        finally:
            self._own.give_back()

    def _over(self) -> ApiError:
        return ApiError(401, "rollout_ended", f"rollout '{self.rollout_id}' has ended, and with it this key")

    def _leave(self, call: anyio.CancelScope) -> None:
        self._calls.discard(call)
        if self._ended and not self._calls:
            self._idle.set()


class Sessions:
    """The open sessions of one listener, by key."""

    def __init__(
        self,
        base_url: str,
        *,
        rules: CallRules = ALL_ENFORCED,
        max_calls: int = MAX_CALLS,  # in flight, a session
        patience_s: float = PATIENCE_S,  # of a call that waits for a place
        desk: Desk | None = None,  # None: one of its own
    ) -> None:
        self.desk = desk or Desk()
        self._url = f"{_reachable(base_url)}/v1"
        self._rules = rules
        self._max_calls = max_calls
        self._patience_s = patience_s
        self._places = Places(MAX_ALL_CALLS, "all rollouts", patience_s=patience_s)
        self.room = Room(MAX_ALL_ROOM, "all rollouts")
        self._open: dict[str, tuple[bytes, Session]] = {}  # by the public half of the key; digests of the whole

    @asynccontextmanager
    async def open(
        self, rollout_id: RolloutId, policy: Policy, sampling: Sampling, record: RecordCall | None = None
    ) -> AsyncIterator[Endpoint]:
        """A URL and a key whose calls are `policy.act`; `sampling` is the rollout's, `record` as in Session."""
        name, key = _new_key()
        own = Places(self._max_calls, "this rollout", patience_s=self._patience_s)
        room = Room(MAX_ROOM, "this rollout", self.room)
        session = Session(rollout_id, policy, sampling, self._rules, own, self._places, room, record)
        self._open[name] = (_digest(key), session)
        try:
            yield _Endpoint(self._url, key, session, self.desk)
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
    session: Session = field(repr=False)
    desk: Desk = field(repr=False)

    @property
    def answer(self) -> Message | None:
        return self.session.answer

    async def exhausted(self) -> str:
        await self.session.limit_met.wait()
        return self.session.limit

    async def ask(self, messages: Sequence[Message]) -> str:
        return await self.desk.ask(self.session.rollout_id, self, messages)


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
