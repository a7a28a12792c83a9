"""Events of every kind come back as they were; what is damaged or unknown is named."""

import struct
from dataclasses import replace
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.events import Event, LogRecorded, RolloutEnded, RunStarted, TurnRecorded
from envhub.contracts.files import FileBytes
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.messages import Image, Message, Role
from envhub.contracts.network import Network
from envhub.contracts.rollout import GroupRequest, Limits
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.contracts.turn import Ids, Logprobs, Sampling
from envhub.errors import StoreError
from envhub.store.codec import KINDS, decode, encode, kind_of
from envhub.store.text import well_formed
from envhub.testing.traces import SampleRun, plain, sample_events, sample_turn

TEXT = st.text(max_size=20)  # Hypothesis makes no lone surrogates of its own
NUMBERS = st.floats(allow_nan=False)
SMALL = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | SMALL | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
POSITIVE = st.integers(1, 2**31)
FINITE = st.floats(-1e9, 1e9)


def arrays(dtype: str) -> st.SearchStrategy[np.ndarray]:
    return st.binary(max_size=64).map(lambda data: np.frombuffer(data[: len(data) // 4 * 4], dtype))


def field(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field of the contracts."""
    special = {
        Ids: arrays("<i4"), Logprobs: st.lists(st.floats(width=32), max_size=9).map(np.float32),
        Score: st.builds(Score, FINITE, st.dictionaries(TEXT, FINITE, max_size=2), TEXT, st.just({"exact": 0.5})),
        Task: st.builds(Task, TEXT.filter(bool), st.just((Message.user("?"),)), JSON, st.just({}), st.none() | SMALL),
        Limits: st.builds(Limits, POSITIVE, POSITIVE, st.floats(0.1, 1e6), POSITIVE),
        Sampling: st.builds(Sampling, st.floats(0, 100), POSITIVE, st.none() | SMALL),
        SandboxSpec: st.builds(
            SandboxSpec, TEXT, st.floats(0.1, 64), *[POSITIVE] * 4, st.floats(1, 1e6),
            st.sampled_from([Network(), Network.only("pypi.org")]), st.dictionaries(TEXT, TEXT, max_size=2),
            st.just({"/tools": "/opt/tools"}), st.booleans(),
        ),
        object: JSON, str: TEXT, bytes: st.just(b""), int: SMALL, float: NUMBERS, bool: st.booleans(),
        NoneType: st.none(),
    }  # fmt: skip
    if hint in special:
        return special[hint]
    if isinstance(hint, NewType):
        return field(hint.__supertype__)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of([field(option) for option in get_args(hint)])
    if get_origin(hint) is tuple:
        return st.lists(field(get_args(hint)[0]), max_size=3).map(tuple)
    if get_origin(hint) is not None:  # Mapping
        return st.dictionaries(TEXT, field(get_args(hint)[1]), max_size=2)
    return record(hint) if hasattr(hint, "__dataclass_fields__") else st.sampled_from(hint)


def record(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    if kind is GroupRequest:
        return st.builds(kind, field(hints["rollout"]), POSITIVE, POSITIVE)
    return st.builds(kind, **{name: field(hint) for name, hint in hints.items()})


def test_every_kind_of_event_has_a_name() -> None:
    assert set(KINDS.values()) == set(get_args(Event))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_event_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    event = data.draw(record(KINDS[kind]))
    assert kind_of(event) == kind
    again = decode(kind_of(event), encode(event))
    assert type(again) is type(event)
    assert str(plain(again)) == str(plain(event))  # as text: NaN is then itself


@settings(deadline=None)
@given(record(TurnRecorded))
def test_arrays_come_back_in_their_types(event: TurnRecorded) -> None:
    turn = decode("turn_recorded", encode(event)).turn
    assert (turn.delta_ids.dtype, turn.output_ids.dtype, turn.logprobs.dtype) == (np.int32, np.int32, np.float32)
    assert turn.logprobs.tobytes() == event.turn.logprobs.tobytes()


@pytest.mark.parametrize("content", ["seen", "a lone surrogate \ud800"])
def test_an_event_does_not_hold_the_files_of_its_pictures(content: str) -> None:
    run = SampleRun()
    shows = Message(Role.USER, content, images=(Image("5" * 64, "image/png", 4, 4, data=FileBytes(b"file" * 100)),))
    event = run.turn(run.start(0, 0), replace(sample_turn(0), messages=(shows,)))
    payload = encode(event)
    assert b"filefile" not in payload
    (image,) = decode("turn_recorded", payload).turn.messages[0].images
    assert (image, image.data) == (shows.images[0], b"")


@given(st.integers(0, 400), st.sampled_from(sample_events()))
def test_cut_record_is_named(length: int, event: Event) -> None:
    payload = encode(event)
    if length < len(payload):
        with pytest.raises(StoreError, match=f"a stored {kind_of(event)} event of {length} bytes is damaged"):
            decode(kind_of(event), payload[:length])


def test_record_with_more_behind_it_is_damaged() -> None:
    with pytest.raises(StoreError, match="damaged"):
        decode("run_started", encode(SampleRun().started()) + b"\x00")


def test_unknown_kind_is_named() -> None:
    with pytest.raises(StoreError, match="'run_painted' event"):
        decode("run_painted", b"")


def test_record_that_breaks_a_rule_of_the_contracts_is_damaged() -> None:
    run = SampleRun()
    one, infinite = struct.pack(">d", 0.37), struct.pack(">d", float("inf"))
    payload = encode(run.end(run.start(0, 0), reward=0.37)).replace(one, infinite)
    with pytest.raises(StoreError, match="score 'scalar' is inf"):
        decode("rollout_ended", payload)


def test_fields_of_a_later_version_are_passed_over() -> None:
    event = SampleRun().started()
    payload = encode(event)
    later = bytes([payload[0] + 1]) + payload[1:] + b"\xa5color\xa3red"  # a msgpack map with one pair more
    assert decode("run_started", later) == event


def test_array_in_another_layout_comes_back_as_it_was() -> None:
    ids = np.arange(16, dtype=">i4").astype(np.int32)[::2]
    event = TurnRecorded(RunId("r"), 1.0, RolloutId("r-0-0-0"), replace(sample_turn(0), output_ids=ids))
    assert decode("turn_recorded", encode(event)).turn.output_ids.tolist() == ids.tolist()


@pytest.mark.parametrize(
    "changes", [{"output_ids": np.arange(8)}, {"logprobs": np.zeros(8)}, {"delta_ids": np.zeros((2, 2), np.int32)}]
)
def test_array_of_another_type_is_refused(changes: dict[str, Any]) -> None:
    event = TurnRecorded(RunId("r"), 1.0, RolloutId("r-0-0-0"), replace(sample_turn(0), **changes))
    with pytest.raises(StoreError, match=f"{next(iter(changes))} is"):
        encode(event)


def test_numpy_scalars_are_numbers() -> None:
    event = RunStarted(RunId("r"), 1.0, 7, {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": {1}})
    assert decode("run_started", encode(event)).settings == {"a": 0.5, "b": 3, "c": True, "d": [1]}


def test_data_nested_too_deep_is_cut_off() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    fields = decode(
        "log_recorded", encode(LogRecorded(RunId("r"), 1.0, RolloutId("r-0-0-0"), "deep", {"n": nested}))
    ).fields
    assert str(fields).startswith("{'n': [[[[") and "..." in str(fields)


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=8))
def test_well_formed_text_is_text_that_utf8_carries(text: str) -> None:
    well_formed(text).encode()
    assert well_formed(well_formed(text)) == well_formed(text)


@given(TEXT)
def test_text_that_utf8_carries_is_left_alone(text: str) -> None:
    assert well_formed(text) == text


def test_scored_end_comes_back_equal() -> None:
    run = SampleRun()
    event = run.end(run.start(0, 0), reward=0.1)
    again = decode("rollout_ended", encode(event))
    assert isinstance(again, RolloutEnded) and again == event
