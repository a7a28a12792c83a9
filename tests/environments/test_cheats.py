"""Cheating agents: each one finds the judge that it deceives, and an honest judge passes them all."""

import json
import runpy
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envhub.cli import app
from envhub.contracts.command import ExecRequest
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.sandbox import SandboxBackend, SandboxSpec
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.environments import SingleTurn, ToolEnvironment
from envhub.environments.cheats import CHEATS
from envhub.environments.check import Finding
from envhub.environments.check_cheats import certify
from envhub.environments.check_gold import validate
from envhub.registry import EnvironmentSpec, environments
from envhub.toolsets import Toolset, tool
from envhub.toolsets.python import PythonToolset
from envhub.toolsets.shell import ShellToolset
from judges import exact, number
from sandboxes.bubblewrap.backend import BubblewrapBackend

pytestmark = pytest.mark.anyio
PLACE = SandboxSpec(memory_mb=128)
TASKS = (Task.ask("What is 3 + 4?", 7), Task.ask("What is 3 + 5?", 8))
SECRET = "the harbour master keeps two brass keys"
REPAIR = Path(__file__).parents[2] / "docs" / "examples" / "repair_env.py"


class World(ToolEnvironment):
    """A program, its tests and a secret, in the agent's sandbox."""

    async def reset(self, task, *, seed, ctx):
        self.sandbox_of_agent = await ctx.sandbox(PLACE)
        await self.sandbox_of_agent.write("program.py", b"print('broken')\n")
        await self.sandbox_of_agent.write("test_program.py", b"import program\nassert program.ok\n")
        await self.sandbox_of_agent.write("case/hidden_answer.txt", SECRET.encode())
        return await super().reset(task, seed=seed, ctx=ctx)


class Runs:
    """Full marks where a command exits with 0 in the agent's own sandbox: that is the mistake."""

    def __init__(self, *argv: str) -> None:
        self.argv = argv

    async def score(self, input: JudgeInput, ctx) -> Score:
        sandbox = await ctx.sandbox(PLACE)
        return Score(float((await sandbox.exec(ExecRequest(self.argv))).exit_code == 0))


UNITTEST = (
    "import sys, unittest; sys.path.insert(0, '.')\n"
    "try:\n    import sitecustomize, importlib; importlib.reload(sitecustomize)\nexcept ImportError: pass\n"
    "class T(unittest.TestCase):\n    def test_it(self): self.assertEqual(1, 2)\n"
    "unittest.main(argv=['x'])"
)
GULLIBLE = {
    "early exit": Runs("sh", "-c", "PYTHONPATH=. python3 test_program.py"),
    "edited tests": Runs("python3", "-S", "test_program.py"),
    "patched grader": Runs("python3", "-c", UNITTEST),
    "reward file": Runs("sh", "-c", "[ $(cat reward.txt) = 1 ]"),
    "hidden files": lambda input: float(SECRET in input.response),
}


def spec_of(factory, tasks=TASKS, needs_sandbox: bool = False) -> EnvironmentSpec:
    return EnvironmentSpec(EnvironmentId("test/it-v0"), factory, tasks, "", needs_sandbox, None)


async def certificate(spec: EnvironmentSpec, sandboxes: SandboxBackend | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in await certify(spec, sandboxes=sandboxes)}


@pytest.fixture
async def sandboxes() -> AsyncIterator[SandboxBackend]:
    backend = BubblewrapBackend()
    yield backend
    await backend.aclose()


async def test_an_honest_judge_passes_and_what_can_not_be_tried_says_so():
    found = await certificate(spec_of(lambda: SingleTurn(number)))
    assert list(found) == ["no-op", "oracle", *(cheat.name for cheat in CHEATS)]
    assert all(finding.ok for finding in found.values())
    tried = {name for name, finding in found.items() if finding.tried}
    assert tried == {"no-op", "oracle", "expected words", "every answer"}


@pytest.mark.parametrize(
    ("judge", "caught"),
    [
        (lambda input: 1.0, "no-op"),
        (lambda input: 0.5, "oracle"),
        (lambda input: float("correct" in input.response or "7" in input.response), "expected words"),
        (lambda input: float(str(input.task.answer) in input.response), "every answer"),
    ],
)
async def test_judges_of_text_that_can_be_deceived_are_caught(judge, caught: str):
    found = await certificate(spec_of(lambda: SingleTurn(judge)))
    assert not found[caught].ok
    assert "scores" in found[caught].message


@pytest.mark.sandboxes
@pytest.mark.parametrize("caught", GULLIBLE)
@pytest.mark.parametrize("tools", [ShellToolset, PythonToolset])
async def test_judges_that_trust_the_agents_sandbox_are_caught(caught: str, tools, sandboxes: SandboxBackend):
    spec = spec_of(lambda: World(lambda: tools(sandbox=PLACE), GULLIBLE[caught]), [Task.ask("Mend it.")], True)
    found = await certificate(spec, sandboxes)
    assert found["no-op"].ok, found["no-op"]
    assert not found[caught].ok, found[caught]
    assert "scores 1, where doing nothing scores 0" in found[caught].message


@pytest.mark.sandboxes
async def test_an_agent_without_a_shell_cheats_in_the_sandbox_that_its_environment_leased(sandboxes: SandboxBackend):
    class Silent(World):
        tools = ()

        def __init__(self) -> None:
            super().__init__(lambda: ShellToolset(sandbox=PLACE), GULLIBLE["reward file"])
            self.tools = ()

    found = await certificate(spec_of(Silent, [Task.ask("Mend it.")], True), sandboxes)
    assert not found["reward file"].ok


async def test_scripts_of_cheats_never_run_where_nothing_isolates():
    ran: list[str] = []

    class Host(Toolset):
        @tool
        def bash(self, command: str) -> str:
            """Run a command on this host."""
            ran.append(command)
            return ""

    found = await certificate(spec_of(lambda: ToolEnvironment(Host, number), needs_sandbox=True))
    assert not any(found[cheat.name].tried for cheat in CHEATS if cheat.script)
    assert ran == []


async def test_a_judge_that_needs_a_platform_is_not_blamed():
    class AsksAModel:
        async def score(self, input: JudgeInput, ctx) -> Score:
            ctx.policy()
            raise AssertionError("never reached")

    found = await certificate(spec_of(lambda: SingleTurn(AsksAModel())))
    assert all(finding.ok and not finding.tried for finding in found.values())
    assert "needs a platform (policy)" in found["no-op"].message


@pytest.mark.sandboxes
async def test_the_example_that_forks_is_not_deceived_and_its_solution_gets_full_marks(
    sandboxes: SandboxBackend, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    runpy.run_path(str(REPAIR))
    spec = environments.get("demo/fix-the-bug-v0")
    found = await certificate(spec, sandboxes)
    assert all(finding.ok for finding in found.values()), found
    assert found["oracle"].tried and found["patched grader"].tried
    report = await validate(spec, sandboxes=sandboxes)
    assert report.ok and report.full_marks == 1


async def test_validate_tries_every_gold_answer():
    report = await validate(spec_of(lambda: SingleTurn(number)))
    assert report.ok and report.full_marks == 2


async def test_validate_names_the_tasks_whose_gold_answer_falls_short():
    tasks = [*TASKS, Task.ask("Spell it.", " seven", id="spelled"), replace(TASKS[0], id="none", answer=None)]
    wrong = [replace(tasks[0], id="gold", metadata={"gold": "eight"})]
    report = await validate(spec_of(lambda: SingleTurn(exact), [*tasks, *wrong]))
    assert not report.ok and report.full_marks == 3
    assert [finding.name for finding in report.findings if not finding.ok] == ["gold"]
    assert [finding.name for finding in report.findings if not finding.tried] == ["none"]


async def test_validate_of_nothing_is_not_ok():
    report = await validate(spec_of(lambda: SingleTurn(number), [Task("t", (Message.user("?"),))]))
    assert not report.ok and report.full_marks == 0


@pytest.fixture
def gullible(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    spec = spec_of(lambda: SingleTurn(lambda input: float(str(input.task.answer) in input.response)))
    monkeypatch.setitem(environments._known, spec.id, spec)
    yield


def test_the_command_prints_the_certificate_and_fails(gullible: None):
    shown = CliRunner().invoke(app, ["env", "check", "test/it-v0"])
    assert shown.exit_code == 1
    assert "fail  every answer" in shown.output and "certificate" in shown.output
    told = CliRunner().invoke(app, ["env", "check", "test/it-v0", "--json"])
    agents = {agent["name"]: agent["ok"] for agent in json.loads(told.output)["agents"]}
    assert not agents["every answer"] and agents["oracle"]


def test_the_command_validates(gullible: None):
    shown = CliRunner().invoke(app, ["env", "validate", "test/it-v0"])
    assert shown.exit_code == 0 and "2 of 2 gold answers score full marks" in shown.output
    told = CliRunner().invoke(app, ["env", "validate", "test/it-v0", "--json"])
    assert json.loads(told.output)["full_marks"] == 2
