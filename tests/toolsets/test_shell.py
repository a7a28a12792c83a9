"""ShellToolset: what the model is told of each ending, over a fake session; that state is kept, over real ones."""

from collections.abc import AsyncIterator

import anyio
import pytest

from envhub.contracts.messages import ToolCall
from envhub.contracts.sandbox import SandboxBackend, SandboxSpec
from envhub.contracts.session import Interpreter, SessionResult
from envhub.contracts.toolset import ToolResult
from envhub.environments.standalone import StandaloneContext
from envhub.errors import UsageError
from envhub.toolsets.kept_session import OUTPUT_BYTES
from envhub.toolsets.shell import ShellToolset
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.process.backend import ProcessBackend
from tests.toolsets.fakes import REQUEST, FakeBackend, ended

pytestmark = pytest.mark.anyio
LOST = "; the shell was restarted: the directory and variables from before are lost]"


async def opened(backend: SandboxBackend, **options: object) -> ShellToolset:
    toolset = ShellToolset(**options)
    await toolset.open(StandaloneContext(REQUEST, sandboxes=backend))
    return toolset


async def bash(toolset: ShellToolset, command: str, **arguments: object) -> ToolResult:
    return await toolset.call(ToolCall("1", "bash", {"command": command, **arguments}))


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (ended(b"one\ntwo\n"), ToolResult("one\ntwo")),
        (ended(), ToolResult("(no output)")),
        (ended(b"no\n", ok=False, exit_code=2), ToolResult("no\n[exit code 2]", is_error=True)),
        (ended(b"\xff\n"), ToolResult("\ufffd")),
        (
            ended(b"half", ok=False, exit_code=-9, timed_out=True),
            ToolResult("half\n[stopped: it ran longer than 30 s]", is_error=True),
        ),
        (
            ended(ok=False, exit_code=-9, timed_out=True, restarted=True),
            ToolResult(f"[stopped: it ran longer than 30 s{LOST}", is_error=True),
        ),
        (ended(ok=False, exit_code=-11, restarted=True), ToolResult(f"[killed by signal 11{LOST}", is_error=True)),
        (ended(b"bye\n", restarted=True), ToolResult(f"bye\n[{LOST[2:]}")),
    ],
)
async def test_ending_is_told(result: SessionResult, told: ToolResult):
    assert await bash(await opened(FakeBackend(lambda _: result)), "command") == told


async def test_sandbox_and_shell_are_made_at_the_first_command_and_once():
    backend = FakeBackend()
    spec = SandboxSpec(memory_mb=128)
    toolset = await opened(backend, sandbox=spec, timeout_s=5.0)
    assert backend.made == []
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(bash, toolset, f"echo {number}")
    ((interpreter, session),) = backend.sandbox.sessions
    assert (backend.made, interpreter) == ([spec], Interpreter.SHELL)
    assert session.runs == [(f"echo {number}", 5.0, OUTPUT_BYTES) for number in range(3)]


async def test_restart_ends_the_shell_and_the_next_command_has_a_new_one():
    backend = FakeBackend()
    toolset = await opened(backend)
    assert await bash(toolset, "", restart=True) == ToolResult("[the shell was restarted]")
    await bash(toolset, "one")
    await bash(toolset, "two", restart=True)
    (_, first), (_, second) = backend.sandbox.sessions
    assert (first.closed, [code for code, *_ in first.runs]) == (True, ["one"])
    assert (second.closed, [code for code, *_ in second.runs]) == (False, ["two"])


async def test_model_may_ask_for_more_time_within_bounds():
    backend = FakeBackend()
    toolset = await opened(backend, max_timeout_s=100.0)
    assert not (await bash(toolset, "make", timeout=100)).is_error
    assert backend.sandbox.sessions[0][1].runs[0][1] == 100.0
    for timeout in (0, -1, 101, 1e9):
        result = await bash(toolset, "make", timeout=timeout)
        assert result.is_error
        assert f"timeout is {timeout:g} s; it must be over 0 and at most 100 s" in result.content
    assert len(backend.sandbox.sessions[0][1].runs) == 1


async def test_call_without_a_command_is_told_what_to_give():
    backend = FakeBackend()
    result = await bash(await opened(backend), " \n")
    assert result == ToolResult("bash: command is empty; give a command to run, or restart: true", is_error=True)
    assert backend.made == []


@pytest.mark.parametrize("limits", [{"timeout_s": 0}, {"timeout_s": -1}, {"timeout_s": 601}, {"max_timeout_s": 1}])
def test_impossible_timeouts_are_refused(limits: dict[str, float]):
    with pytest.raises(UsageError, match="timeout"):
        ShellToolset(**limits)


@pytest.fixture(params=[ProcessBackend, pytest.param(BubblewrapBackend, marks=pytest.mark.sandboxes)])
async def toolset(request: pytest.FixtureRequest) -> AsyncIterator[ShellToolset]:
    context = StandaloneContext(REQUEST, sandboxes=request.param())
    toolset = ShellToolset(timeout_s=20.0)
    await toolset.open(context)
    yield toolset
    await toolset.close()
    await context.close()


async def test_directory_variables_and_functions_stay(toolset: ShellToolset):
    for command in ("mkdir -p deep/er && cd deep/er", "x=41", "next() { echo $((x + 1)); }"):
        assert await bash(toolset, command) == ToolResult("(no output)")
    assert await bash(toolset, "next; basename $PWD; echo oops >&2") == ToolResult("42\ner\noops")
    assert await bash(toolset, "echo $x", restart=True) == ToolResult("(no output)")


async def test_failure_of_a_command_is_told_and_the_shell_stays(toolset: ShellToolset):
    await bash(toolset, "x=1")
    assert await bash(toolset, "false") == ToolResult("[exit code 1]", is_error=True)
    missing = await bash(toolset, "no-such-program")
    assert missing.content.endswith("[exit code 127]")
    assert await bash(toolset, "echo $x") == ToolResult("1")


async def test_command_that_hangs_is_stopped_and_the_next_one_runs(toolset: ShellToolset):
    result = await bash(toolset, "echo before; sleep 60", timeout=0.5)
    assert result.is_error
    assert result.content.startswith("before\n")  # the shell may say what was killed
    assert result.content.splitlines()[-1].startswith("[stopped: it ran longer than 0.5 s")
    assert await bash(toolset, "echo after") == ToolResult("after")


async def test_shell_that_ends_is_told_and_replaced(toolset: ShellToolset):
    assert await bash(toolset, "echo bye; exit 3") == ToolResult(f"bye\n[exit code 3{LOST}", is_error=True)
    assert await bash(toolset, "echo back") == ToolResult("back")


async def test_endless_output_is_cut_and_its_size_told(toolset: ShellToolset):
    result = await bash(toolset, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert not result.is_error
    assert len(result.content) < 16 * 1024
    assert "3,000,000" in result.content.splitlines()[-1]
