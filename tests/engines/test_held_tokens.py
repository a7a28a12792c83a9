"""What may not be recorded never leaves HeldTokens."""

import pytest

from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish
from envhub.engines.over_http.held_tokens import MOST_ID, HeldTokens, Piece
from envhub.errors import EngineFault

HERE = PolicyVersion(3)


def settled(ids: list[int], logprobs: list[float | None], *, greedy: bool = False) -> tuple[list[int], list[float]]:
    """What is handed on of tokens that came as two pieces."""
    held = HeldTokens(HERE, greedy=greedy)
    held.add(Piece(ids[:1], ids[:1], logprobs[:1]))
    held.add(Piece(ids[1:], ids[1:], logprobs[1:], Finish.LENGTH))
    (chunk,) = held.settle(HERE)
    assert (chunk.policy_version, chunk.finish) == (HERE, Finish.LENGTH)
    return chunk.ids.tolist(), chunk.logprobs.tolist()


def test_tokens_are_handed_on_as_they_came() -> None:
    assert settled([0, MOST_ID, 7], [-0.5, -1.25, 0.0]) == ([0, MOST_ID, 7], [-0.5, -1.25, 0.0])


def test_a_logprob_that_rounding_put_above_0_is_0() -> None:
    assert settled([1, 2], [1e-7, -1.0])[1] == [0.0, -1.0]


def test_greedy_choices_are_certain_whatever_the_server_says_of_them() -> None:
    assert settled([1, 2], [None, 3.0], greedy=True)[1] == [0.0, 0.0]


@pytest.mark.parametrize("id", [-1, MOST_ID + 1, 10**30])
def test_an_id_that_no_vocabulary_has_is_a_fault_that_names_it(id: int) -> None:
    with pytest.raises(EngineFault, match=f"the token id {id};") as caught:
        settled([5, id, 6], [-1.0, -1.0, -1.0])
    assert caught.value.retryable


@pytest.mark.parametrize("logprob", [None, float("nan"), float("-inf"), -9999.0, 0.01])
def test_a_logprob_that_is_none_is_a_fault_that_names_it(logprob: float | None) -> None:
    with pytest.raises(EngineFault, match=f"the logprob {logprob};") as caught:
        settled([5, 6, 7], [-1.0, logprob, -2.0])
    assert caught.value.retryable
