"""`envhub run`: a job from its first rollout to the table at its end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio
import typer

from envhub.app import LOOP, Run, Settings, open_run, open_sandboxes, stored_members
from envhub.cli import feed_options, group_options, options, policy_options, ray_options
from envhub.cli.interrupt import interruptible
from envhub.cli.loading import modules
from envhub.cli.output import fail, note, print_json
from envhub.cli.progress import run_progress
from envhub.cli.report import Repeated, Report
from envhub.cli.taking import takes
from envhub.cli.trainer import run_trainer, trainer_command
from envhub.contracts.ids import RunId
from envhub.contracts.rollout import Limits
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.turn import Sampling
from envhub.errors import EnvhubError, UsageError
from envhub.feed.access import FeedAccess
from envhub.monitor.loop_lag import LoopWatch
from envhub.rollouts.job import NO_ISOLATION, Job
from envhub.store.address import shown

BESIDE = f"{options.LOOPBACK}:0"  # the feed's address beside a trainer of our own; 0: any free port
KEPT = "groups that it did not ack are kept: run --resume delivers them"
USUAL = Limits()
OF_THE_JOB = (
    "environment_ids",
    "groups",
    "k",
    "agent",
    "judge",
    "context_strategy",
    "temperature",
    "max_tokens",
    "max_turns",
    "max_critical_steps",
    "seed",
    "run_id",
    "extra",
    "min_k",
    "refills",
    "group_deadline_s",
    "group_judge",
    "filters",
    "spares",
)


@dataclass(frozen=True)
class RunOptions:
    """What `envhub run` may be told."""

    context: typer.Context
    environment_ids: options.EnvironmentIds = field(default_factory=list)
    groups: options.Groups = 1
    k: options.K = 4
    agent: options.Agent = "tool-loop"
    judge: options.JudgeName = ""
    context_strategy: options.ContextStrategy = ""
    max_turns: options.MaxTurns = USUAL.max_turns
    max_critical_steps: options.MaxCriticalSteps = USUAL.max_critical_steps
    seed: options.Seed = 0
    load: options.Load = field(default_factory=list)
    engine: policy_options.Engine = "embedded"
    weights: options.Weights = ""
    temperature: options.Temperature = 1.0
    max_tokens: options.MaxTokens = 128
    max_batch: options.MaxBatch = 16
    threads: options.Threads = 0
    policies: policy_options.Policies = field(default_factory=list)
    sandbox: options.Sandbox = "auto"
    workers: options.Workers = 0
    ray: ray_options.Ray = ""
    worker_needs: ray_options.Needs = field(default_factory=list)
    worker_labels: ray_options.Labels = field(default_factory=list)
    max_running: options.MaxRunning = 64
    caps: options.Caps = field(default_factory=list)
    extra: group_options.Extra = 0
    min_k: group_options.MinK = 1
    refills: group_options.Refills = 0
    group_deadline_s: group_options.GroupDeadline = None
    group_judge: group_options.GroupJudge = ""
    filters: group_options.Filters = field(default_factory=list)
    spares: group_options.Spares = 0
    max_staleness: group_options.MaxStaleness = None
    step_rollouts: group_options.StepRollouts = 0
    mask_stale: group_options.MaskStale = False
    iteration_tokens: group_options.IterationTokens = None
    trainer: options.Trainer = ""
    feed: options.Feed = ""
    feed_cert: feed_options.Certificate = ""
    feed_key: feed_options.Key = ""
    feed_client_ca: feed_options.ClientCa = ""
    feed_tokens: feed_options.Tokens = ""
    feed_proxied: feed_options.Proxied = False
    inexact: policy_options.Inexact = False
    agent_sampling: policy_options.AgentSampling = ""
    train_calls: policy_options.TrainCalls = "main,subagent"
    keep_calls: policy_options.KeepCalls = False
    tracing: options.Tracing = False
    database: options.Database = "envhub.db"
    run_id: options.NewRunId = ""
    resume: options.Resume = ""
    as_json: options.AsJson = False

    def settings(self) -> Settings:
        """
        Raises:
            UsageError: what they say can't be.
        """
        trained = policy_options.trained_policy(
            self.engine, policy_options.ShortOptions(self.weights, self.threads, self.max_batch)
        )
        return Settings(
            database=self.database,
            run_id=self.resume or self.run_id,
            resume=bool(self.resume),
            seed=self.seed,
            engine=trained.engine,
            engine_options=trained.options,
            policies=policy_options.frozen_policies(self.policies),
            inexact=self.inexact,
            tracing=self.tracing,
            call_rules=policy_options.call_rules(self.agent_sampling, self.train_calls, keep_bodies=self.keep_calls),
            sandbox=self.sandbox,
            workers=self.workers,
            ray=ray_options.places(self.ray, self.worker_needs, self.worker_labels),
            modules=modules(self.load),
            max_running=self.max_running,
            caps=options.environment_caps(self.caps),
            feed=self.feed or (BESIDE if self.trainer else ""),
            feed_access=self._feed_access(),
            staleness=group_options.staleness(self.max_staleness, self.step_rollouts, self.mask_stale),
            iteration_tokens=self.iteration_tokens,
        )

    def _feed_access(self) -> FeedAccess:
        """Open to all on this machine where the only trainer is our own."""
        if self.feed:
            return feed_options.feed_access(
                self.feed_cert, self.feed_key, self.feed_client_ca, self.feed_tokens, self.feed_proxied
            )
        if self.feed_cert or self.feed_key or self.feed_client_ca or self.feed_tokens or self.feed_proxied:
            raise UsageError("certificates and tokens are for a feed that others reach; say where it is with --feed")
        return FeedAccess()

    def job(self) -> Job | None:
        """None where the run that goes on has its own."""
        if self.resume:
            return None
        return Job(
            tuple(self.environment_ids),
            self.groups,
            self.k,
            self.agent,
            self.judge,
            Sampling(self.temperature, self.max_tokens),
            Limits(self.max_turns, max_critical_steps=self.max_critical_steps),
            extra=self.extra,
            min_k=self.min_k,
            refills=self.refills,
            group_deadline_s=self.group_deadline_s,
            filters=group_options.filter_refs(self.filters),
            group_judge=self.group_judge,
            spares=self.spares,
            context=self.context_strategy,
        )


@takes(RunOptions)
def run(told: RunOptions) -> None:
    """Run groups of rollouts, and show how they went.

    A group is K rollouts of one task. Every token is recorded, with its log probability.

    [bold]Examples[/]

      envhub run envhub/arithmetic-v0 --groups 8

      envhub run demo/sums-v0 --load docs/examples/sums.py

      envhub run envhub/arithmetic-v0 --trainer "python my_trainer.py"

    Exit code: 0 when all went well, 1 when members failed or a group became a dead letter, 2 for wrong usage, 130 when
    interrupted.
    """
    if told.resume:
        _refuse_job_options(told.context)
    repeated = Repeated(told.settings(), tuple(told.load), told.trainer)
    report = anyio.run(_run, repeated, told.job(), backend_options=LOOP)
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
        if option.name in OF_THE_JOB and source is not None and source.name == "COMMANDLINE":
            name = option.opts[0] if option.opts[0].startswith("-") else "the environments"
            raise UsageError(f"--resume goes on with the job that the run has; leave out {name}")


async def _run(told: Repeated, job: Job | None) -> Report | None:
    """How the run went; None where it was interrupted before it began."""
    command = trainer_command(told.trainer) if told.trainer else []
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
            interruptible() as scope,
            anyio.create_task_group() as tasks,
            open_run(settings, job, backend) as run,
        ):
            begun = replace(told, settings=replace(settings, run_id=run.id))
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
    return Report(begun, progress.tally, members, scope.cancel_called, bool(failures), watch.total)


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
