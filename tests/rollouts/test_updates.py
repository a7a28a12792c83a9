"""New weights come into the engines while rollouts run: nothing is lost, nothing hangs, and the log says why."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio
import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment
from envhub.contracts.events import (
    Event,
    GroupCancelled,
    RolloutEnded,
    ServerMoved,
    TurnRecorded,
    VersionAnnounced,
    VersionFailed,
    VersionPending,
)
from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.engines.replicas import open_replicas
from envhub.engines.scripted import ScriptInput
from envhub.environments.single_turn import SingleTurn
from envhub.errors import UnknownName, UpdateFailed, UsageError
from envhub.monitor.verify import verify
from envhub.registry import environment
from envhub.rollouts.updates import MOVE_S
from envhub.rollouts.versions import Staleness
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing import virtual_time
from envhub.testing.fake_servers import FakeServer
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.worlds import ONE, THREE

LONG = "abcdefgh" * 4  # four chunks of the scripted engine, and its end: 10 s
FROZEN = PolicyId("frozen")
V1, V2, V3 = map(PolicyVersion, (1, 2, 3))


def long(asked: ScriptInput) -> str:
    """Says LONG, from wherever the prompt stops."""
    return LONG[len(asked.prompt.rpartition("<|im_start|>assistant\n")[2]) :]


class World:
    """A run over two servers for the policy that trains, and two for a frozen one."""

    def __init__(self, run: ScriptedRun, servers: dict[str, FakeServer]) -> None:
        self.run = run
        self.manager = run.manager
        self.servers = servers

    @property
    def trained(self) -> list[FakeServer]:
        return [self.servers["t0"], self.servers["t1"]]

    async def events(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in await self.run.events() if isinstance(event, kinds)]

    async def versions(self) -> list[tuple[str, int]]:
        events = await self.events(VersionPending, VersionFailed, VersionAnnounced)
        return [(type(event).__name__.removeprefix("Version"), event.version) for event in events]  # type: ignore[union-attr]

    async def spans(self) -> list[list[int]]:
        """Versions of each turn that was recorded."""
        turns = [event.turn for event in await self.events(TurnRecorded)]  # type: ignore[union-attr]
        assert all(turn.response.content == LONG for turn in turns)
        return [[span.policy_version for span in turn.spans] for turn in turns]


@asynccontextmanager
async def world(**options: object) -> AsyncIterator[World]:
    servers = {name: FakeServer(long, latency_s=10.0) for name in ("t0", "t1", "f0", "f1")}
    async with (
        open_replicas({name: servers[name] for name in ("t0", "t1")}, places=16) as trained,
        open_replicas({name: servers[name] for name in ("f0", "f1")}, places=16) as frozen,
        open_scripted_run(long, engines={TRAINED: trained, FROZEN: frozen}, **options) as run,  # type: ignore[arg-type]
    ):
        yield World(run, servers)
        assert (await verify(run.store)).findings == ()
    assert not any(server.paused for server in servers.values())


def walk(task: int = ONE, k: int = 2, policy_id: PolicyId = TRAINED) -> GroupRequest:
    return replace(request("test/walk-v0", task=task, policy_id=policy_id), k=k)


def test_turns_that_an_update_cuts_go_on_under_the_new_version() -> None:
    async def play() -> None:
        async with world() as here:
            group = await here.manager.start(walk())
            await anyio.sleep(5)
            for server in here.trained:
                server.reload_s = 100
            await here.manager.update(TRAINED, V1, weights="new.safetensors")
            assert anyio.current_time() >= 105
            await group.handed_on.wait()
            assert await here.spans() == [[0, 1], [0, 1]]
            assert [server.loads for server in here.trained] == [[("new.safetensors", 1)]] * 2
            assert await here.versions() == [("Pending", 1), ("Announced", 1)]

    virtual_time.run(play)


def test_other_policies_go_on_while_one_is_updated() -> None:
    async def play() -> None:
        async with world() as here:
            for server in here.trained:
                server.reload_s = 200
            group = await here.manager.start(walk(policy_id=FROZEN))
            await here.manager.update(TRAINED, V1, weights="new")
            assert group.handed_on.is_set()
            assert await here.spans() == [[0], [0]]
            assert not any(server.loads for name, server in here.servers.items() if name.startswith("f"))

    virtual_time.run(play)


def test_a_trainer_that_transfers_itself_finds_the_engines_still() -> None:
    async def play() -> None:
        async with world() as here:
            group = await here.manager.start(walk())
            await anyio.sleep(5)
            await here.manager.begin_update(TRAINED, V1)
            assert all(server.paused and not server.running for server in here.trained)
            await anyio.sleep(100)
            for server in here.trained:
                server.trained = V1
            await here.manager.finish_update(TRAINED, V1)
            await here.manager.finish_update(TRAINED, V1)  # asked again: the first answer was lost
            await group.handed_on.wait()
            assert await here.spans() == [[0, 1], [0, 1]]
            assert not any(server.loads for server in here.trained)
            assert await here.versions() == [("Pending", 1), ("Announced", 1)]

    virtual_time.run(play)


def test_weights_that_no_server_took_fail_the_update_and_calls_go_on_as_before() -> None:
    async def play() -> None:
        async with world() as here:
            group = await here.manager.start(walk())
            await anyio.sleep(5)
            for server in here.trained:
                server.forgetful = True
            with pytest.raises(UpdateFailed, match="no server has version 1 of the weights"):
                await here.manager.update(TRAINED, V1, weights="new")
            await group.handed_on.wait()
            assert await here.spans() == [[0], [0]]
            assert await here.versions() == [("Pending", 1), ("Failed", 1)]
            (failed,) = await here.events(VersionFailed)
            assert "t0: it has version 0 of the weights, and 1 is live" in failed.reason  # type: ignore[union-attr]
            assert (await here.manager.state()).versions == {}

    virtual_time.run(play)


def test_a_server_without_the_new_weights_generates_no_more_until_it_has_newer_ones() -> None:
    async def play() -> None:
        async with world() as here:
            here.servers["t1"].forgetful = True
            await here.manager.update(TRAINED, V1, weights="new")
            await anyio.sleep(30)  # some checks
            asked = len(here.servers["t1"].asked)
            groups = [await here.manager.start(walk()) for _ in range(2)]
            for group in groups:
                await group.handed_on.wait()
            assert await here.spans() == [[1]] * 4
            assert len(here.servers["t1"].asked) == asked
            here.servers["t1"].forgetful = False
            await here.manager.update(TRAINED, V2, weights="newer")
            groups = [await here.manager.start(walk()) for _ in range(2)]
            for group in groups:
                await group.handed_on.wait()
            assert len(here.servers["t1"].asked) > asked

    virtual_time.run(play)


@pytest.mark.parametrize("where", ["a trainer that never comes back", "a server that hangs"])
def test_what_stops_in_the_middle_holds_the_run_until_the_deadline_and_no_longer(where: str) -> None:
    async def play() -> None:
        async with world() as here:
            group = await here.manager.start(walk())
            await anyio.sleep(5)
            if where == "a trainer that never comes back":
                await here.manager.begin_update(TRAINED, V1, deadline_s=60)
                await anyio.sleep(61)
                with pytest.raises(UsageError, match="it was not begun, or it has failed since"):
                    await here.manager.finish_update(TRAINED, V1)
            else:
                for server in here.trained:
                    server.reload_s = 1e9
                with pytest.raises(UpdateFailed, match=r"taking the weights failed: .*it did not answer within 48 s"):
                    await here.manager.update(TRAINED, V1, weights="new", deadline_s=60)
            with anyio.fail_after(30):
                await group.handed_on.wait()
            assert await here.versions() == [("Pending", 1), ("Failed", 1)]

    virtual_time.run(play)


def test_servers_that_die_in_an_update_are_an_outage_and_their_turns_are_whole_later() -> None:
    async def play() -> None:
        async with world() as here:
            group = await here.manager.start(walk())
            await anyio.sleep(5)
            await here.manager.begin_update(TRAINED, V1)
            for server in here.trained:
                server.dead = True
            with pytest.raises(UpdateFailed, match="connection refused"):
                await here.manager.finish_update(TRAINED, V1)
            await anyio.sleep(50)
            for server in here.trained:
                server.dead = server.paused = False  # it was started again
            await group.handed_on.wait()
            assert len(await here.spans()) == 2

    virtual_time.run(play)


def test_a_server_that_cannot_be_let_go_at_once_is_let_go_when_it_answers_again() -> None:
    async def play() -> None:
        async with world() as here:
            await here.manager.begin_update(TRAINED, V1)
            for server in here.trained:
                server.trained, server.stalled = V1, False
            here.servers["t1"].dead = True
            await here.manager.finish_update(TRAINED, V1)
            here.servers["t1"].dead = False  # a network that was cut: it is paused still
            await anyio.sleep(20)
            assert not here.servers["t1"].paused
            groups = [await here.manager.start(walk()) for _ in range(2)]
            for group in groups:
                await group.handed_on.wait()
            assert here.servers["t1"].asked

    virtual_time.run(play)


def test_updates_are_refused_that_cannot_work() -> None:
    async def play() -> None:
        async with world() as here:
            with pytest.raises(UnknownName, match="no policy 'polcy'; did you mean policy"):
                await here.manager.update(PolicyId("polcy"), V1)
            with pytest.raises(UsageError, match="must be positive"):
                await here.manager.update(TRAINED, V1, deadline_s=0)
            await here.manager.update(TRAINED, V2, weights="new")
            with pytest.raises(UsageError, match="version 1 of policy 'policy' is below the newest"):
                await here.manager.update(TRAINED, V1)
            with pytest.raises(UsageError, match="is live already"):
                await here.manager.begin_update(TRAINED, V2)
            await here.manager.update(TRAINED, V2)  # asked again: it is done
            await here.manager.begin_update(TRAINED, V3)
            await here.manager.begin_update(TRAINED, V3)  # asked again: it goes on
            with pytest.raises(UsageError, match="is being updated to version 3"):
                await here.manager.update(TRAINED, PolicyVersion(4))
            for server in here.trained:
                server.trained = V3
            await here.manager.finish_update(TRAINED, V3)
            assert here.trained[0].loads == [("new", 2)]
        async with open_scripted_run(long) as run:
            with pytest.raises(UsageError, match="takes no new weights while it runs"):
                await run.manager.update(TRAINED, V1)

    virtual_time.run(play)


def test_an_update_that_a_newer_announcement_overtakes_fails() -> None:
    async def play() -> None:
        async with world() as here:
            await here.manager.begin_update(TRAINED, V1)
            await here.manager.announce(TRAINED, V2)
            for server in here.trained:
                server.trained = V1
            with pytest.raises(UpdateFailed, match="below the newest announced one, 2"):
                await here.manager.finish_update(TRAINED, V1)
            assert len(await here.run.play(walk())) == 2

    virtual_time.run(play)


def test_what_an_update_makes_too_old_ends_before_it() -> None:
    async def play() -> None:
        async with world(staleness=Staleness(0, step_rollouts=64), lease_s=60) as here:
            group = await here.manager.start(walk(THREE, k=2))  # three turns of 10 s
            await anyio.sleep(15)  # each has a turn of version 0
            await here.manager.update(TRAINED, V1, weights="new")
            await group.handed_on.wait()
            ended = await here.events(RolloutEnded)
            assert [event.status for event in ended] == [Status.CANCELLED] * 2  # type: ignore[union-attr]
            assert (await here.run.members()).of(MemberState.CANCELLED) == 2
            group = await here.manager.start(walk(THREE, k=2))
            await anyio.sleep(5)  # no turn yet
            await here.manager.update(TRAINED, V2, weights="newer")
            await anyio.sleep(12)
            assert not group.ended.is_set()
            await here.manager.cancel(group.id)

    virtual_time.run(play)


@environment("test/uneven-v0", tasks=[Task.ask("1", "1")])
def uneven() -> Environment:
    """One member of two is judged at once, the other after long."""

    async def judge(input: JudgeInput, ctx: Context) -> Score:
        if ctx.rollout_id.endswith("-1-0"):
            await anyio.sleep(100)
        return Score(1.0)

    class Judging:
        score = staticmethod(judge)

    return SingleTurn(Judging())


def test_a_group_with_a_member_that_is_too_old_is_not_played_to_its_end() -> None:
    async def play() -> None:
        async with world(staleness=Staleness(0, step_rollouts=64), lease_s=60) as here:
            group = await here.manager.start(replace(request("test/uneven-v0"), k=2))
            await anyio.sleep(50)
            await here.manager.update(TRAINED, V1, weights="new")
            with anyio.fail_after(30):
                await group.handed_on.wait()
            assert len(await here.events(GroupCancelled)) == 1

    virtual_time.run(play)


def test_masked_tokens_end_nobody() -> None:
    async def play() -> None:
        async with world(staleness=Staleness(0, step_rollouts=64, masks=True)) as here:
            group = await here.manager.start(walk(THREE, k=2))
            await anyio.sleep(15)
            await here.manager.update(TRAINED, V1, weights="new")
            await group.handed_on.wait()
            assert (await here.run.members()).of(MemberState.ACKED) == 2

    virtual_time.run(play)


def test_a_server_moves_from_one_policy_to_another_while_both_run() -> None:
    async def play() -> None:
        async with world(max_running=32) as here:
            await here.manager.update(FROZEN, V3, weights="frozen-3")
            groups = [await here.manager.start(walk(THREE, k=8)) for _ in range(2)]
            groups += [await here.manager.start(walk(THREE, k=8, policy_id=FROZEN)) for _ in range(2)]
            await anyio.sleep(5)
            assert here.servers["t1"].running
            await here.manager.move_server("t1", FROZEN)
            assert here.servers["t1"].loads == [("frozen-3", 3)]
            for group in groups:
                await group.handed_on.wait()
            await here.spans()  # all whole
            for event in await here.events(TurnRecorded):
                versions = {span.policy_version for span in event.turn.spans}  # type: ignore[union-attr]
                assert versions == {0 if event.turn.policy_id == TRAINED else 3}  # type: ignore[union-attr]
            assert len(await here.events(ServerMoved)) == 1
            await here.manager.move_server("t1", FROZEN)  # it is there
            assert len(await here.events(ServerMoved)) == 1
            with pytest.raises(UpdateFailed, match="t0 is the only server of its policy"):
                await here.manager.move_server("t0", FROZEN)
            await here.manager.update(TRAINED, V1, weights="new")
            await here.manager.move_server("t1", TRAINED)
            assert here.servers["t1"].loads[-1] == ("new", 1)

    virtual_time.run(play)


def test_a_server_that_does_not_take_the_weights_serves_nobody_until_it_is_moved_again() -> None:
    async def play() -> None:
        async with world() as here:
            moved = here.servers["t1"]
            moved.reload_s = 2 * MOVE_S
            with pytest.raises(UpdateFailed, match="did not take the weights"):
                await here.manager.move_server("t1", FROZEN, weights="frozen")
            asked = len(moved.asked)
            await here.run.play(walk(k=8))
            await here.run.play(walk(k=8, policy_id=FROZEN))
            assert len(moved.asked) == asked
            moved.reload_s = 0
            await here.manager.move_server("t1", TRAINED, weights="trained")
            await here.run.play(walk(k=8))
            assert len(moved.asked) > asked

    virtual_time.run(play)


def test_a_server_that_two_move_at_once_is_moved_once() -> None:
    async def play() -> None:
        async with world() as here:
            here.servers["t1"].reload_s = 10
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(partial(here.manager.move_server, "t1", FROZEN, weights="frozen"))
            assert here.servers["t1"].loads == [("frozen", 0)]
            assert len(await here.events(ServerMoved)) == 1

    virtual_time.run(play)


def test_a_move_that_had_to_wait_is_refused_where_an_update_has_begun_meanwhile() -> None:
    async def play() -> None:
        async with world() as here:
            here.servers["t1"].reload_s = 10
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(here.manager.move_server, "t1", FROZEN, weights="frozen"))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(here.manager.begin_update, FROZEN, V1)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(UsageError, match="policy 'frozen' is being updated"):
                    await here.manager.move_server("f1", TRAINED, weights="trained")

    virtual_time.run(play)


def test_moves_are_refused_that_cannot_work() -> None:
    async def play() -> None:
        async with world() as here:
            with pytest.raises(UnknownName, match="no engine server 't7'"):
                await here.manager.move_server("t7", FROZEN, weights="frozen")
            with pytest.raises(UsageError, match="say which t1 is to take"):
                await here.manager.move_server("t1", FROZEN)
            await here.manager.begin_update(FROZEN, V1)
            with pytest.raises(UsageError, match="policy 'frozen' is being updated; move the server after that"):
                await here.manager.move_server("t1", FROZEN, weights="frozen")

    virtual_time.run(play)


def test_a_process_that_goes_on_lets_engines_go_that_the_one_before_held() -> None:
    async def play() -> None:
        store = MemoryTraceStore()
        server = FakeServer(long, latency_s=10.0)
        async with open_replicas({"t": server}, places=16) as engine:
            async with open_scripted_run(long, store=store, engines={TRAINED: engine}) as run:
                pass
            await store.append([VersionPending(run.id, 0.0, TRAINED, V1)])
            server.paused = True
            async with open_scripted_run(long, store=store, engines={TRAINED: engine}, resume=True) as run:
                assert not server.paused
                (failed,) = [event for event in await run.events() if isinstance(event, VersionFailed)]
                assert (failed.version, failed.reason) == (V1, "the process that ran it ended")

    virtual_time.run(play)


def test_a_policy_that_is_frozen_never_trains_whatever_is_asked() -> None:
    async def play() -> None:
        async with world() as here:
            await here.run.play(walk(policy_id=FROZEN))
            turns = [event.turn for event in await here.events(TurnRecorded)]  # type: ignore[union-attr]
            assert turns
            assert not any(span.trainable for turn in turns for span in turn.spans)

    virtual_time.run(play)
