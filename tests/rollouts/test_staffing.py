"""How many workers there should be for what there is to do, and who has too much of it."""

import pytest

from envhub.rollouts.staffing import Bounds, Staffing, surplus


@pytest.mark.parametrize(
    ("tries", "wanted"),
    [(0, 1), (4, 1), (5, 2), (8, 2), (9, 3), (1_000, 4)],
)
def test_there_are_as_many_workers_as_tries_need_parts_of_what_may_act(tries: int, wanted: int) -> None:
    assert Staffing(Bounds(1, 4), looks=3).wanted(tries, max_running=16) == wanted


def test_more_come_at_once_and_go_only_when_fewer_were_enough_for_a_while() -> None:
    staffing = Staffing(Bounds(1, 4), looks=3)
    assert [staffing.wanted(tries, 16) for tries in (16, 0, 5, 0, 0, 0)] == [4, 4, 4, 2, 2, 1]


def test_a_limit_below_the_most_workers_wants_one_for_each_try() -> None:
    assert Staffing(Bounds(1, 4), looks=1).wanted(3, max_running=2) == 3


def test_what_is_beyond_an_even_part_may_go_where_there_is_much_less() -> None:
    assert surplus({"a": 10, "b": 0}) == {"a": 5}
    assert surplus({"a": 6, "b": 4}) == {}
    assert surplus({"a": 1}) == surplus({}) == {}
