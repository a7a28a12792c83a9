"""The example of an agent that repairs a program, played by scripts that do it, look around, and cheat."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envhub.contracts.messages import ToolCall
from envhub.contracts.outcome import Status
from envhub.contracts.turn import Sampling
from envhub.engines.scripted import Script, ScriptInput
from envhub.registry import environments
from envhub.testing.runs import open_scripted_run, request
from envhub.tokens.call_forms import HERMES
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

pytestmark = [pytest.mark.anyio, pytest.mark.sandboxes]
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "repair_env.py"
RESULT = "<|im_start|>tool\n"
EDITOR = "str_replace_based_edit_tool"
OLD = "    return ordered[len(ordered) // 2]\n"
NEW = "    half = len(ordered) // 2\n    return (ordered[half] + ordered[~half]) / 2\n"


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Callable[..., None]]]:
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    yield runpy.run_path(str(EXAMPLE))


def bash(command: str) -> ToolCall:
    return ToolCall("1", "bash", {"command": command})


def edit(**arguments: object) -> ToolCall:
    return ToolCall("1", EDITOR, {"path": "stats.py", **arguments})


def playing(*calls: ToolCall) -> tuple[Script, list[str]]:
    """A script that makes the calls one after the other and says done, and the list where it notes what came back."""
    seen: list[str] = []

    def script(asked: ScriptInput) -> str:
        results = asked.prompt.split(RESULT)[1:]
        seen[:] = [result.split("<|im_end|>")[0] for result in results]
        return HERMES.write(calls[len(seen)]) if len(seen) < len(calls) else "done"

    return script, seen


async def play(script: Script) -> float | None:
    backend = BubblewrapBackend()
    async with open_pool(backend, PoolLimits(max_live=1)) as pool, open_scripted_run(script, sandboxes=pool) as run:
        (outcome,) = await run.play(request("demo/fix-the-bug-v0", sampling=Sampling(max_tokens=1_000)))
    await backend.aclose()
    assert outcome.status is Status.COMPLETED, outcome.failure
    return outcome.reward


async def test_bug_that_is_mended_earns_full_marks():
    script, seen = playing(
        bash("python3 test_stats.py"),
        edit(command="view"),
        edit(command="str_replace", old_str=OLD, new_str=NEW),
        bash("python3 test_stats.py && echo passed"),
    )
    assert await play(script) == 1.0
    failed, viewed, edited, passed = seen
    assert failed.endswith("AssertionError: 3\n[exit code 1]")
    assert "\tdef median(numbers):" in viewed
    assert "(ordered[half] + ordered[~half]) / 2" in edited
    assert passed == "passed"


async def test_hidden_cases_are_nowhere_in_the_agents_sandbox():
    script, seen = playing(bash("ls -A; grep -rl hidden . | head"))
    assert await play(script) == 0.5
    assert seen == ["stats.py\ntest_stats.py"]


async def test_program_that_ends_its_own_judging_or_answers_nonsense_earns_nothing():
    for body in ("import os; os._exit(0)", "def median(numbers): return {}", "print('[')"):
        script, _ = playing(edit(command="create", file_text=f"{body}\n"))
        assert await play(script) == 0.0


def test_example_plays_a_group(example, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    example["main"](engine="scripted", database=str(tmp_path / "run.db"))
    assert capsys.readouterr().out.startswith("median [0.5, 0.5, 0.5, 0.5]")
