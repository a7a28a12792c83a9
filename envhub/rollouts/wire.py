"""Wire: what a manager and its worker processes tell each other, and the stream that carries it.

Nothing live crosses: requests and events do, as the bytes that the store keeps of them. A message is never lost while
both ends live, and they come in order. What is sent within a few milliseconds goes in one frame.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Generic, TypeAlias, TypeVar

import anyio
import msgspec
from anyio.abc import ByteStream

from envhub.contracts.events import Event
from envhub.contracts.ids import PolicyId, PolicyVersion, RolloutId
from envhub.contracts.pause import PauseMode, Scope
from envhub.rollouts.admission import Claim
from envhub.rollouts.case import Case
from envhub.rollouts.steering import Order
from envhub.store import codec
from envhub.store.files import files_of, fill
from envhub.store.sealed import sealed, stored

GATHER_S = 0.01  # between two frames: what comes meanwhile goes in one
READ_BYTES = 1 << 18
LENGTH_BYTES = 4
LAST_WORDS_S = 5.0


class Recorded(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An event of a rollout."""

    kind: str
    payload: bytes
    files: dict[str, bytes]  # that it names, by hash

    @classmethod
    def of(cls, event: Event) -> "Recorded":
        # The encoder takes bytes themselves alone.
        files = {sha256: bytes(data) for sha256, data in files_of([event]).items()}
        return cls(*stored(event), files)

    @property
    def event(self) -> Event:
        return fill(codec.decode(self.kind, self.payload), self.files)

    @property
    def sealed(self) -> Event:
        """For who passes it on."""
        return self.event if self.files else sealed(self.kind, self.payload)


class Open(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The first message: how to make the platform of this worker."""

    factory: str  # dotted name, as module:function
    settings: bytes  # the factory's own
    path: list[str]  # where Python finds modules
    at: float  # by the manager's clock


class Start(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Run this try of a member, or of the judging of a group with that case; `history` is what another worker, or an
    earlier process, recorded of its tree."""

    start: Recorded
    standing: Claim
    history: list[Recorded]
    case: Case | None = None


class Cancel(msgspec.Struct, frozen=True, tag=True, array_like=True):
    rollout_id: RolloutId


class Recall(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Others have less to do: give back those of these tries that wait for their turn to begin."""

    rollout_ids: list[RolloutId]


class Pause(msgspec.Struct, frozen=True, tag=True, array_like=True):
    scope: Scope
    mode: PauseMode
    by: str


class Resume(msgspec.Struct, frozen=True, tag=True, array_like=True):
    scope: Scope
    pinned: bool
    by: str


class Abort(msgspec.Struct, frozen=True, tag=True, array_like=True):
    scope: Scope


class Announce(msgspec.Struct, frozen=True, tag=True, array_like=True):
    policy_id: PolicyId
    version: PolicyVersion


class Steer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Have the engine of that policy do it, and answer by the number. Tries that come later wait for it."""

    number: int
    policy_id: PolicyId
    order: Order
    first: bool  # no other worker has done it


class Allot(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """This worker's quota of a limit from now on. Answered by its usage, with that number."""

    name: str
    quota: int
    number: int
    final: bool  # nobody else has any to spare


class Ask(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Answer once all that was sent before is done; for a worker that asks: once it is durable."""

    number: int


class Answer(msgspec.Struct, frozen=True, tag=True, array_like=True):
    number: int


class Stop(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nothing more comes: close what is open, and end."""


class Steered(msgspec.Struct, frozen=True, tag=True, array_like=True):
    number: int
    fault: str  # why it could not be done; "": it is
    servers: dict[PolicyId, tuple[str, ...]]  # as Steering has them now


class Opened(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker takes tries."""

    servers: dict[PolicyId, tuple[str, ...]]  # as Steering has them
    limits: dict[str, int]  # that its manager divides among all workers


class Usage(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What a worker has of a limit."""

    name: str
    total: int  # for all workers
    bound: int  # it holds that many at most, until it is allotted more
    demand: int  # it would hold that many, if it could
    number: int  # of the last allotment that it heard of

    @property
    def wanted(self) -> int:
        """How many more."""
        return max(0, self.demand - self.bound)


class Refused(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker can't be opened as it was told, for this reason."""

    reason: str


class Unable(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """This worker can't run that try, for this reason; it did not begin."""

    rollout_id: RolloutId
    reason: str


class Returned(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A try that was recalled, and did not begin."""

    rollout_id: RolloutId


class Over(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A try does nothing any more; its events came before, if it began at all."""

    rollout_id: RolloutId


class Beat(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker's loop runs."""


ToWorker: TypeAlias = (
    Open | Start | Cancel | Recall | Pause | Resume | Abort | Announce | Steer | Allot | Ask | Answer | Stop
)
ToManager: TypeAlias = Opened | Refused | Unable | Recorded | Over | Returned | Usage | Steered | Ask | Answer | Beat
Message: TypeAlias = ToWorker | ToManager
Received = TypeVar("Received")
FROM_MANAGER: msgspec.msgpack.Decoder[list[ToWorker]] = msgspec.msgpack.Decoder(list[ToWorker])
FROM_WORKER: msgspec.msgpack.Decoder[list[ToManager]] = msgspec.msgpack.Decoder(list[ToManager])


class Link(Generic[Received]):
    """One end of the stream. Open it with `open_link`."""

    def __init__(self, stream: ByteStream, decoder: msgspec.msgpack.Decoder[list[Received]]) -> None:
        self._stream = stream
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._unsent: list[msgspec.Raw] = []
        self._some = anyio.Event()
        self._ending = False
        self._gone = False  # the other end

    def send(self, message: Message) -> None:
        """Takes a message; nothing, where the other end is gone: who reads finds out."""
        if self._gone:
            return
        self._unsent.append(msgspec.Raw(self._encoder.encode(message)))
        self._some.set()

    async def messages(self) -> AsyncGenerator[Received, None]:
        """All that come, until the other end is gone."""
        read = bytearray()
        while True:
            try:
                read += await self._stream.receive(READ_BYTES)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
            at = 0
            for start, end in _frames(read):
                for message in self._decoder.decode(read[start:end]):
                    yield message
                at = end
            del read[:at]

    async def write(self) -> None:
        """Writes what is sent, until the other end is gone, or until all is written that was sent before `end`."""
        while not self._ending or self._unsent:
            await self._some.wait()
            await self._write()
            if self._gone:
                return
            if not self._ending:
                await anyio.sleep(GATHER_S)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._ending = True
        self._some.set()

    async def _write(self) -> None:
        messages, self._unsent, self._some = self._unsent, [], anyio.Event()
        frame = self._encoder.encode(messages)
        try:
            await self._stream.send(len(frame).to_bytes(LENGTH_BYTES, "little") + frame)
        except anyio.BrokenResourceError:
            self._gone = True


def _frames(read: bytearray) -> Iterator[tuple[int, int]]:
    """Where whole frames lie, from start to end."""
    at = LENGTH_BYTES
    while at <= len(read):
        end = at + int.from_bytes(read[at - LENGTH_BYTES : at], "little")
        if end > len(read):
            return
        yield at, end
        at = end + LENGTH_BYTES


def release() -> str:
    """Of envhub: manager and workers have the same, for messages may differ between two."""
    return version("envhub-rl")


@asynccontextmanager
async def open_link(
    stream: ByteStream, decoder: msgspec.msgpack.Decoder[list[Received]]
) -> AsyncIterator[Link[Received]]:
    """The link over that stream, which writes meanwhile; on the way out it writes what is left and closes it."""
    async with stream:
        link = Link(stream, decoder)
        writing = anyio.CancelScope(shield=True)  # a message that was begun is written to its end

        async def write() -> None:
            with writing:
                await link.write()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            try:
                yield link
            finally:
                link.end()
                writing.deadline = anyio.current_time() + LAST_WORDS_S
