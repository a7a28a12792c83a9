"""What can be said of an environment before it runs: `check` plays it through, `preflight` is its cheap part."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.contracts.toolset import ToolSpec
from envhub.environments.standalone import StandaloneEpisode
from envhub.errors import Boundary, Fault, Truncated, UsageError, boundary
from envhub.prompts.gold import gold_response
from envhub.registry import EnvironmentSpec

SEED = 0
DEADLINE_S = 60.0  # of one examination
GOLD_TASKS = 8  # tasks whose gold answer is tried
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what engines and dialects accept


class NotApplied(Exception):
    """An examination can't be made of this environment; why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One examination and what came of it."""

    name: str
    ok: bool
    message: str
    tried: bool = True  # False: it does not apply here; the message says why


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All findings on one environment."""

    environment: EnvironmentId
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


async def check(
    spec: EnvironmentSpec, kwargs: Mapping[str, object] | None = None, *, sandboxes: SandboxBackend | None = None
) -> CheckReport:
    """Plays an environment's first tasks through and reports on every examination; never raises for what it finds."""
    tasks = await find("tasks", lambda: _count(spec))
    if not tasks.ok:
        return CheckReport(spec.id, (tasks,))
    examination = Examination(spec, spec.load_tasks(), kwargs or {}, sandboxes)
    examinations: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
        ("tools", examination.tools),
        ("reset", examination.reset),
        ("empty answer", examination.empty_answer),
        ("gold answer", examination.gold_answer),
        ("close", examination.close),
    )
    return CheckReport(spec.id, (tasks, *[await find(name, examine) for name, examine in examinations]))


async def preflight(spec: EnvironmentSpec, kwargs: Mapping[str, object] | None = None) -> tuple[Task, ...]:
    """The environment's tasks, once it is plain that a run of it can start.

    Raises:
        UsageError: no tasks, an instance that can't be made, a tool that can't be told to a model, or a judge that
            gives no finite number for a gold answer.
    """
    tasks = spec.load_tasks()
    examination = Examination(spec, tasks, kwargs or {}, None)
    for name, examine in (("tools", examination.tools), ("gold answer", examination.first_gold_score)):
        finding = await find(name, examine)
        if not finding.ok:
            raise UsageError(f"environment '{spec.id}' can't run, {name}: {finding.message}; see `envhub env check`")
    return tasks


@dataclass(frozen=True, slots=True)
class Examination:
    """The examinations of one environment. Each returns a remark, or raises UsageError with what it found wrong."""

    spec: EnvironmentSpec
    task_list: tuple[Task, ...]
    kwargs: Mapping[str, object]
    sandboxes: SandboxBackend | None

    async def tools(self) -> str:
        async with self._episode() as episode:
            tools = episode.environment.tools
        for tool in tools:
            _check_tool(tool)
        return f"{len(tools)} tools" if tools else "no tools"

    async def reset(self) -> str:
        task = self.task_list[0]
        async with self._episode() as first, self._episode() as second:
            seen = [await episode.reset(task, seed=SEED) for episode in (first, second)]
        if not any(message.content.strip() for message in seen[0].messages):
            raise UsageError("reset gives no message with content; the agent would see nothing")
        if seen[0].messages != seen[1].messages:
            raise UsageError("two resets with one task and one seed differ; draw everything random from the seed")
        return f"{len(seen[0].messages)} messages, the same for the same seed"

    async def empty_answer(self) -> str:
        score = await self._answered(self.task_list[0], "")
        return "nothing to score" if score is None else f"ends the episode, scored {score.scalar:g}"

    async def gold_answer(self) -> str:
        golden = [(task, gold) for task in self.task_list if (gold := gold_response(task)) is not None][:GOLD_TASKS]
        tried = 0
        for task, gold in golden:
            score = await self._answered(task, gold)
            if score is None:
                continue
            tried += 1
            if score.scalar < 1.0:
                raise UsageError(
                    f"task '{task.id}': its own answer {gold!r} scores {score.scalar:g}, not 1 "
                    f"({score.explanation or 'no explanation'})"
                )
        return f"full marks on {tried} tasks" if tried else "not applied: no task can be answered in one action"

    async def first_gold_score(self) -> str:
        for task in self.task_list:
            gold = gold_response(task)
            if gold is not None:
                score = await self._answered(task, gold)
                return "not applied" if score is None else f"{score.scalar:g}"
        return "not applied"

    async def close(self) -> str:
        async with self._episode() as episode:
            await episode.reset(self.task_list[0], seed=SEED)
            await episode.close()
        return "twice is the same as once"

    async def _answered(self, task: Task, text: str) -> Score | None:
        """The score of that answer; None where it does not end the episode, or no judge of its own scores it, or the
        platform would have to help."""
        async with self._episode() as episode:
            try:
                await episode.reset(task, seed=SEED)
                await episode.step(Message.assistant(text))
            except (UsageError, Fault):  # a judge may have attributed what its context refused
                if episode.refused:
                    return None
                raise
            return None if episode.environment.judge is None else episode.score

    @asynccontextmanager
    async def _episode(self) -> AsyncIterator[StandaloneEpisode]:
        episode = StandaloneEpisode(self.spec, self.kwargs, sandboxes=self.sandboxes)
        try:
            yield episode
        finally:
            with anyio.CancelScope(shield=True), anyio.fail_after(DEADLINE_S):
                await episode.close()


async def find(name: str, examine: Callable[[], Awaitable[str]]) -> Finding:
    """What an examination found. It may raise whatever it likes, and has a deadline."""
    try:
        with boundary(Boundary.ENVIRONMENT), anyio.fail_after(DEADLINE_S):
            try:
                return Finding(name, True, await examine())
            except NotApplied as reason:
                return Finding(name, True, f"not applied: {reason}", tried=False)
    except (Fault, Truncated) as error:
        return Finding(name, False, str(error))


async def _count(spec: EnvironmentSpec) -> str:
    return f"{len(spec.load_tasks())} tasks"


def _check_tool(tool: ToolSpec) -> None:
    if not TOOL_NAME.fullmatch(tool.name):
        raise UsageError(f"tool name '{tool.name}' must be 1-64 letters, digits, _ or -; dialects refuse others")
    if tool.parameters.get("type") != "object":
        raise UsageError(
            f"tool '{tool.name}': parameters must be the JSON Schema of an object, not {tool.parameters!r}"
        )
    if not tool.description.strip():
        raise UsageError(f"tool '{tool.name}' has no description; write a docstring, the model is told of it by that")
