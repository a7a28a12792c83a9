"""Loads: the one with the least to do, as a look at all would find it."""

from hypothesis import given
from hypothesis import strategies as st

from envhub.rollouts.loads import Loads

NAMES = st.sampled_from("abcd")
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.integers(0, 5)), max_size=40)


@given(CHANGES)
def test_who_has_the_least_is_found_whatever_changed(changes: list[tuple[str, int | None]]) -> None:
    loads: Loads[str] = Loads()
    known: dict[str, int] = {}
    for name, load in changes:
        if load is None:
            loads.remove(name)
            known.pop(name, None)
        elif name not in known:
            loads.add(name)
            known[name] = 0
        else:
            loads.change(name, load)
            known[name] = load
        least = loads.least()
        assert (least is None) == (not known)
        assert least is None or known[least] == min(known.values())


def test_of_equals_the_one_that_came_first_has_its_turn() -> None:
    loads: Loads[str] = Loads()
    for name in "ab":
        loads.add(name)
    loads.change("a", 1)
    loads.change("b", 1)
    assert loads.least() == "a"
    loads.change("gone", 0)
    assert loads.least() == "a"
