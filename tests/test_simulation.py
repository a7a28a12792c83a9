"""Whole runs in virtual time: whatever fails and in whatever order things happen, the invariants hold."""

import math
import os
import re
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace

import anyio
import numpy as np
import pytest

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupCancelled,
    GroupClosed,
    GroupDropped,
    GroupReturned,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    VersionAnnounced,
)
from envhub.contracts.outcome import Failure, Status
from envhub.contracts.sandbox import Snapshot
from envhub.errors import Boundary
from envhub.rollouts.admission import Slots
from envhub.rollouts.line import Caps
from envhub.testing import fake_sandbox, simulation, virtual_time
from envhub.testing.scenario import UNBOUNDED, Scenario
from envhub.testing.simulation import replay, simulate
from envhub.testing.simulation_aftermath import Aftermath
from envhub.testing.simulation_environments import LOST
from envhub.testing.virtual_time import Stuck
from sandboxes.pool.made import Made

SCENARIOS = int(os.environ.get("ENVHUB_SCENARIOS", "3000"))
BATCH = 250


@pytest.mark.parametrize("first", range(0, SCENARIOS, BATCH))
def test_invariants_hold_in_random_scenarios(first: int) -> None:
    for seed in range(first, first + BATCH):
        scenario = Scenario.draw(seed)
        assert simulate(scenario).broken() == [], replay(scenario)


def test_scenarios_have_every_kind_of_fault_and_of_end() -> None:
    seen: set[object] = set()
    for seed in range(100):
        seen.update(*map(kinds, simulate(Scenario.draw(seed)).events))
    assert {*Status, *KINDS} - seen == set()


def kinds(event: Event) -> set[object]:
    """What it is a sign of."""
    match event:
        case RolloutEnded(failure=Failure(boundary, message)):
            return {event.status, boundary, *(sign for sign in MESSAGES if sign in message)}
        case RolloutEnded():
            return {event.status, event.truncated_by}
        case GroupClosed(cut=True):
            return {"cut"}
        case GroupDropped():
            return {event.reason}
    return {type(event)}


MESSAGES = (
    "the engine broke",
    "the sandbox has died",
    "overloaded",
    "the judge is down",
    "judge's deadline",
    "max_live=1",
)
KINDS = {
    *MESSAGES,
    *("cut", "stale", "filter varied", "deadline", "budget"),
    *(Boundary.OPERATOR, Boundary.ENGINE, Boundary.JUDGE, Boundary.SANDBOX, Boundary.ENVIRONMENT),
    *(GroupAcked, GroupCancelled, GroupReturned, RolloutPaused, RolloutContinued, RolloutResumed, VersionAnnounced),
}


def test_a_failure_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "LONGEST_S", 1.0)
    with pytest.raises(TimeoutError) as error:
        simulate(Scenario.draw(0))
    assert "envhub.testing.simulation 0 plays it again" in error.value.__notes__[0]


def test_a_scenario_is_played_again_by_its_seed() -> None:
    command = [sys.executable, "-m", "envhub.testing.simulation", "0", "test-0"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[0].startswith("seed=0, ")
    assert {line.split()[0] for line in shown[1:-1]} == {"test-0"}
    assert shown[-1] == "all invariants hold"


def test_a_seed_replays_to_the_bit_but_for_timings() -> None:
    for seed in range(20):
        first, second = (simulate(Scenario.draw(seed)) for _ in range(2))
        assert first.ended_at == second.ended_at
        assert lines(first) == lines(second)


def test_a_lost_slot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Slots.release

    def lose_one(self: Slots, caps: Caps) -> None:
        if self.free != 1:
            release(self, caps)

    monkeypatch.setattr(Slots, "release", lose_one)
    findings = []
    for seed in range(10):
        try:
            findings += simulate(Scenario.draw(seed)).broken()
        except (Stuck, TimeoutError) as error:
            findings.append(str(error))
    assert findings


def unlucky(seed: int) -> Scenario:
    """A scenario of parents and children that fight for few sandboxes, in a run that is paused often."""
    scenario = Scenario.draw(seed)
    often = replace(scenario, call=0.7, child=0.3, sandbox=0.9, pause=0.6, parks=bool(seed % 4))
    rich = replace(often, max_tokens=UNBOUNDED, max_critical_steps=UNBOUNDED, max_tool_calls=UNBOUNDED, max_live=8)
    return replace(rich, group_deadline_s=1e6, narrow=0.0, deaths=0)


def test_trees_that_fight_for_sandboxes_leave_none_behind() -> None:
    granted = refused = 0
    for seed in range(20):
        aftermath = simulate(unlucky(seed))
        assert aftermath.broken() == [], f"unlucky({seed}): {aftermath.scenario}"
        granted += aftermath.sandboxes.granted
        refused += aftermath.sandboxes.refused
    assert granted > 150
    assert refused > 1  # deadlocks did arise


def test_a_lease_that_is_not_returned_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    destroy = Made.destroy

    async def forget_some(made: Made) -> None:
        if not made.sandbox.id.endswith("3"):
            await destroy(made)

    monkeypatch.setattr(Made, "destroy", forget_some)
    assert any(simulate(unlucky(seed)).broken() for seed in range(10))


def test_files_that_are_lost_in_parking_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(snapshot: Snapshot) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(fake_sandbox, "contents", nothing)
    assert any(LOST in simulate(unlucky(seed)).broken() for seed in range(10))


def test_hours_pass_in_no_time() -> None:
    async def sleep() -> float:
        async with anyio.create_task_group() as tasks:
            for seconds in range(100):
                tasks.start_soon(anyio.sleep, 3600 * seconds)
        return anyio.current_time()

    started = time.monotonic()
    assert math.isclose(virtual_time.run(sleep), 99 * 3600)
    assert time.monotonic() - started < 30


def test_a_program_that_waits_for_nothing_is_stuck() -> None:
    async def wait() -> None:
        await anyio.Event().wait()

    with pytest.raises(Stuck, match="every task waits"):
        virtual_time.run(wait)


def test_seeds_give_different_orders() -> None:
    async def order() -> tuple[int, ...]:
        done: list[int] = []

        async def run(number: int) -> None:
            await anyio.sleep(1)
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(run, number)
        return tuple(done)

    orders = {virtual_time.run(order, seed=seed) for seed in range(20)}
    assert len(orders) > 10
    assert virtual_time.run(order, seed=3) == virtual_time.run(order, seed=3)


def lines(aftermath: Aftermath) -> list[str]:
    """The events as text, without that part of lease ids which no two processes have in common."""
    return [re.sub(r"(@\d+)-[0-9a-f]{8}", r"\1", plain(event)) for event in aftermath.events]


def plain(value: object) -> str:
    """A record as text, without the times that a real clock gave it."""
    if isinstance(value, np.ndarray):
        return str(value.tolist())
    if is_dataclass(value):
        kept = (field.name for field in fields(value) if field.name not in TIMINGS)
        return f"{type(value).__name__}({', '.join(f'{name}={plain(getattr(value, name))}' for name in kept)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(plain, value))})"
    return repr(value)


TIMINGS = frozenset({"at", "timings", "started_at", "ended_at", "deadline", "durations"})
