"""Agents that try to be paid for nothing: what an environment's judge gives them is its certificate.

Each plays one task, through the environment's own tools where one of them runs programs, else in the sandbox that it
leased. None may get more than the agent that does nothing; the oracle must get full marks. A certificate says what was
tried, and no more: a judge that no cheat here deceives can still be deceived.
"""

import json
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import anyio

from envhub.contracts.command import ExecRequest
from envhub.contracts.messages import JsonObject, Message, ToolCall
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.environments.cheats import CHEATS, Cheat
from envhub.environments.check import DEADLINE_S, SEED, Finding, NotApplied, find
from envhub.environments.standalone import StandaloneEpisode
from envhub.errors import Fault, UsageError
from envhub.prompts.gold import gold_response
from envhub.registry import EnvironmentSpec

SOLUTION = "solution"  # in a task's metadata: a shell script that does the work, where the answer alone would not
SHOWN = 8192  # characters of what a program printed
FULL = 1.0


async def certify(
    spec: EnvironmentSpec, kwargs: Mapping[str, object] | None = None, *, sandboxes: SandboxBackend | None = None
) -> tuple[Finding, ...]:
    """What a no-op, an oracle and each cheat get on an environment's first task with an answer; never raises for what
    it finds."""
    tasks = spec.load_tasks()
    task = next((task for task in tasks if gold_response(task) is not None), tasks[0])
    isolated = spec.needs_sandbox and sandboxes is not None and (await sandboxes.probe()).isolates
    trial = Trial(spec, task, kwargs or {}, sandboxes, isolated)
    findings = [await find("no-op", trial.no_op), await find("oracle", trial.oracle)]
    findings += [await find(cheat.name, partial(trial.cheat, cheat, tasks)) for cheat in CHEATS]
    return tuple(findings)


@dataclass(frozen=True, slots=True)
class Trial:
    """One task, and those who play it."""

    spec: EnvironmentSpec
    task: Task
    kwargs: Mapping[str, object]
    sandboxes: SandboxBackend | None
    isolated: bool = False  # where programs run nothing of the host can be harmed: scripts of cheats may

    async def no_op(self) -> str:
        score = (await self.play("")).scalar
        if score >= FULL:
            raise UsageError(f"an agent that does nothing scores {score:g}: the judge pays for nothing")
        return f"scores {score:g}"

    async def oracle(self) -> str:
        gold, solution = gold_response(self.task), self.task.metadata.get(SOLUTION, "")
        if gold is None and not solution:
            raise NotApplied("no task has an answer, nor 'gold' or 'solution' in its metadata")
        score = await self.play(gold or "Done.", str(solution))
        if score.scalar < FULL:
            raise UsageError(f"its own answer scores {score.scalar:g} ({score.explanation or 'no explanation'})")
        return f"scores {score.scalar:g}"

    async def cheat(self, cheat: Cheat, tasks: tuple[Task, ...]) -> str:
        if cheat.hedges and gold_response(self.task) is None:
            raise NotApplied("no task has an answer to name")
        if cheat.script and not self.isolated:
            raise NotApplied("no program of the agent runs in a sandbox that isolates")
        nothing = (await self.play("")).scalar
        score = await self.play(cheat.say(self.task, tasks), cheat.script, prints=cheat.prints)
        if score.scalar > (FULL - 1e-9 if cheat.hedges else nothing):
            raise UsageError(f"scores {score.scalar:g}, where doing nothing scores {nothing:g} (it {cheat.does})")
        return f"scores {score.scalar:g}; it {cheat.does}"

    async def play(self, text: str, script: str = "", *, prints: bool = False) -> Score:
        """The score of an agent that runs a script, then says a text; with `prints`, then what the script printed."""
        async with self._episode() as episode:
            try:
                await episode.reset(self.task, seed=SEED)
                if script:
                    printed = await self._run(episode, script)
                    text = f"{text}\n{printed[-SHOWN:]}" if prints else text
                if episode.score is None:
                    await episode.step(Message.assistant(text))
            except (UsageError, Fault):  # a judge may have attributed what its context refused
                if episode.refused:
                    raise NotApplied(f"it needs a platform ({episode.refused[0]})") from None
                raise
        if episode.environment.judge is None:
            raise NotApplied("the environment pays for its steps, and no judge looks at an answer")
        if episode.score is None:
            raise NotApplied("one answer does not end an episode")
        return episode.score

    async def _run(self, episode: StandaloneEpisode, script: str) -> str:
        """What a shell script printed where the agent works."""
        call = _call(episode, script)
        if call is not None:
            result = await episode.step(Message.assistant("", (call,)))
            return "\n".join(message.content for message in result.observation.messages)
        if not episode.sandboxes:
            raise NotApplied("no tool `bash` or `python`, and no sandbox that the environment leased")
        done = await episode.sandboxes[0].exec(ExecRequest(("sh", "-c", script)))
        return done.stdout.decode(errors="replace")

    @asynccontextmanager
    async def _episode(self) -> AsyncIterator[StandaloneEpisode]:
        episode = StandaloneEpisode(self.spec, self.kwargs, sandboxes=self.sandboxes)
        try:
            yield episode
        finally:
            with anyio.CancelScope(shield=True), anyio.fail_after(DEADLINE_S):
                await episode.close()


def _call(episode: StandaloneEpisode, script: str) -> ToolCall | None:
    """A call of a tool that runs the script; None where there is none."""
    for tool in episode.environment.tools:
        parameters = cast("JsonObject", tool.parameters.get("properties", {}))
        if tool.name == "python" and "code" in parameters:
            return ToolCall("cheat", tool.name, {"code": _in_python(script)})
        if tool.name in ("bash", "shell") and "command" in parameters:
            return ToolCall("cheat", tool.name, {"command": f"sh -c {shlex.quote(script)}"})
    return None


def _in_python(script: str) -> str:
    run = f"subprocess.run(['sh', '-c', {json.dumps(script)}], capture_output=True, text=True)"
    return f"import subprocess\nprint({run}.stdout)"
