"""`envhub run`: a job from its first rollout to the table at its end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
import typer

from envhub.app import LOOP, Run, Settings, open_run, open_sandboxes, stored_members
from envhub.app.access import forget_tokens
from envhub.cli import options
from envhub.cli.config_options import configured
from envhub.cli.interrupt import interruptible
from envhub.cli.output import fail, note, print_json
from envhub.cli.progress import run_progress
from envhub.cli.report import Repeated, Report
from envhub.cli.shared_options import OF_THE_JOB, SharedOptions
from envhub.cli.taking import takes, words_told
from envhub.cli.trainer import run_trainer, trainer_command
from envhub.contracts.access import Access
from envhub.contracts.ids import RunId
from envhub.contracts.sandbox import SandboxBackend
from envhub.errors import EnvhubError, UsageError
from envhub.monitor.loop_lag import LoopWatch
from envhub.rollouts.job import NO_ISOLATION, Job
from envhub.store.address import shown

BESIDE = f"{options.LOOPBACK}:0"  # the feed's address beside a trainer of our own; 0: any free port
KEPT = "groups that it did not ack are kept: run --resume delivers them"
NOT_AGAIN = (*OF_THE_JOB, "run_id")  # of the options, when a run goes on


@dataclass(frozen=True, kw_only=True)
class RunOptions(SharedOptions):
    """What `envhub run` may be told."""

    trainer: options.Trainer = ""
    feed: options.Feed = ""
    run_id: options.NewRunId = ""
    resume: options.Resume = ""
    as_json: options.AsJson = False

    def settings(self) -> Settings:
        """
        Raises:
            UsageError: what they say can't be.
        """
        feed = self.feed or (BESIDE if self.trainer else "")
        return self.settings_with(self.resume or self.run_id, feed, self._feeds_access(), resume=bool(self.resume))

    def _feeds_access(self) -> Access:
        """Open to all on this machine where the only trainer is our own."""
        if self.feed:
            return self.access()
        if self.cert or self.key or self.client_ca or self.tokens or self.behind_proxy or self.rates:
            raise UsageError("certificates and tokens are for a feed that others reach; say where it is with --feed")
        return Access()

    def job(self) -> Job | None:
        """None where the run that goes on has its own."""
        return None if self.resume else self.new_job()


@takes(RunOptions)
def run(told: RunOptions) -> None:
    """Run groups of rollouts, and show how they went.

    A group is K rollouts of one task. Every token is recorded, with its log probability.

    [bold]Examples[/]

      envhub run envhub/arithmetic-v0 --groups 8

      envhub run demo/sums-v0 --load docs/examples/sums.py

      envhub run envhub/arithmetic-v0 --trainer "python my_trainer.py"

    Exit code: 0: all went well; 1: members failed, or a group is a dead letter; 2: wrong usage; 130: interrupted.
    """
    if told.resume:
        _refuse_job_options(told.context)
    told = configured(told, told.context, told.config)
    again = words_told(told.context, leave_out=(*NOT_AGAIN, "resume"))
    repeated = Repeated(told.settings(), ("run", "--resume"), again)
    forget_tokens()
    report = anyio.run(_run, repeated, told.job(), told.trainer, backend_options=LOOP)
    if report is None:
        note("nothing was started")
        sys.exit(130)
    if told.as_json:
        print_json(report.as_json())
    else:
        report.show()
    sys.exit(report.exit_code)


def _refuse_job_options(context: typer.Context) -> None:
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.name in NOT_AGAIN and source is not None and source.name == "COMMANDLINE":
            name = option.opts[0] if option.opts[0].startswith("-") else "the environments"
            raise UsageError(f"--resume goes on with the job that the run has; leave out {name}")


async def _run(told: Repeated, job: Job | None, trainer: str) -> Report | None:
    """How the run went; None where it was interrupted before it began."""
    command = trainer_command(trainer) if trainer else []
    async with open_sandboxes(told.settings.sandbox) as backend:
        return await _reported(told, job and runnable(job, backend), backend, command)


async def _reported(
    told: Repeated, job: Job | None, backend: SandboxBackend | None, command: Sequence[str]
) -> Report | None:
    settings = told.settings
    begun: Repeated | None = None
    watch: LoopWatch | None = None
    failures: list[EnvhubError] = []
    with run_progress() as progress:
        async with (
            interruptible() as ending,
            anyio.create_task_group() as tasks,
            open_run(settings, job, backend) as run,
        ):
            begun = replace(told, settings=replace(settings, run_id=run.id))
            ending.acts = run.acts
            watch = run.loop
            await progress.follow(run)
            note(f"run {run.id}, in {shown(settings.database)}")
            if command:
                tasks.start_soon(_train, command, run, tasks.cancel_scope, failures)
            elif run.feed_address:
                note(f"the feed is on {run.feed_address}; the run ends when trainers have acked every group")
            await run.play()
    if begun is None or watch is None:
        return None
    for failure in failures:
        fail(f"{failure}; {KEPT}")
    members = await stored_members(settings.database, RunId(begun.settings.run_id))
    return Report(begun, progress.tally, members, ending.scope.cancel_called, bool(failures), watch.total)


def runnable(job: Job, backend: SandboxBackend | None) -> Job:
    """The job without the environments that need a sandbox where none is to be had, and a line that says so."""
    left = job if backend else job.without_sandbox()
    for name in job.environments:
        if name not in left.environments:
            note(f"skipping {name}: it needs a sandbox and {NO_ISOLATION}")
    return left


async def _train(command: Sequence[str], run: Run, scope: anyio.CancelScope, failures: list[EnvhubError]) -> None:
    try:
        await run_trainer(command, run.feed_address)
        if run.deliveries is not None and not run.deliveries.over:
            raise EnvhubError("the trainer ended before the run")
    except EnvhubError as error:
        failures.append(error)
        scope.cancel()
