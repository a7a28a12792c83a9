"""The guard before a run's servers: whose token it is, what its role may do, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.access import Access, Caller, Rates, Role, TlsFiles, Token
from envhub.contracts.guard import MAX_KEPT, Guard, Throttle
from envhub.errors import RateExceeded, UnknownCaller, UsageError, WrongRole

TOKENS = (Token("see", Role.VIEWER), Token("learn", Role.TRAINER, "boris"), Token("all", Role.OPERATOR, "ana"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@given(st.floats(0.05, 1000), st.lists(st.floats(0, 5), max_size=300))
def test_throttle_never_lets_more_through_than_its_burst_and_its_rate(per_s: float, pauses: list[float]):
    clock = Clock()
    throttle = Throttle(per_s, clock)
    burst = max(10, 10 * per_s)
    taken = 0
    for pause in pauses:
        clock.now += pause
        taken += not throttle.take("one")
        assert taken <= burst + per_s * (clock.now - 1000) + 1e-6 * taken


def test_throttle_lets_a_burst_through_says_how_long_to_wait_and_is_right(clock: Clock):
    throttle = Throttle(2.0, clock)
    assert [throttle.take("one") for _ in range(20)] == [0.0] * 20
    assert throttle.take("one") == pytest.approx(0.5)
    assert throttle.take("another") == 0.0
    clock.now += 0.51
    assert throttle.take("one") == 0.0
    assert throttle.take("one") > 0.0


def test_throttle_forgets_who_has_been_still_and_never_grows_beyond_its_bound(clock: Clock):
    throttle = Throttle(1.0, clock)
    for number in range(2 * MAX_KEPT):
        throttle.take(str(number))
    assert len(throttle._due) <= MAX_KEPT
    clock.now += 1000
    throttle.take("late")
    for number in range(MAX_KEPT):
        throttle.take(str(number))
    assert len(throttle._due) <= MAX_KEPT


def test_caller_is_known_by_its_token_and_without_any_everybody_is_an_operator():
    guard = Guard(Access(TOKENS))
    assert guard.caller("learn", "10.0.0.7") == Caller(Role.TRAINER, "10.0.0.7", "boris")
    assert guard.caller("see", "10.0.0.7").who == "viewer"
    assert Guard().caller("", "127.0.0.1") == Caller(Role.OPERATOR, "127.0.0.1")
    assert Guard().caller("anything", "127.0.0.1").who == "127.0.0.1"


@pytest.mark.parametrize("sent", ["", "lear", "learnt", "Learn", "l\u0435arn", "\udcff"])
def test_anything_but_the_very_token_is_nobodys(sent: str):
    with pytest.raises(UnknownCaller):
        Guard(Access(TOKENS)).caller(sent, "10.0.0.7")


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, {Role.VIEWER}),
        (Role.AGENT, {Role.AGENT}),
        (Role.TRAINER, {Role.VIEWER, Role.TRAINER}),
        (Role.OPERATOR, set(Role)),
        (None, set()),
    ],
)
def test_a_role_may_do_what_it_is_for_and_no_more(role: Role | None, may: set[Role]):
    guard = Guard(Access(TOKENS))
    for needed in Role:
        if needed in may:
            guard.demand(Caller(role, "10.0.0.7"), needed)
        else:
            with pytest.raises(WrongRole):
                guard.demand(Caller(role, "10.0.0.7"), needed)


def test_guessing_makes_an_address_wait_and_no_other(clock: Clock):
    guard = Guard(Access(TOKENS), clock)
    for number in range(10):
        with pytest.raises(UnknownCaller):
            guard.caller(f"guess-{number}", "10.0.0.7")
    with pytest.raises(RateExceeded) as refused:
        guard.caller("all", "10.0.0.7")
    assert refused.value.retry_after_s == pytest.approx(5.0)
    assert guard.caller("all", "10.0.0.8").name == "ana"
    clock.now += 5.01
    assert guard.caller("all", "10.0.0.7").name == "ana"


def test_who_shares_an_address_with_a_guesser_and_was_let_in_before_stays_in(clock: Clock):
    guard = Guard(Access(TOKENS), clock)
    guard.caller("learn", "10.0.0.7")
    for number in range(10):
        with pytest.raises(UnknownCaller):
            guard.caller(f"guess-{number}", "10.0.0.7")
    assert guard.caller("learn", "10.0.0.7").name == "boris"
    for sent in ("all", "guess-1", "guess-11", ""):
        with pytest.raises(RateExceeded):
            guard.caller(sent, "10.0.0.7")


def test_a_page_left_open_with_an_old_token_locks_nobody_out(clock: Clock):
    guard = Guard(Access(TOKENS), clock)
    for sent in ("old",) * 1000 + ("",) * 1000:
        with pytest.raises(UnknownCaller):
            guard.caller(sent, "10.0.0.7")
    assert guard.caller("all", "10.0.0.7").name == "ana"


def test_each_caller_has_a_rate_of_its_own(clock: Clock):
    guard = Guard(Access(TOKENS, rates=Rates(control=0.5)), clock)
    ana, boris = guard.caller("all", "10.0.0.7"), guard.caller("learn", "10.0.0.7")
    for _ in range(10):
        guard.spend("control", ana)
    with pytest.raises(RateExceeded, match=r"'ana' asks more often than the rate of control, 0\.5 a second; try again"):
        guard.spend("control", ana)
    guard.spend("control", boris)
    guard.spend("submit", ana)


def test_nothing_shows_a_token():
    assert not [token for token in TOKENS if f"'{token.secret}'" in repr(Access(TOKENS))]


def test_what_excludes_each_other_is_refused():
    with pytest.raises(UsageError, match="exclude each other"):
        Access(tls=TlsFiles("a", "b"), proxied=True)
    with pytest.raises(UsageError, match="rate submit is -1; it must be above 0"):
        Rates(submit=-1)
    with pytest.raises(UsageError, match="rate submit is nan"):
        Rates(submit=float("nan"))
