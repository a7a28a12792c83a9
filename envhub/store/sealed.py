"""Sealed events: turns and steps as the bytes that stores keep of them, opened only where somebody looks inside.

The manager of worker processes records what they report, and keeps it for the case that one dies; nearly nothing of it
is looked at there. A sealed event is what it was made of, but that its `turn` or `step` is decoded, into an object of
its own, each time that somebody asks for it.
"""

import sys
from collections.abc import Sequence
from typing import TypeAlias, cast

import msgspec

from envhub.contracts.events import Event, StepRecorded, TurnRecorded
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.step import Step
from envhub.contracts.turn import Span, Turn
from envhub.errors import StoreError
from envhub.store import codec

ID_BYTES = 4


class SealedTurn(TurnRecorded):
    __slots__ = ("payload",)
    payload: bytes

    def __init__(self, payload: bytes) -> None:
        _fill(self, payload)

    @property
    def turn(self) -> Turn:
        return cast(TurnRecorded, codec.decode(TURN, self.payload)).turn


class SealedStep(StepRecorded):
    __slots__ = ("payload",)
    payload: bytes

    def __init__(self, payload: bytes) -> None:
        _fill(self, payload)

    @property
    def step(self) -> Step:
        return cast(StepRecorded, codec.decode(STEP, self.payload)).step


Sealed: TypeAlias = SealedTurn | SealedStep
TURN, STEP = "turn_recorded", "step_recorded"
_SEALED: dict[str, type[Sealed]] = {TURN: SealedTurn, STEP: SealedStep}
_KIND_OF = {cls: kind for kind, cls in _SEALED.items()}


class Gist(msgspec.Struct, frozen=True):
    """What is counted of a turn."""

    spans: Sequence[Span]
    prompt_tokens: int
    sampled_tokens: int


def sealed(kind: str, payload: bytes) -> Event:
    """The event of these bytes, which shows no picture that comes with its file; sealed where it is a turn or a step.

    Raises:
        StoreError: the bytes are no event.
    """
    cls = _SEALED.get(kind)
    return codec.decode(kind, payload) if cls is None else cls(payload)


def stored(event: Event) -> tuple[str, bytes]:
    """The kind and the bytes that a store keeps of the event.

    Raises:
        StoreError: it holds what is no data.
    """
    if isinstance(event, (SealedTurn, SealedStep)):  # a union is looked through in three times the time
        return _KIND_OF[type(event)], event.payload
    return codec.kind_of(event), codec.encode(event)


def gist_of(event: TurnRecorded) -> Gist:
    """Of a sealed turn, without opening it."""
    if isinstance(event, SealedTurn):
        turn = _IN_SHORT.decode(event.payload).turn
        return Gist(turn.spans, len(turn.delta_ids) // ID_BYTES, len(turn.output_ids) // ID_BYTES)
    return Gist(event.turn.spans, len(event.turn.delta_ids), len(event.turn.output_ids))


class _Head(msgspec.Struct):
    run_id: RunId
    at: float
    rollout_id: RolloutId


class _ShortTurn(msgspec.Struct):
    spans: tuple[Span, ...]
    delta_ids: bytes
    output_ids: bytes


class _InShort(msgspec.Struct):
    turn: _ShortTurn


_HEAD = msgspec.msgpack.Decoder(_Head)
_IN_SHORT = msgspec.msgpack.Decoder(_InShort)


def _fill(event: Sealed, payload: bytes) -> None:
    try:
        head = _HEAD.decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreError(f"an event of {len(payload)} bytes is damaged: {error}") from error
    # One text for all events of a rollout: a manager keeps many.
    object.__setattr__(event, "run_id", RunId(sys.intern(head.run_id)))
    object.__setattr__(event, "rollout_id", RolloutId(sys.intern(head.rollout_id)))
    object.__setattr__(event, "at", head.at)
    object.__setattr__(event, "payload", payload)
