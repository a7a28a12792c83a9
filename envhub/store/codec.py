"""Events as bytes: a msgpack map of the contract's fields, arrays as raw little-endian bytes.

A field is found by its name, so an older store is read as long as new fields have defaults. Of data without a type of
its own (arguments, metadata, settings) JSON's types come back, a tuple as a list. Three things are not kept exactly:
lone surrogates (see text.py), integers beyond 64 bits (their digits as text), and what is nested deeper than the
interpreter can walk ("...").
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias, get_args

import msgspec
import numpy as np

from envhub.contracts.events import (
    CallRecorded,
    EpisodeRecorded,
    Event,
    GroupAcked,
    GroupCancelled,
    GroupClosed,
    GroupDropped,
    GroupLeased,
    GroupReturned,
    GroupSubmitted,
    LogRecorded,
    OperatorActed,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    RunStarted,
    ServerMoved,
    SnapshotTaken,
    StepRecorded,
    TurnRecorded,
    VersionAnnounced,
    VersionFailed,
    VersionPending,
)
from envhub.contracts.files import FileBytes
from envhub.contracts.turn import Turn
from envhub.errors import Boundary, Fault, StoreError, boundary
from envhub.store.text import well_formed

KINDS: Mapping[str, type[Event]] = {
    "run_started": RunStarted,
    "group_submitted": GroupSubmitted,
    "rollout_started": RolloutStarted,
    "turn_recorded": TurnRecorded,
    "call_recorded": CallRecorded,
    "step_recorded": StepRecorded,
    "snapshot_taken": SnapshotTaken,
    "episode_recorded": EpisodeRecorded,
    "log_recorded": LogRecorded,
    "rollout_paused": RolloutPaused,
    "rollout_continued": RolloutContinued,
    "rollout_resumed": RolloutResumed,
    "rollout_ended": RolloutEnded,
    "group_closed": GroupClosed,
    "group_leased": GroupLeased,
    "group_returned": GroupReturned,
    "group_acked": GroupAcked,
    "group_dropped": GroupDropped,
    "group_cancelled": GroupCancelled,
    "version_pending": VersionPending,
    "version_failed": VersionFailed,
    "server_moved": ServerMoved,
    "version_announced": VersionAnnounced,
    "operator_acted": OperatorActed,
}
_KIND_OF = {event: kind for kind, event in KINDS.items()}

_ARRAYS = (("delta_ids", np.dtype(np.int32)), ("output_ids", np.dtype(np.int32)), ("logprobs", np.dtype(np.float32)))
_OF_STRANGERS = frozenset({LogRecorded, EpisodeRecorded})  # what plug-ins fill in may be anything
_LITTLE = sys.byteorder == "little"

MAX_DEPTH = 128  # kept of data that is nested too deep to be encoded

# Any: what msgspec hands to a hook, and takes back, is whatever the data holds.
_Data: TypeAlias = Any


def kind_of(event: Event) -> str:
    """The name under which events of this class are stored."""
    return _KIND_OF[type(event)]


def names_of(kinds: Collection[type[Event]]) -> list[str]:
    """The names under which events of these classes are stored."""
    return [_KIND_OF[kind] for kind in kinds]


def encode(event: Event) -> bytes:
    """The event as bytes; the files that it names are kept apart (see files.py).

    Raises:
        StoreError: it holds what is no data (an object, an integer out of range) or an array of another type.
    """
    strangers = type(event) in _OF_STRANGERS
    try:
        if isinstance(event, TurnRecorded):
            _check_arrays(event.turn)
        try:
            return (_LENIENT_ENCODER if strangers else _ENCODER).encode(event)
        except (UnicodeEncodeError, OverflowError, RecursionError):
            return _encode_mended(event, _anything_as_data if strangers else _as_data)
    except (TypeError, msgspec.ValidationError) as error:
        raise StoreError(
            f"a {kind_of(event)} event can't be stored: {error}; give it numbers, text, lists and maps of these only"
        ) from error


def decode(kind: str, payload: bytes) -> Event:
    """The event that was encoded.

    Raises:
        StoreError: the kind is unknown, or the bytes are cut or of another shape.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise StoreError(f"the store holds a '{kind}' event, which this version of envhub does not know; upgrade it")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"a stored {kind} event of {len(payload)} bytes is damaged: {error}") from error


def _check_arrays(turn: Turn) -> None:
    for name, dtype in _ARRAYS:
        array = getattr(turn, name)
        if array.dtype != dtype or array.ndim != 1:
            raise TypeError(f"{name} is {array.dtype} of shape {array.shape}, not {dtype} [T]")


def _as_data(value: _Data) -> _Data:
    if isinstance(value, np.ndarray):
        if not (_LITTLE and value.dtype.isnative):
            value = value.astype(value.dtype.newbyteorder("<"))
        return value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, FileBytes):
        return b""
    raise TypeError(f"{value!r} is of type {type(value).__name__}")


def _anything_as_data(value: _Data) -> _Data:
    """What is no data is kept as its repr: what plug-ins log and inform of must not end the run."""
    if isinstance(value, np.ndarray | np.generic | FileBytes):
        return _as_data(value)
    try:
        with boundary(Boundary.OPERATOR):  # a stranger's __repr__ may do anything
            return repr(value)
    except Fault as fault:
        return f"<{type(value).__name__} whose repr fails: {fault}>"


def _as_array(type: _Data, value: _Data) -> _Data:
    return value if type is object else np.frombuffer(value, _dtype_of(type))


@cache
def _dtype_of(array: _Data) -> np.dtype[Any]:
    """Of `numpy.ndarray[shape, dtype[scalar]]`. How it writes the shape is numpy's affair, and differs by version."""
    (scalar,) = get_args(get_args(array)[1])
    dtype: np.dtype[Any] = np.dtype(scalar)
    return dtype.newbyteorder("<")


def _encode_mended(event: Event, as_data: Callable[[_Data], _Data]) -> bytes:
    """Text and numbers come from models and strangers: what msgpack can't carry of them is replaced, not refused."""
    payload = _ENCODER.encode(_mended(event, as_data))
    _DECODERS[kind_of(event)].decode(payload)  # a field that has to be an integer can't be replaced
    return payload


def _mended(data: _Data, as_data: Callable[[_Data], _Data], depth: int = 0) -> _Data:
    def inner(value: _Data) -> _Data:
        return _mended(value, as_data, depth + 1)

    match data:
        case _ if depth > MAX_DEPTH:
            return "..."
        case str():
            return well_formed(data)
        case int():
            return data if -(2**63) <= data < 2**64 else str(data)
        case FileBytes():
            return as_data(data)
        case float() | bytes() | None:
            return data
        case Mapping():
            return {inner(key): inner(value) for key, value in data.items()}
        case list() | tuple() | set() | frozenset():
            return [inner(value) for value in data]
        case _ if is_dataclass(data):
            return {field.name: inner(getattr(data, field.name)) for field in fields(data)}
        case _:
            return inner(as_data(data))


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_as_data)
_LENIENT_ENCODER = msgspec.msgpack.Encoder(enc_hook=_anything_as_data)
_DECODERS = {kind: msgspec.msgpack.Decoder(event, dec_hook=_as_array) for kind, event in KINDS.items()}
