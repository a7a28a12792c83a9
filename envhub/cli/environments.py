"""`envhub env`: what is registered, what one looks like, and whether it keeps the contract."""

import sys
from collections import Counter
from dataclasses import asdict

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP, open_sandboxes
from envhub.cli import options
from envhub.cli.output import count, facts, out, print_json, table
from envhub.contracts.messages import Message
from envhub.environments.check import CheckReport, Finding, check
from envhub.environments.check_cheats import certify
from envhub.environments.check_gold import GoldReport, validate
from envhub.registry import EnvironmentSpec, environments

UNTRIED = "[dim]–[/]"
SHOWN = 20  # failures, for a person
env = typer.Typer(help="List, show, check and validate environments.", no_args_is_help=True)


@env.command("list")
def list_environments(load: options.Load = [], as_json: options.AsJson = False) -> None:  # noqa: B006 - as typer wants
    """List all registered environments."""
    specs = [environments.get(name) for name in environments.names()]
    if as_json:
        print_json([_facts(spec) for spec in specs])
        return
    rows = [(spec.id, str(len(spec.load_tasks())), _needs(spec), spec.description) for spec in specs]
    out.print(table(("environment", "tasks", "needs", "description"), rows, right=("tasks",)))


@env.command("show")
def show_environment(
    id: options.EnvironmentId,
    load: options.Load = [],  # noqa: B006
    as_json: options.AsJson = False,
) -> None:
    """Show one environment: its first task, and its tools as a model is told of them."""
    spec = environments.get(id)
    tools = spec.factory().tools
    task = spec.load_tasks()[0]
    if as_json:
        prompt = [{"role": str(message.role), "content": message.content} for message in task.prompt]
        first_task = {"id": task.id, "prompt": prompt, "answer": task.answer}
        print_json({**_facts(spec), "first_task": first_task, "tools": [asdict(tool) for tool in tools]})
        return
    out.print(f"[bold]{escape(spec.id)}[/]  {escape(spec.description)}\n")
    answer = "" if task.answer is None else f", answer {escape(str(task.answer))}"
    out.print(f"[bold]tasks[/]  {len(spec.load_tasks())}; the first is {escape(task.id)}{answer}")
    out.print(facts([_said(message) for message in task.prompt]))
    for tool in tools:
        out.print(f"\n[bold]tool[/]   {escape(tool.name)}: {escape(tool.description)}")
        print_json(tool.parameters)


@env.command("check")
def check_environment(
    id: options.EnvironmentId,
    sandbox: options.Sandbox = "auto",
    load: options.Load = [],  # noqa: B006
    as_json: options.AsJson = False,
) -> None:
    """Check that an environment keeps the contract, and that its judge is not deceived. Exit code 1 if not."""
    report, certificate = anyio.run(_check, environments.get(id), sandbox, backend_options=LOOP)
    ok = report.ok and all(finding.ok for finding in certificate)
    if as_json:
        checks, agents = ([asdict(finding) for finding in found] for found in (report.findings, certificate))
        print_json({"environment": id, "ok": ok, "checks": checks, "agents": agents})
    else:
        out.print("[bold]contract[/]")
        out.print(facts([_marked(finding) for finding in report.findings]))
        if certificate:
            out.print("\n[bold]certificate[/]  what agents get that do nothing, know the answer, or cheat")
            out.print(facts([_marked(finding) for finding in certificate]))
    sys.exit(0 if ok else 1)


@env.command("validate")
def validate_environment(
    id: options.EnvironmentId,
    sandbox: options.Sandbox = "auto",
    load: options.Load = [],  # noqa: B006
    as_json: options.AsJson = False,
) -> None:
    """Show that every gold answer of an environment scores full marks. Exit code 1 if one does not."""
    report = anyio.run(_validate, environments.get(id), sandbox, backend_options=LOOP)
    short = [finding for finding in report.findings if not finding.ok]
    untried = Counter(finding.message for finding in report.findings if not finding.tried)
    if as_json:
        print_json({**asdict(report), "full_marks": report.full_marks, "ok": report.ok})
    else:
        total = count(len(report.findings), "gold answer")
        out.print(f"{_mark(report.ok)}  {report.full_marks:,} of {total} score full marks")
        rows = [*map(_marked, short[:SHOWN]), *((UNTRIED, count(many, "task"), why) for why, many in untried.items())]
        if rows:
            out.print(facts(rows))
    sys.exit(0 if report.ok else 1)


async def _check(spec: EnvironmentSpec, sandbox: str) -> tuple[CheckReport, tuple[Finding, ...]]:
    async with open_sandboxes(sandbox) as backend:
        report = await check(spec, sandboxes=backend)
        return report, await certify(spec, sandboxes=backend) if report.findings[0].ok else ()


async def _validate(spec: EnvironmentSpec, sandbox: str) -> GoldReport:
    async with open_sandboxes(sandbox) as backend:
        return await validate(spec, sandboxes=backend)


def _marked(finding: Finding) -> tuple[str, str, str]:
    return _mark(finding.ok) if finding.tried else UNTRIED, escape(finding.name), f"[dim]{escape(finding.message)}[/]"


def _mark(ok: bool) -> str:
    return "[green]ok[/]" if ok else "[red]fail[/]"


def _facts(spec: EnvironmentSpec) -> dict[str, object]:
    return {
        "id": spec.id,
        "description": spec.description,
        "tasks": len(spec.load_tasks()),
        "needs_sandbox": spec.needs_sandbox,
        "requires": spec.requires,
        "resume": spec.resume,
    }


def _needs(spec: EnvironmentSpec) -> str:
    return ", ".join([*(["sandbox"] if spec.needs_sandbox else []), *spec.requires])


def _said(message: Message) -> tuple[str, str]:
    return f"  [cyan]{message.role}[/]", escape(message.content)
