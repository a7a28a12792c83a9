"""FilesToolset over real sandboxes."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from envhub.contracts.command import ExecRequest
from envhub.contracts.messages import ToolCall
from envhub.contracts.sandbox import Sandbox, SandboxSpec
from envhub.contracts.toolset import ToolResult
from envhub.environments.standalone import StandaloneContext
from envhub.toolsets.files import FILE_BYTES, FilesToolset
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.process.backend import ProcessBackend
from tests.toolsets.fakes import REQUEST

pytestmark = pytest.mark.anyio
NAME = "str_replace_based_edit_tool"
Edit = Callable[..., Awaitable[ToolResult]]


@pytest.fixture(params=[ProcessBackend, pytest.param(BubblewrapBackend, marks=pytest.mark.sandboxes)])
async def context(request: pytest.FixtureRequest) -> AsyncIterator[StandaloneContext]:
    context = StandaloneContext(REQUEST, sandboxes=request.param())
    yield context
    await context.close()


@pytest.fixture
async def sandbox(context: StandaloneContext) -> Sandbox:
    return await context.sandbox(SandboxSpec())


@pytest.fixture
async def edit(context: StandaloneContext) -> Edit:
    toolset = FilesToolset()
    await toolset.open(context)

    async def call(command: str, path: str, **arguments: object) -> ToolResult:
        return await toolset.call(ToolCall("1", NAME, {"command": command, "path": path, **arguments}))

    return call


async def test_file_is_created_viewed_and_edited(edit: Edit, sandbox: Sandbox):
    assert await edit("create", "src/a.py", file_text="def f():\n    return 1\n") == ToolResult(
        "wrote src/a.py: 2 lines"
    )
    assert (await edit("view", "src/a.py")).content == "     1\tdef f():\n     2\t    return 1"
    assert (await edit("view", "src/a.py", view_range=[2, -1])).content == "     2\t    return 1"
    replaced = await edit("str_replace", "src/a.py", old_str="return 1", new_str="return 2")
    assert replaced.content.startswith("edited src/a.py; around the edit it now reads:\n     1\tdef f():\n     2\t")
    await edit("insert", "src/a.py", insert_line=0, insert_text="import os")
    assert await sandbox.read("src/a.py") == b"import os\ndef f():\n    return 2\n"


async def test_words_of_the_twin_tool_are_understood(edit: Edit, sandbox: Sandbox):
    await sandbox.write("a", b"1\n2\n")
    await edit("insert", "a", insert_line=1, new_str="between\n")
    await edit("str_replace", "a", old_str="2\n")  # no new_str: deleted
    assert await sandbox.read("a") == b"1\nbetween\n"


async def test_directory_is_shown_two_levels_deep_without_hidden_files(edit: Edit, sandbox: Sandbox):
    for path in ("top", "d/mid", "d/e/deep", ".git/config", "d/.hidden"):
        await sandbox.write(path, b"x")
    assert (await edit("view", ".")).content.split() == ["./d/", "./d/e/", "./d/mid", "./top"]
    assert (await edit("view", "d")).content.split() == ["d/e/", "d/e/deep", "d/mid"]


async def test_absolute_path_below_the_working_directory_will_do(edit: Edit, sandbox: Sandbox):
    assert (await edit("view", ".")).content == "(the directory is empty)"
    await sandbox.write("a", b"here\n")
    place = (await sandbox.exec(ExecRequest(("pwd",)))).stdout.decode().strip()
    assert (await edit("view", f"{place}/a")).content == "     1\there"
    assert (await edit("view", place)).content == f"{place}/a"


async def test_large_file_is_cut_with_a_way_to_go_on(edit: Edit, sandbox: Sandbox):
    await sandbox.write("big", b"".join(b"line %d\n" % number for number in range(1, 5001)))
    shown = (await edit("view", "big")).content
    assert len(shown) < 16 * 1024
    last = shown.splitlines()[-1]
    assert last.startswith("[cut at line ")
    assert last.endswith(", 5000]]")
    await sandbox.write("long", b"x" * 100_000)
    assert (await edit("view", "long")).content.endswith("bytes]")


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("view", {"path": "missing"}, "No such file"),
        ("view", {"path": "../up"}, "below the working directory"),
        ("view", {"path": "binary"}, "the file is binary (a NUL byte at offset 1 of 3)"),
        ("view", {"path": "huge"}, f"over max_bytes {FILE_BYTES}"),
        ("view", {"path": "text", "view_range": [7, 9]}, "the file has 2 lines"),
        ("str_replace", {"path": "d", "old_str": "a"}, "not a regular file"),
        ("str_replace", {"path": "text"}, "the command str_replace needs the argument old_str"),
        ("str_replace", {"path": "text", "old_str": "o"}, "more than once, at lines 1, 2"),
        ("create", {"path": "text"}, "the command create needs the argument file_text"),
        ("insert", {"path": "text", "insert_text": "a"}, "the command insert needs the argument insert_line"),
        ("insert", {"path": "text", "insert_line": 1}, "the command insert needs the argument insert_text"),
        ("undo_edit", {"path": "text"}, "argument 'command' is \"undo_edit\""),
    ],
)
async def test_mistake_is_told_exactly_and_changes_nothing(edit: Edit, sandbox: Sandbox, command, arguments, said):
    for path, data in {"text": b"one\ntwo\n", "binary": b"\x7f\0x", "huge": bytes(FILE_BYTES + 1), "d/x": b""}.items():
        await sandbox.write(path, data)
    result = await edit(command, **arguments)
    assert result.is_error
    assert result.content.startswith(f"{NAME}: ")
    assert said in result.content
    assert await sandbox.read("text") == b"one\ntwo\n"


async def test_edits_of_one_action_do_not_lose_each_other(edit: Edit, sandbox: Sandbox):
    await sandbox.write("list", b"".join(b"item %d.\n" % number for number in range(8)))

    async def mark(number: int) -> None:
        await edit("str_replace", "list", old_str=f"item {number}.", new_str=f"done {number}.")

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(mark, number)
    assert await sandbox.read("list") == b"".join(b"done %d.\n" % number for number in range(8))


async def test_edited_script_stays_executable(edit: Edit, sandbox: Sandbox):
    await sandbox.write("run", b"#!/bin/sh\necho old\n")
    await sandbox.exec(ExecRequest(("chmod", "+x", "run")))
    await edit("str_replace", "run", old_str="old", new_str="new")
    assert (await sandbox.exec(ExecRequest(("./run",)))).stdout == b"new\n"
