"""Sampling masks and routed experts: recorded as the engine told them, token by token, along every branch."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from envhub.contracts.engine import EngineChunk, EngineRequest
from envhub.contracts.messages import Message
from envhub.contracts.policy import PolicyInput
from envhub.contracts.token_file import SamplingMask, TokenFile, TokenFileKind
from envhub.contracts.turn import Finish, Sampling
from envhub.errors import EngineFault, UsageError
from envhub.tokens.gate import OpenGate
from envhub.tokens.rows import rows_of

pytestmark = pytest.mark.anyio

ASK, MORE, OTHER = Message.user("1+1?"), Message.user("And then?"), Message.user("Or else?")
CUT = Sampling(top_k=3)
MASK, EXPERTS = TokenFileKind.SAMPLING_MASK, TokenFileKind.ROUTED_EXPERTS

vectors = st_numpy.arrays(np.int32, st.integers(0, 5))


def allowed(id: int) -> list[int]:
    """What an id is drawn from here."""
    return [id, *range(300, 300 + id % 3)]


def routed(ids: Iterable[int]) -> np.ndarray:
    """[n, 2, 1]: where tokens are routed here."""
    return np.array([[[id % 5], [id % 7]] for id in ids], np.uint8).reshape(-1, 2, 1)


def telling(answer: Callable[[EngineRequest], Iterable[EngineChunk]]) -> Callable[[EngineRequest], list[EngineChunk]]:
    """The same answer, with all that an engine may tell of its tokens."""

    def tells(request: EngineRequest) -> list[EngineChunk]:
        chunks = list(answer(request))
        masks = [SamplingMask.of([allowed(id) for id in chunk.ids.tolist()]) for chunk in chunks]
        read = [*request.prompt_ids.tolist(), *(id for chunk in chunks for id in chunk.ids.tolist())][:-1]
        told = [replace(chunk, mask=mask) for chunk, mask in zip(chunks, masks, strict=True)]
        return [*told[:-1], replace(told[-1], experts=routed(read[request.routed_from :]))]

    return tells


def assert_told(row) -> None:
    """The row knows of every token what the engine told."""
    mask, sampled = row.sampling_mask(), row.mask(trainable=False)
    assert mask is not None
    for token, id in enumerate(row.ids.tolist()):
        assert mask.at(token).tolist() == (allowed(id) if sampled[token] else [])
    assert row.routed_experts().tolist() == routed(row.ids[:-1].tolist()).tolist()


@given(st.lists(vectors), st.integers(-1, 100))
def test_a_mask_comes_out_of_its_file_as_it_went_in(lists, start):
    mask = SamplingMask.of(lists)
    file = TokenFile.of_mask(mask, start)
    assert (file.kind, file.start, file.end) == (MASK, start, start + len(lists))
    assert [file.mask().at(token).tolist() for token in range(len(lists))] == [ids.tolist() for ids in lists]


@given(st_numpy.arrays(st.sampled_from([np.uint8, np.uint16]), st_numpy.array_shapes(min_dims=3, max_dims=3)))
def test_experts_come_out_of_their_file_as_they_went_in(experts):
    file = TokenFile.of_experts(experts, 3)
    assert (file.kind, file.start, file.end) == (EXPERTS, 3, 3 + len(experts))
    assert (file.experts().dtype, file.experts().tolist()) == (experts.dtype, experts.tolist())


@given(st.lists(st.lists(vectors), max_size=3))
def test_masks_that_are_joined_are_those_of_all_their_tokens(parts):
    joined, every = (
        SamplingMask.joined([SamplingMask.of(part) for part in parts]),
        [ids for part in parts for ids in part],
    )
    assert len(joined) == len(every)
    assert [joined.at(token).tolist() for token in range(len(every))] == [ids.tolist() for ids in every]


def test_a_file_that_is_elsewhere_or_of_other_tokens_is_an_error_that_says_so():
    file = TokenFile.of_mask(SamplingMask.of([[1], [2, 3]]), 0)
    with pytest.raises(UsageError, match=rf"{file.sha256} of tokens 0..2 is not here; have it fetched"):
        replace(file, data=b"").mask()
    with pytest.raises(UsageError, match="offsets"):
        replace(file, end=3).mask()
    with pytest.raises(UsageError, match=r"uint8 \[4, 2, 1\]; they must be uint8 or uint16 \[3, layers, k\]"):
        replace(TokenFile.of_experts(routed([1, 2, 3, 4]), 0), end=3).experts()


async def test_rows_know_of_every_token_of_a_branch_what_the_engine_told(make_rollout, says):
    rollout = make_rollout(*(telling(says(text)) for text in ("2", "Three.", "Four", "5")))
    first = await rollout.policy.act(PolicyInput((ASK,), sampling=CUT))
    said = (ASK, first.message)
    second = await rollout.policy.act(PolicyInput((*said, MORE), sampling=CUT))
    await rollout.policy.act(PolicyInput((*said, MORE, second.message, OTHER), sampling=CUT))
    await rollout.policy.act(PolicyInput((*said, OTHER), sampling=CUT))  # a branch from the first reply
    turns = {turn.index: turn for turn in rollout.turns}
    assert [file.start for file in turns[0].files if file.kind is EXPERTS] == [0]
    assert [[file.start for file in turns[at].files if file.kind is EXPERTS] for at in (1, 2, 3)] == [[-1]] * 3
    rows = rows_of(rollout.turns)
    assert [row.turns for row in rows] == [(0, 1, 2), (0, 3)]
    for row in rows:
        assert_told(row)


async def test_turns_of_which_nothing_is_told_have_no_files(make_rollout, says):
    rollout = make_rollout(says("2"))
    await rollout.act(ASK)
    (turn,), (row,) = rollout.turns, rows_of(rollout.turns)
    assert turn.files == row.files == ()
    assert row.sampling_mask() is row.routed_experts() is None


async def test_experts_reach_as_far_as_every_turn_of_a_branch_told_them(make_rollout, says):
    rollout = make_rollout(telling(says("2")), says("Three."), telling(says("Four")))
    said = [ASK]
    for more in (MORE, OTHER, MORE):
        said += [(await rollout.act(*said)).message, more]
    (row,) = rows_of(rollout.turns)
    first = rollout.turns[0]
    assert len(row.routed_experts()) == len(first.delta_ids) + len(first.output_ids) - 1
    (untold, *_) = rows_of([replace(turn, files=()) if not turn.index else turn for turn in rollout.turns])
    assert untold.routed_experts() is None


class CuttingGate(OpenGate):
    def call(self, policy_id):
        self.generation = anyio.CancelScope()
        return self.generation


async def test_an_answer_in_parts_has_the_masks_and_experts_of_all_of_them(make_rollout, says, chunk):
    gate = CuttingGate()

    def stopped(request):
        yield replace(chunk([97, 98], finish=None), mask=SamplingMask.of([allowed(97), allowed(98)]))
        yield chunk([], finish=Finish.ABORT)  # and no experts
        gate.generation.cancel()

    rollout = make_rollout(stopped, telling(says("c")), gate=gate)
    await rollout.policy.act(PolicyInput((ASK,), sampling=CUT))
    assert [request.routed_from for request in rollout.engine.requests] == [0, 0]
    (row,) = rows_of(rollout.turns)
    assert row.ids[-4:].tolist() == [97, 98, 99, 257]
    assert_told(row)


async def test_a_part_asks_for_the_experts_of_what_the_part_before_has_not_told(make_rollout, says, chunk):
    gate = CuttingGate()

    def stopped(request):
        read = [*request.prompt_ids.tolist(), 97]
        ended = replace(chunk([97, 98], finish=Finish.ABORT), experts=routed(read))
        yield replace(ended, mask=SamplingMask.of([allowed(97), allowed(98)]))
        gate.generation.cancel()

    rollout = make_rollout(stopped, telling(says("c")), gate=gate)
    await rollout.policy.act(PolicyInput((ASK,), sampling=CUT))
    first, second = rollout.engine.requests
    assert second.routed_from == len(first.prompt_ids) + 1
    (row,) = rows_of(rollout.turns)
    assert_told(row)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (None, "does not say which ids were left"),
        (SamplingMask.of([[97, 1]]), "masks of 1 tokens for 2"),
        (SamplingMask.of([[97, 1], [97, 99]]), "token 1 is 98, which is not there"),
        (SamplingMask.of([[97], [98, 98]]), "token 1 is 98, which is not there, once"),
        (SamplingMask.of([[97], []]), "token 1 is 98, which is not there"),
    ],
    ids=["none", "of other tokens", "without the drawn id", "with it twice", "empty"],
)
async def test_what_is_no_mask_of_the_answer_is_never_recorded(make_rollout, chunk, mask, reason):
    rollout = make_rollout(*[lambda _: [replace(chunk([97, 98]), mask=mask)]] * 3)
    with pytest.raises(EngineFault, match=reason):
        await rollout.policy.act(PolicyInput((ASK,), sampling=CUT))
    assert not rollout.turns


async def test_experts_of_another_shape_are_never_recorded(make_rollout, chunk):
    flat = np.zeros((4, 2), np.uint8)
    rollout = make_rollout(*[lambda _: [replace(chunk([97]), experts=flat)]] * 3)
    with pytest.raises(EngineFault, match=r"routed experts are uint8 \[4, 2\]"):
        await rollout.act(ASK)


async def test_masks_that_nobody_asked_for_are_left_out(make_rollout, says):
    rollout = make_rollout(telling(says("2")))
    await rollout.act(ASK)
    assert [file.kind for file in rollout.turns[0].files] == [EXPERTS]
