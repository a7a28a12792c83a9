"""What `envhub run` and `envhub serve` may both be told: the job, its model, where and how it runs."""

from dataclasses import dataclass, field

import typer

from envhub.app import Settings
from envhub.cli import access_options, config_options, feed_options, group_options, options, policy_options, ray_options
from envhub.cli.loading import modules
from envhub.contracts.access import Access
from envhub.contracts.rollout import Limits
from envhub.contracts.turn import Sampling
from envhub.rollouts.job import Job

USUAL = Limits()
SETTINGS = Settings()
OF_THE_JOB = (  # which a run that goes on has already
    "environment_ids",
    "groups",
    "k",
    "agent",
    "judge",
    "context_strategy",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "max_turns",
    "max_critical_steps",
    "seed",
    "extra",
    "min_k",
    "refills",
    "group_deadline_s",
    "group_judge",
    "filters",
    "spares",
)


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """The options of both commands; each adds where it serves."""

    context: typer.Context
    config: config_options.Config = ""
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
    top_p: options.TopP = 1.0
    top_k: options.TopK = 0
    min_p: options.MinP = 0.0
    max_tokens: options.MaxTokens = 128
    max_batch: options.MaxBatch = 16
    threads: options.Threads = 0
    policies: policy_options.Policies = field(default_factory=list)
    sandbox: options.Sandbox = "auto"
    max_sandboxes: options.MaxSandboxes = SETTINGS.max_sandboxes
    workers: options.Workers = 0
    max_workers: options.MaxWorkers = 0
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
    lease_s: feed_options.Lease = SETTINGS.lease_s
    tokens: access_options.Tokens = ""
    cert: access_options.Certificate = ""
    key: access_options.Key = ""
    client_ca: access_options.ClientCa = ""
    behind_proxy: access_options.BehindProxy = False
    rates: access_options.RateLimits = field(default_factory=list)
    inexact: policy_options.Inexact = False
    agent_sampling: policy_options.AgentSampling = ""
    train_calls: policy_options.TrainCalls = "main,subagent"
    keep_calls: policy_options.KeepCalls = False
    tracing: options.Tracing = False
    database: options.Database = "envhub.db"
    payloads: options.Payloads = ""

    def settings_with(self, run_id: str, feed: str, access: Access, *, resume: bool = False) -> Settings:
        """The settings that they make, with a feed there.

        Raises:
            UsageError: what they say can't be.
        """
        trained = policy_options.trained_policy(
            self.engine, policy_options.ShortOptions(self.weights, self.threads, self.max_batch)
        )
        return Settings(
            database=self.database,
            payloads=self.payloads,
            run_id=run_id,
            resume=resume,
            seed=self.seed,
            engine=trained.engine,
            engine_options=trained.options,
            policies=policy_options.frozen_policies(self.policies),
            inexact=self.inexact,
            tracing=self.tracing,
            call_rules=policy_options.call_rules(self.agent_sampling, self.train_calls, keep_bodies=self.keep_calls),
            sandbox=self.sandbox,
            max_sandboxes=self.max_sandboxes,
            warm_sandboxes=min(SETTINGS.warm_sandboxes, self.max_sandboxes),
            workers=self.workers,
            max_workers=self.max_workers,
            ray=ray_options.places(self.ray, self.worker_needs, self.worker_labels),
            modules=modules(self.load),
            max_running=self.max_running,
            caps=options.environment_caps(self.caps),
            feed=feed,
            access=access,
            lease_s=self.lease_s,
            staleness=group_options.staleness(self.max_staleness, self.step_rollouts, self.mask_stale),
            iteration_tokens=self.iteration_tokens,
        )

    def access(self) -> Access:
        """
        Raises:
            UsageError: a file that can't be used, or options that don't go together.
        """
        return access_options.access(
            self.tokens, self.cert, self.key, self.client_ca, proxied=self.behind_proxy, rates=self.rates
        )

    def new_job(self) -> Job:
        """
        Raises:
            UsageError: no environment, or a number that can't be.
        """
        return Job(
            tuple(self.environment_ids),
            self.groups,
            self.k,
            self.agent,
            self.judge,
            Sampling(self.temperature, self.max_tokens, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p),
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
