"""Invariant 7: trees of rollouts over one slot, one place an environment and one sandbox end without a deadlock."""

from collections.abc import Iterator
from dataclasses import dataclass

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.events import Event, RolloutEnded
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import Boundary
from envhub.registry import environment
from envhub.testing import virtual_time
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import open_scripted_run
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

DEEPEST = 6
SPECS = (SandboxSpec(), SandboxSpec(cpus=2.0))
AT_ONCE_S = 60.0  # far below the 300 s and 600 s after which a pool gives up waiting


@dataclass(frozen=True, slots=True)
class Node:
    """A rollout: where it acts, what it leases before its children and after them, and who starts these."""

    environment: int = 0
    before: tuple[int, ...] = ()  # of SPECS
    after: tuple[int, ...] = ()
    seconds: int = 0
    together: bool = False  # its children, side by side
    judge_starts: bool = False  # its judge starts the children
    children: tuple["Node", ...] = ()

    def all(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            yield from child.all()


def nodes(depth: int) -> st.SearchStrategy[Node]:
    some = st.lists(st.sampled_from((0, 1)), max_size=1).map(tuple)
    below = st.lists(nodes(depth - 1), max_size=2).map(tuple) if depth > 1 else st.just(())
    return st.builds(Node, st.integers(0, 2), some, some, st.integers(0, 2), st.booleans(), st.booleans(), below)


def chain(depth: int, environment: int = 0) -> Node:
    """A line of rollouts, each of which takes a sandbox and starts the next."""
    below = (chain(depth - 1, environment),) if depth > 1 else ()
    return Node(environment, before=(0,), seconds=1, children=below)


def crossed() -> list[Node]:
    """One has the environment that the other's child wants, and wants the sandbox that the other has."""
    return [Node(0, seconds=2, after=(0,)), Node(1, before=(0,), seconds=3, children=(Node(0),))]


class Nest(Environment):
    """Does in its only step what its node says."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes
        self.judge = NestJudge(self)

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self.node, self._ctx = self._nodes[task.id], ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        await self._lease(self.node.before)
        await anyio.sleep(self.node.seconds)
        if not self.node.judge_starts:
            await self.start_children(self._ctx)
        await self._lease(self.node.after)
        return StepResult(reward=1.0, terminated=True)

    async def _lease(self, specs: tuple[int, ...]) -> None:
        for spec in specs:
            await self._ctx.sandbox(SPECS[spec])

    async def start_children(self, ctx: Context) -> None:
        requests = [rollout(child, self._nodes) for child in self.node.children]
        if self.node.together:
            await ctx.rollouts(requests)
            return
        for request in requests:
            await ctx.rollout(request)


class NestJudge:
    def __init__(self, nest: Nest) -> None:
        self._nest = nest

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        if self._nest.node.judge_starts:
            await self._nest.start_children(ctx)
        return Score(1.0)


NODES: dict[str, Node] = {}  # of the trees that are played now, by the id of the task


@environment("test/nest-0-v0", tasks=[Task.ask("nest")], max_live=1)
@environment("test/nest-1-v0", tasks=[Task.ask("nest")], max_live=1)
@environment("test/nest-2-v0", tasks=[Task.ask("nest")], max_live=1)
def nest() -> Environment:
    return Nest(NODES)


def rollout(node: Node, nodes: dict[str, Node]) -> RolloutRequest:
    task = Task.ask("nest", id=str(len(nodes)))
    nodes[task.id] = node
    return RolloutRequest(EnvironmentRef(EnvironmentId(f"test/nest-{node.environment}-v0")), task)


async def play(trees: list[Node], pause: bool) -> tuple[list[Event], float]:
    NODES.clear()
    backend = FakeBackend()
    async with (
        open_pool(backend, PoolLimits(1), clock=anyio.current_time) as pool,
        open_scripted_run(lambda asked: "done", max_running=1, sandboxes=pool, parks_sandboxes=True) as run,
    ):
        groups = [await run.manager.start(GroupRequest(rollout(tree, NODES), 1, 1)) for tree in trees]
        if pause:
            await anyio.sleep(1.5)
            await run.manager.pause()
            await anyio.sleep(1)
            await run.manager.resume()
        for group in groups:
            await group.handed_on.wait()
        stats = pool.stats()
        assert (stats.live, stats.waiting, stats.granted) == (0, 0, stats.returned)
        assert run.slots.free == 1
        events, ended_at = await run.events(), anyio.current_time()
    assert backend.most <= 1
    assert all(one.closed == 1 for one in (*backend.made, *backend.snapshots))
    return events, ended_at


@settings(max_examples=60, deadline=None)
@given(trees=st.lists(nodes(DEEPEST), min_size=1, max_size=3), pause=st.booleans(), seed=st.integers(0, 2**16))
@example(trees=[chain(DEEPEST, 0)], pause=False, seed=0)
@example(trees=[chain(DEEPEST, 1), chain(DEEPEST, 2)], pause=True, seed=1)
@example(trees=crossed(), pause=False, seed=0)
@example(trees=list(reversed(crossed())), pause=False, seed=0)
def test_every_request_of_every_tree_is_granted_or_refused_at_once(trees: list[Node], pause: bool, seed: int) -> None:
    events, ended_at = virtual_time.run(play, trees, pause, seed=seed)
    busy_s = sum(node.seconds for tree in trees for node in tree.all())
    assert ended_at <= busy_s + AT_ONCE_S
    failures = [event.failure for event in events if isinstance(event, RolloutEnded) and event.failure]
    assert {failure.boundary for failure in failures} <= {Boundary.SANDBOX, Boundary.ENVIRONMENT}
