"""PythonToolset: what the model is told of each ending, over a fake session; that state is kept, over real ones."""

from collections.abc import AsyncIterator

import pytest

from envhub.contracts.messages import ToolCall
from envhub.contracts.sandbox import SandboxBackend, SandboxSpec
from envhub.contracts.session import Interpreter, SessionResult
from envhub.contracts.toolset import ToolResult
from envhub.environments.standalone import StandaloneContext
from envhub.errors import SandboxFault, UsageError
from envhub.toolsets.kept_session import OUTPUT_BYTES
from envhub.toolsets.python import PythonToolset
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.process.backend import ProcessBackend
from tests.toolsets.fakes import REQUEST, FakeBackend, ended

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + bytes(11_992)
LOST = "the interpreter was restarted: names and imports from before are lost]"


async def opened(backend: SandboxBackend, **options: object) -> PythonToolset:
    toolset = PythonToolset(**options)
    await toolset.open(StandaloneContext(REQUEST, sandboxes=backend))
    return toolset


async def run(toolset: PythonToolset, code: str) -> ToolResult:
    return await toolset.call(ToolCall("1", "python", {"code": code}))


def test_model_is_told_of_one_tool_with_one_argument():
    (spec,) = PythonToolset().specs
    assert spec.name == "python"
    assert spec.parameters == {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (ended(value="71"), ToolResult("71")),
        (ended(b"5\n"), ToolResult("5")),
        (ended(b"5\n", value="'x'"), ToolResult("5\n'x'")),
        (ended(), ToolResult("(no output)")),
        (ended(b"NameError: x\n", ok=False, exit_code=1), ToolResult("NameError: x", is_error=True)),
        (
            ended(value="<plot>", images=(PNG, b"tiny")),
            ToolResult("<plot>\n[image 1: PNG, 12 kB]\n[image 2: PNG, 1 kB]", images=(PNG, b"tiny")),
        ),
        (
            ended(b"half", ok=False, exit_code=1, timed_out=True),
            ToolResult("half\n[stopped: it ran longer than 30 s]", is_error=True),
        ),
        (
            ended(ok=False, exit_code=1, timed_out=True, restarted=True),
            ToolResult(f"[stopped: it ran longer than 30 s; {LOST}", is_error=True),
        ),
        (ended(b"bye\n", exit_code=0, restarted=True), ToolResult(f"bye\n[{LOST}")),
        (ended(ok=False, exit_code=3, restarted=True), ToolResult(f"[exit code 3; {LOST}", is_error=True)),
        (
            ended(ok=False, exit_code=-9, restarted=True),
            ToolResult(f"[killed by signal 9; {LOST}", is_error=True),
        ),
    ],
)
async def test_ending_is_told(result: SessionResult, told: ToolResult):
    assert await run(await opened(FakeBackend(lambda _: result)), "code") == told


async def test_long_value_leaves_room_for_the_rest():
    result = ended(b"x" * OUTPUT_BYTES, value="y" * 100_000, images=(PNG,), timed_out=True, restarted=True)
    shown = await run(await opened(FakeBackend(lambda _: result)), "code")
    assert len(shown.content) < 16 * 1024
    assert "of 100000 bytes]\n[image 1: PNG" in shown.content
    assert shown.content.endswith(LOST)


async def test_sandbox_and_interpreter_are_made_at_the_first_call_and_once():
    backend = FakeBackend()
    spec = SandboxSpec(memory_mb=128)
    toolset = await opened(backend, sandbox=spec, timeout_s=5.0)
    assert backend.made == []
    for code in ("x = 1", "x"):
        await run(toolset, code)
    ((interpreter, session),) = backend.sandbox.sessions
    assert (backend.made, interpreter) == ([spec], Interpreter.PYTHON)
    assert session.runs == [("x = 1", 5.0, OUTPUT_BYTES), ("x", 5.0, OUTPUT_BYTES)]


async def test_dead_sandbox_is_the_platforms_failure():
    def die(code: str) -> SessionResult:
        raise SandboxFault("the sandbox died")

    with pytest.raises(SandboxFault, match="the sandbox died"):
        await run(await opened(FakeBackend(die)), "1")


async def test_missing_platform_is_told():
    toolset = PythonToolset()
    context = StandaloneContext(REQUEST)
    await toolset.open(context)
    result = await run(toolset, "1")
    assert "ctx.sandbox needs a platform" in result.content
    assert context.refused == ["sandbox"]
    with pytest.raises(UsageError, match=r"ctx\.policy needs a platform"):
        context.policy()


def test_impossible_timeout_is_refused():
    with pytest.raises(UsageError, match="timeout_s of the python tool is 0; it must be positive"):
        PythonToolset(timeout_s=0)


@pytest.fixture(params=[ProcessBackend, pytest.param(BubblewrapBackend, marks=pytest.mark.sandboxes)])
async def toolset(request: pytest.FixtureRequest) -> AsyncIterator[PythonToolset]:
    context = StandaloneContext(REQUEST, sandboxes=request.param())
    toolset = PythonToolset(timeout_s=1.0)
    await toolset.open(context)
    yield toolset
    await toolset.close()
    await context.close()


async def test_code_shows_what_it_prints_and_its_last_value(toolset: PythonToolset):
    for code, shown in [
        ("print(2 + 3)", "5"),
        ("x = 6\nx * 7", "42"),
        ("23 + 48", "71"),
        ("'é'", "'é'"),
        ("print('a')\n'b'", "a\n'b'"),
        ("x = 1", "(no output)"),
        ("", "(no output)"),
        ("None", "(no output)"),
    ]:
        assert await run(toolset, code) == ToolResult(shown)


async def test_names_imports_and_files_stay(toolset: PythonToolset):
    for code in ("import math\ndef area(r): return math.pi * r * r", "radius = 2", "file = open('kept', 'w')"):
        await run(toolset, code)
    assert await run(toolset, "round(area(radius))") == ToolResult("13")
    assert await run(toolset, "file.write('x'); file.close(); open('kept').read()") == ToolResult("'x'")


async def test_exception_shows_the_codes_own_lines_and_the_names_stay(toolset: PythonToolset):
    result = await run(toolset, "kept = 1\ndef f():\n    return 1 / 0\nf()")
    assert result.is_error
    assert "line 3, in f" in result.content
    assert result.content.endswith("ZeroDivisionError: division by zero")
    assert result.content.count("File ") == 2
    assert await run(toolset, "kept") == ToolResult("1")


async def test_syntax_error_shows_the_place(toolset: PythonToolset):
    result = await run(toolset, "x = (")
    assert result.is_error
    assert "line 1" in result.content
    assert result.content.endswith("SyntaxError: '(' was never closed")


async def test_code_that_hangs_is_stopped_and_the_next_runs(toolset: PythonToolset):
    result = await run(toolset, "print('before', flush=True)\nwhile True: pass")
    assert result.is_error
    assert result.content.startswith("before\n")
    assert "[stopped: it ran longer than 1 s" in result.content
    assert await run(toolset, "1") == ToolResult("1")


async def test_exit_restarts_the_interpreter(toolset: PythonToolset):
    await run(toolset, "x = 1")
    assert (await run(toolset, "exit()")).content.endswith(LOST)
    assert "NameError" in (await run(toolset, "x")).content
    assert LOST in (await run(toolset, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")).content
    assert await run(toolset, "1") == ToolResult("1")


async def test_endless_output_is_cut_and_its_size_told(toolset: PythonToolset):
    result = await run(toolset, "print('x' * 3_000_000)")
    assert not result.is_error
    assert len(result.content) < 16 * 1024
    assert "3,000,001" in result.content.splitlines()[-1]


async def test_figure_that_a_plotting_library_left_open_comes_as_an_image(toolset: PythonToolset):
    # matplotlib is not in the sandbox; what stands for it has the one function that is asked.
    pyplot = (
        "import sys, types\n"
        "class Figure:\n"
        "    def savefig(self, file, **options): file.write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(3000))\n"
        "open_figures = {1: Figure()}\n"
        "pyplot = types.ModuleType('matplotlib.pyplot')\n"
        "pyplot.get_fignums = lambda: list(open_figures)\n"
        "pyplot.figure = open_figures.get\n"
        "pyplot.close = lambda which: open_figures.clear()\n"
        "sys.modules['matplotlib'] = types.ModuleType('matplotlib')\n"
        "sys.modules['matplotlib.pyplot'] = pyplot\n"
    )
    result = await run(toolset, pyplot)
    assert result.content == "[image 1: PNG, 3 kB]"
    assert result.images[0].startswith(b"\x89PNG")
    assert (await run(toolset, "1")).images == ()
