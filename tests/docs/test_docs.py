"""What the documentation says is so: its code runs, its links lead somewhere, its commands and names exist."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import TypeAlias

import anyio
import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from envhub.app import open_sandboxes
from envhub.cli import app
from envhub.registry import environments
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, commands, inline_code, links

Command: TypeAlias = TyperCommand | TyperGroup

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in BLOCKS if block.run is not None]
COMMAND = Path(sys.executable).with_name("envhub")
ENVIRONMENT = {**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
NAME = re.compile(r"(?:envhub|judges|sandboxes)(?:\.\w+)+")
OPTION = re.compile(r"--[a-z-]+")
ENTRY_POINTS = {
    "envhub.environments",
    "envhub.agents",
    "envhub.contexts",
    "envhub.judges",
    "envhub.group_judges",
    "envhub.engines",
    "envhub.filters",
    "envhub.sandboxes",
}
EXAMPLES = [example.read_text() for example in (ROOT / "docs" / "examples").glob("*.py")]
FILES = (".db", ".toml", ".jsonl")
TIMEOUT_S = 280  # below pytest's own


def of(*runs: str | None, language: str) -> pytest.MarkDecorator:
    chosen = [block for block in RUN if block.run in runs and block.language == language]
    assert chosen, "no such block is left: drop the test"
    return pytest.mark.parametrize("block", chosen, ids=str)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the docs at hand, and a registry of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name in environments.names():  # those of entry points register themselves once, when they are first asked for
        environments.get(name)
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    return tmp_path


def execute(*argv: str, **variables: str) -> str:
    """What a command wrote to stdout; its exit code must be 0."""
    done = subprocess.run(argv, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def isolates() -> bool:
    """Whether a back end that isolates works here."""
    async with open_sandboxes("auto") as backend:
        return backend is not None


@of("", "sandbox", language="python")
def test_python_runs(block: Block, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if block.run == "sandbox" and not anyio.run(isolates):
        pytest.skip("no isolating sandbox back end works here")
    script = elsewhere / "snippet.py"
    script.write_text(block.code)
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed
    assert "None" not in printed, "a member has no score"


@of("", language="sh")
def test_commands_run(block: Block, elsewhere: Path) -> None:
    assert execute("bash", "-euc", block.code)


@of("pytest", language="python")
def test_suites_pass(block: Block, elsewhere: Path) -> None:
    (elsewhere / "test_snippet.py").write_text(block.code)
    assert " passed" in execute(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_snippet.py")


@of("trainer", language="python")
def test_trainers_consume_a_run(block: Block, elsewhere: Path) -> None:
    (elsewhere / "trainer.py").write_text(block.code)
    run = (str(COMMAND), "run", "envhub/arithmetic-v0", "--engine", "scripted", "--groups", "8")
    assert "32 acked" in execute(*run, "--trainer", "python trainer.py")


@of("gateway", language="python")
def test_programs_outside_act_in_a_rollout(block: Block, elsewhere: Path) -> None:
    (elsewhere / "outside.py").write_text(block.code)
    with serving() as gateway:
        assert "'status': 'completed'" in execute(sys.executable, "outside.py", ENVHUB_GATEWAY=gateway)


@contextmanager
def serving() -> Iterator[str]:
    """The gateway of `envhub serve`."""
    ports = [f"--{name}-port=0" for name in ("dashboard", "gateway", "feed")]
    command = [str(COMMAND), "serve", "--engine", "scripted", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            line = next(line for line in server.stdout if line.startswith("gateway"))
            yield line.split()[1].removesuffix("/v1")
        finally:
            server.terminate()
            server.communicate(timeout=TIMEOUT_S)


def test_the_own_package_of_the_docs_is_found(elsewhere: Path) -> None:
    sums = next(block.code for block in RUN if '"demo/sums-v0"' in block.code and block.language == "python")
    (elsewhere / "demo_sums.py").write_text(sums.partition("\nresult = ")[0])
    declared = next(block.code for block in BLOCKS if block.language == "toml" and "demo/sums-v0" in block.code)
    metadata = elsewhere / "demo_sums-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-sums\nVersion: 0.1\n")
    group, entry = declared.splitlines()
    assert group == '[project.entry-points."envhub.environments"]'
    (metadata / "entry_points.txt").write_text("[envhub.environments]\n" + entry.replace('"', "") + "\n")
    assert "ok" in execute(str(COMMAND), "env", "check", "demo/sums-v0", PYTHONPATH=str(elsewhere))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    """What holds for every page."""

    def test_every_link_leads_somewhere(self, page: Path) -> None:
        for target in links(page):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), target
            assert file.is_relative_to(ROOT), target
            assert not anchor or anchor in anchors(file), target

    def test_every_command_and_option_exists(self, page: Path) -> None:
        for mentioned in commands(page):
            command, options = parse(mentioned)
            assert options <= {*options_of(command), "--help", "-h"}, mentioned

    def test_every_option_that_stands_alone_is_one_of_some_command(self, page: Path) -> None:
        known = {name for command in leaves(get_command(app)) for name in options_of(command)}
        for code in inline_code(page):
            if OPTION.match(code):
                assert OPTION.match(code)[0] in known, code

    def test_every_dotted_name_exists(self, page: Path) -> None:
        for code in inline_code(page):
            for name in NAME.findall(code):
                assert name in ENTRY_POINTS or name.endswith(FILES) or exists(name), name

    def test_every_python_block_is_run_or_an_example_that_is(self, page: Path) -> None:
        for block in blocks(page):
            if block.language == "python" and block.run is None:
                assert block.code in EXAMPLES, block


def parse(mentioned: str) -> tuple[Command, set[str]]:
    """The command that is meant, and the options named with it."""
    command = get_command(app)
    words = shlex.split(re.split(r" (?:\||\|\||&&|>) ", mentioned)[0])[1:]
    while words and isinstance(command, TyperGroup) and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"{mentioned}: no command '{name}'"
        command = command.commands[name]
    return command, {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}


def options_of(command: Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def leaves(command: Command) -> Iterator[Command]:
    yield command
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            yield from leaves(inner)


def exists(dotted: str) -> bool:
    """Whether a module, or an attribute of one, has that name."""
    try:
        resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True
