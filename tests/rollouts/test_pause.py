"""Partial rollouts: a pause keeps every token, the turn goes on where it was, and nothing else notices."""

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from envhub.contracts.events import Event, RolloutContinued, RolloutEnded, RolloutPaused, TurnRecorded
from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId, PolicyVersion, RolloutId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.turn import Finish, Sampling, Turn
from envhub.engines.scripted import ScriptInput
from envhub.errors import UsageError
from envhub.monitor.verify import verify
from envhub.testing import virtual_time
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.worlds import ONE, THREE

LONG = "abcdefgh" * 4  # four chunks of the scripted engine, and its end
RUN = Scope()


def long(asked: ScriptInput) -> str:
    """Says LONG, from wherever the prompt stops."""
    said = asked.prompt.rpartition("<|im_start|>assistant\n")[2]
    return LONG[len(said) :]


def walk(task: int = ONE, **changes: object) -> GroupRequest:
    return replace(request("test/walk-v0", task=task), k=1, **changes)  # type: ignore[arg-type]


def turns(events: list[Event]) -> list[Turn]:
    return [event.turn for event in events if isinstance(event, TurnRecorded)]


def played(
    scope: Scope,
    mode: PauseMode,
    *,
    at: float,
    k: int = 1,
    group: GroupRequest | None = None,
    meanwhile: Callable[[ScriptedRun], None] = lambda run: None,
    pinned: bool = False,
) -> tuple[list[Event], float]:
    """The events of a run with one pause of 100 s, and how long it took. A turn takes 10 s."""

    async def play() -> tuple[list[Event], float]:
        async with open_scripted_run(long, latency_s=10.0) as run:
            started = await run.manager.start(replace(group or walk(), k=k))
            await anyio.sleep(at)
            await run.manager.pause(scope, mode)
            await anyio.sleep(100)
            meanwhile(run)
            await run.manager.resume(scope, pinned=pinned)
            await started.handed_on.wait()
            assert (await run.members()).drained
            assert run.slots.free == 8
            assert (await verify(run.store)).findings == ()
            return await run.events(), anyio.current_time()

    return virtual_time.run(play)


def newer(run: ScriptedRun) -> None:
    run.engine.policy_version = PolicyVersion(5)


def test_a_cut_turn_goes_on_from_its_tokens_under_the_newest_version() -> None:
    events, took = played(RUN, PauseMode.CUT, at=5.0, meanwhile=newer)
    (turn,) = turns(events)
    assert turn.response.content == LONG
    assert [span.policy_version for span in turn.spans] == [0, 5]
    assert turn.spans[0].end == 16
    assert all(span.trainable for span in turn.spans)
    assert 105 <= took < 120
    kinds = [type(event) for event in events if isinstance(event, RolloutPaused | RolloutContinued)]
    assert kinds == [RolloutPaused, RolloutContinued]


def test_a_cut_turn_has_no_more_tokens_in_all_than_it_was_to_have() -> None:
    group = walk()
    short = replace(group, rollout=replace(group.rollout, sampling=Sampling(max_tokens=24)))
    events, _ = played(RUN, PauseMode.CUT, at=7.5, group=short, meanwhile=newer)
    (turn,) = turns(events)
    assert (turn.response.content, turn.finish) == (LONG[:24], Finish.LENGTH)
    assert [span.policy_version for span in turn.spans] == [0, 5]


def test_a_pinned_turn_goes_on_under_its_own_version() -> None:
    events, _ = played(RUN, PauseMode.CUT, at=5.0, meanwhile=newer, pinned=True)
    (turn,) = turns(events)
    assert [span.policy_version for span in turn.spans] == [0]


def test_a_kept_generation_is_taken_up_where_it_was() -> None:
    events, took = played(RUN, PauseMode.KEEP, at=5.0)
    (turn,) = turns(events)
    assert turn.response.content == LONG
    assert took >= 105


def test_a_waiting_pause_lets_the_turn_end_and_holds_the_next() -> None:
    events, took = played(RUN, PauseMode.WAIT, at=5.0, group=walk(THREE), meanwhile=newer)
    assert [{span.policy_version for span in turn.spans} for turn in turns(events)] == [{0}, {5}, {5}]
    assert took >= 125


@pytest.mark.parametrize("mode", PauseMode)
@pytest.mark.parametrize("at", [0.0, 1.0, 9.9, 10.0, 12.4, 25.0])
def test_a_pause_at_any_time_changes_no_token_of_what_is_said(mode: PauseMode, at: float) -> None:
    events, _ = played(RUN, mode, at=at, k=3, group=walk(THREE))
    assert [turn.response.content for turn in turns(events)] == [LONG] * 9
    assert {turn.finish for turn in turns(events)} == {Finish.STOP}


@pytest.mark.parametrize(
    ("scope", "held"),
    [
        (Scope(policy_id=PolicyId("policy")), True),
        (Scope(policy_id=PolicyId("another")), False),
        (Scope(environment_id=EnvironmentId("test/walk-v0")), True),
        (Scope(environment_id=EnvironmentId("test/stroll-v0")), False),
        (Scope(group_id=GroupId("test-0")), True),
        (Scope(group_id=GroupId("test-1")), False),
        (Scope(rollout_id=RolloutId("test-0-0-0")), True),
        (Scope(rollout_id=RolloutId("test-0-1-0")), False),
    ],
)
def test_a_scope_holds_its_own_rollouts_alone(scope: Scope, held: bool) -> None:
    events, _ = played(scope, PauseMode.CUT, at=5.0)
    assert any(isinstance(event, RolloutPaused) for event in events) is held


def test_a_rollout_that_two_pauses_hold_goes_on_when_both_are_over() -> None:
    async def play() -> None:
        async with open_scripted_run(long, latency_s=10.0, max_running=1) as run:
            started = await run.manager.start(walk())
            await anyio.sleep(5)
            await run.manager.pause(RUN)
            await run.manager.pause(Scope(group_id=started.id))
            await anyio.sleep(5)
            await run.manager.resume(RUN)
            await anyio.sleep(5)
            assert run.slots.free == 1
            await run.manager.resume(Scope(group_id=started.id))
            await started.handed_on.wait()
            kinds = [type(event) for event in await run.events() if isinstance(event, RolloutPaused | RolloutContinued)]
            assert kinds == [RolloutPaused, RolloutContinued]

    virtual_time.run(play)


def test_a_pause_of_another_policy_cuts_no_turn() -> None:
    paused, left_alone = (
        turns(played(scope, PauseMode.CUT, at=5.0)[0])
        for scope in (Scope(policy_id=PolicyId("another")), Scope(group_id=GroupId("test-1")))
    )
    assert [turn.logprobs.tolist() for turn in paused] == [turn.logprobs.tolist() for turn in left_alone]


def test_a_paused_run_starts_no_rollout_and_holds_no_slot() -> None:
    async def play() -> None:
        async with open_scripted_run(long, latency_s=10.0, max_running=1) as run:
            started = await run.manager.start(replace(walk(), k=2))
            await anyio.sleep(5)
            await run.manager.pause(RUN, PauseMode.CUT)
            await anyio.sleep(5)
            members = await run.members()
            assert members.of(MemberState.PAUSED) == 1
            assert members.of(MemberState.QUEUED) == 1
            assert run.slots.free == 1
            await run.manager.resume(RUN)
            await started.handed_on.wait()

    virtual_time.run(play)


def test_who_waited_for_a_slot_from_one_pause_into_the_next_says_nothing_in_it() -> None:
    async def play() -> None:
        async with open_scripted_run(long, latency_s=10.0, max_running=1) as run:
            started = await run.manager.start(replace(walk(), k=3))
            for _ in range(4):
                await anyio.sleep(2)
                await run.manager.pause(RUN, PauseMode.CUT)
                await anyio.sleep(1)
                assert run.slots.free == 1
                await run.manager.resume(RUN)
            await started.handed_on.wait()
            assert [turn.response.content for turn in turns(await run.events())] == [LONG] * 3

    virtual_time.run(play)


def test_a_pause_is_no_time_of_the_episode() -> None:
    group = walk()
    limits = replace(group.rollout.limits, deadline_s=15.0)
    events, _ = played(RUN, PauseMode.CUT, at=5.0, group=replace(group, rollout=replace(group.rollout, limits=limits)))
    (ended,) = [event for event in events if isinstance(event, RolloutEnded)]
    assert ended.status is Status.COMPLETED


def test_an_aborted_rollout_ends_with_what_it_has() -> None:
    async def play() -> None:
        async with open_scripted_run(long, latency_s=10.0) as run:
            started = await run.manager.start(replace(walk(THREE), k=2))
            await anyio.sleep(15)
            await run.manager.abort(Scope(rollout_id=RolloutId("test-0-1-0")))
            await started.handed_on.wait()
            members = await run.members()
            events = await run.events()
            assert (await verify(run.store)).findings == ()
        assert members.of(MemberState.CANCELLED) == 1
        assert members.of(MemberState.ACKED) == 1
        aborted = [event.turn for event in events if isinstance(event, TurnRecorded) and "-1-0" in event.rollout_id]
        assert [turn.finish for turn in aborted] == [Finish.STOP, Finish.ABORT]
        assert aborted[1].response.content == LONG[:16]

    virtual_time.run(play)


@pytest.mark.anyio
async def test_a_scope_is_paused_once_and_resumed_once() -> None:
    async with open_scripted_run(long) as run:
        with pytest.raises(UsageError, match="not paused by an operator; paused: nothing"):
            await run.manager.resume()
        await run.manager.pause()
        with pytest.raises(UsageError, match="paused already"):
            await run.manager.pause()
        await run.manager.resume()
