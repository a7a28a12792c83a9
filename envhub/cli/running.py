"""`envhub run`: a job from its first rollout to the table at its end."""

import shlex
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP, Run, Settings, choose_sandbox, open_run, stored_members
from envhub.cli import options
from envhub.cli.interrupt import interruptible
from envhub.cli.output import fail, note, number, out, print_json, table
from envhub.cli.progress import run_progress
from envhub.cli.tally import Line, Tally
from envhub.cli.trainer import run_trainer
from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.turn import Sampling
from envhub.errors import EnvhubError, UsageError
from envhub.registry import environments
from envhub.rollouts.job import Job

NO_ISOLATION = (
    "no isolating back end works here (`envhub doctor` says why); --sandbox process runs it without isolation"
)
LOOPBACK = "127.0.0.1:0"  # the feed's address beside a trainer of our own; 0: any free port


def run(
    environment_ids: options.Environments = [],  # noqa: B006 - typer's way to say "may be left out"
    groups: options.Groups = 1,
    k: options.K = 4,
    engine: options.Engine = "embedded",
    weights: options.Weights = "",
    threads: options.Threads = 0,
    max_batch: options.MaxBatch = 16,
    agent: options.Agent = "tool-loop",
    judge: options.JudgeName = "",
    sandbox: options.Sandbox = "auto",
    temperature: options.Temperature = 1.0,
    max_tokens: options.MaxTokens = 128,
    max_running: options.MaxRunning = 64,
    seed: options.Seed = 0,
    database: options.Database = "envhub.db",
    run_id: Annotated[str, typer.Option(help="A name for the run; made from the date where none is given.")] = "",
    feed: Annotated[
        str, typer.Option(help="Serve trainers on HOST:PORT; the run ends when all groups are acked.")
    ] = "",
    trainer: Annotated[str, typer.Option(help="A command that consumes the feed, in a process of its own.")] = "",
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with a run that ended too early.")] = "",
    as_json: options.AsJson = False,
) -> None:
    """Run groups of rollouts, and show how they went.

    A group is K rollouts of one task. Every token is recorded with its log probability and policy version.

    [bold]Examples[/]

      envhub run envhub/arithmetic-v0 --groups 8

      envhub run envhub/calculator-v0 --trainer "python docs/examples/trainer_client.py"
    """
    settings = Settings(
        database=database,
        run_id=resume or run_id,
        resume=bool(resume),
        seed=seed,
        engine=engine,
        engine_options=EngineOptions(weights, threads, max_batch),
        sandbox=sandbox,
        max_running=max_running,
        feed=feed or (LOOPBACK if trainer else ""),
    )
    job = None
    if not resume:
        job = Job(tuple(environment_ids), groups, k, agent, judge, Sampling(temperature, max_tokens))
    report = anyio.run(_run, settings, job, trainer, backend_options=LOOP)
    if as_json:
        print_json(report.as_json())
    else:
        report.show()
    sys.exit(report.exit_code)


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went."""

    run_id: RunId
    database: str
    tally: Tally
    members: MemberCounts
    interrupted: bool

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 0 if self.members.of(MemberState.ACKED) == self.members.submitted else 1

    def as_json(self) -> dict[str, object]:
        return {
            "run_id": self.run_id,
            "database": self.database,
            "environments": {name: _facts(line) for name, line in self.tally.lines.items()},
            "members": {"submitted": self.members.submitted, **{str(s): n for s, n in self.members.by_state.items()}},
            "conserved": self.members.conserved,
            "drained": self.members.drained,
        }

    def show(self) -> None:
        columns = ("environment", "groups", "rollouts", "mean reward", "tokens", "tokens/s", "outcomes")
        rows = [_row(name, line) for name, line in self.tally.lines.items()]
        if len(rows) > 1:
            rows.append(_row("all", self.tally.total()))
        out.print()
        out.print(table(columns, rows, right=columns[1:6]))
        out.print(f"\n[bold]members[/]   {self.members.equation()}")
        out.print(f"[bold]database[/]  {self.database} (run {self.run_id})\n", soft_wrap=True)
        for command, meaning in self._next():
            out.print(f"  [cyan]{escape(command)}[/]  [dim]{meaning}[/]", soft_wrap=True)

    def _next(self) -> list[tuple[str, str]]:
        database = "" if self.database == "envhub.db" else f" --database {shlex.quote(self.database)}"
        command = _own_name()
        commands = [
            (f"{command} trace list{database}", "the rollouts, newest first"),
            (f"{command} verify{database}", "check every recorded token"),
            (f"{command} serve{database}", "look at them in a browser"),
        ]
        if not self.members.drained:
            commands.insert(0, (f"{command} run --resume {self.run_id}{database}", "go on where it stopped"))
        return commands


async def _run(settings: Settings, job: Job | None, trainer: str) -> Report:
    backend = await choose_sandbox(settings.sandbox)
    if job is not None:
        job = runnable(job, backend)
        await job.check()
    with run_progress() as progress:
        async with (
            interruptible() as scope,
            anyio.create_task_group() as tasks,
            open_run(settings, job, backend) as run,
        ):
            settings = replace(settings, run_id=run.id)
            progress.expect(run.job)
            run.recorder.listen(progress.take)
            if trainer:
                tasks.start_soon(_train, trainer, run, tasks.cancel_scope)
            elif run.feed_address:
                note(f"the feed is on {run.feed_address}; the run ends when its consumers have acked every group")
            await run.play()
    members = await stored_members(settings.database, RunId(settings.run_id))
    return Report(RunId(settings.run_id), settings.database, progress.tally, members, scope.cancel_called)


def runnable(job: Job, backend: SandboxBackend | None) -> Job:
    """The job without the environments that need a sandbox where none is to be had."""
    if backend is not None:
        return job
    skipped = [name for name in job.environments if environments.get(name).needs_sandbox]
    if len(skipped) == len(job.environments):
        raise UsageError(f"{', '.join(skipped)} needs a sandbox and {NO_ISOLATION}")
    for name in skipped:
        note(f"skipping {name}: it needs a sandbox and {NO_ISOLATION}")
    return replace(job, environments=tuple(name for name in job.environments if name not in skipped))


async def _train(command: str, run: Run, scope: anyio.CancelScope) -> None:
    try:
        await run_trainer(command, run.feed_address)
        if run.deliveries is not None and not run.deliveries.over:
            raise EnvhubError(f"the trainer '{command}' ended before the run; groups that it did not ack are kept")
    except EnvhubError as error:
        fail(str(error))
        scope.cancel()


def _facts(line: Line) -> dict[str, object]:
    return {
        "groups": line.groups,
        "rollouts": line.rollouts,
        "children": line.children,
        "mean_reward": line.mean_reward,
        "tokens": line.tokens,
        "tokens_per_s": round(line.tokens_per_s, 1),
        "outcomes": dict(line.outcomes),
    }


def _row(name: str, line: Line) -> tuple[str, ...]:
    outcomes = [f"{count:,} {outcome}" for outcome, count in line.outcomes.most_common()]
    if line.children:
        outcomes.append(f"and {line.children:,} children")
    reward, rate = number(line.mean_reward), number(line.tokens_per_s, 0)
    return name, str(line.groups), f"{line.rollouts:,}", reward, f"{line.tokens:,}", rate, ", ".join(outcomes)


def _own_name() -> str:
    """How this command was called, so that what is printed can be typed."""
    return sys.argv[0] if "/" in sys.argv[0] and not sys.argv[0].startswith("/") else "envhub"
