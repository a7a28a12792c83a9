"""`envhub env`: what is registered, what one looks like, and whether it keeps the contract."""

import sys
from dataclasses import asdict

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP, choose_sandbox
from envhub.cli import options
from envhub.cli.output import out, print_json, table
from envhub.environments.check import CheckReport, check
from envhub.registry import EnvironmentSpec, environments

env = typer.Typer(help="List, show and check environments.", no_args_is_help=True)


@env.command("list")
def list_environments(as_json: options.AsJson = False) -> None:
    """All registered environments."""
    specs = [environments.get(name) for name in environments.names()]
    if as_json:
        print_json([_facts(spec) for spec in specs])
        return
    rows = [(spec.id, str(len(spec.load_tasks())), _needs(spec), spec.description) for spec in specs]
    out.print(table(("environment", "tasks", "needs", "description"), rows, right=("tasks",)))


@env.command()
def show(id: str, as_json: options.AsJson = False) -> None:
    """One environment: its tools and its first task."""
    spec = environments.get(id)
    tools = spec.factory().tools
    task = spec.load_tasks()[0]
    if as_json:
        shown = {"tools": [tool.name for tool in tools], "first_task": {"id": task.id, "answer": task.answer}}
        print_json({**_facts(spec), **shown})
        return
    out.print(f"[bold]{escape(spec.id)}[/]  {escape(spec.description)}")
    out.print(
        f"\n[bold]tasks[/]  {len(spec.load_tasks())}, the first: {escape(task.id)} (answer: {escape(str(task.answer))})"
    )
    for message in task.prompt:
        out.print(f"  [cyan]{message.role}[/]  {escape(message.content)}")
    for tool in tools:
        out.print(f"\n[bold]tool[/]   {escape(tool.name)}: {escape(tool.description)}")
        print_json(tool.parameters)


@env.command("check")
def check_environment(id: str, sandbox: options.Sandbox = "auto", as_json: options.AsJson = False) -> None:
    """Check that an environment keeps the contract: tasks, tools, determinism, scores. Exit code 1 if not."""
    report = anyio.run(_check, environments.get(id), sandbox, backend_options=LOOP)
    if as_json:
        print_json({"environment": id, "ok": report.ok, "checks": [asdict(finding) for finding in report.findings]})
    else:
        for finding in report.findings:
            mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
            out.print(f"{mark}  {escape(finding.name)}  [dim]{escape(finding.message)}[/]")
    sys.exit(0 if report.ok else 1)


async def _check(spec: EnvironmentSpec, sandbox: str) -> CheckReport:
    backend = await choose_sandbox(sandbox)
    return await check(spec, sandboxes=backend)


def _facts(spec: EnvironmentSpec) -> dict[str, object]:
    return {
        "id": spec.id,
        "description": spec.description,
        "tasks": len(spec.load_tasks()),
        "needs_sandbox": spec.needs_sandbox,
    }


def _needs(spec: EnvironmentSpec) -> str:
    return "sandbox" if spec.needs_sandbox else ""
