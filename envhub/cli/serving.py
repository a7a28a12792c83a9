"""`envhub serve`: manager, gateway, feed and dashboard in one process, until Ctrl-C."""

from dataclasses import dataclass, field, replace

import anyio

from envhub.app import LOOP, Addresses, Services, Settings, open_sandboxes, open_services, stored_members
from envhub.cli import feed_options, options, policy_options
from envhub.cli.interrupt import interruptible
from envhub.cli.options import LOOPBACK
from envhub.cli.output import facts, note, out
from envhub.cli.report import Repeated, show_database
from envhub.cli.running import runnable
from envhub.cli.taking import takes
from envhub.contracts.ids import RunId
from envhub.contracts.turn import Sampling
from envhub.rollouts.job import Job


@dataclass(frozen=True)
class ServeOptions:
    """What `envhub serve` may be told."""

    environment_ids: options.EnvironmentIds = field(default_factory=list)
    groups: options.Groups = 1
    k: options.K = 4
    agent: options.Agent = "tool-loop"
    judge: options.JudgeName = ""
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
    max_running: options.MaxRunning = 64
    caps: options.Caps = field(default_factory=list)
    host: options.Host = LOOPBACK
    dashboard_port: options.DashboardPort = 8600
    gateway_port: options.GatewayPort = 8601
    feed_host: options.FeedHost = LOOPBACK
    feed_port: options.FeedPort = 8602
    feed_cert: feed_options.Certificate = ""
    feed_key: feed_options.Key = ""
    feed_client_ca: feed_options.ClientCa = ""
    feed_tokens: feed_options.Tokens = ""
    feed_proxied: feed_options.Proxied = False
    token: options.Token = ""
    viewer_token: options.ViewerToken = ""
    inexact: policy_options.Inexact = False
    agent_sampling: policy_options.AgentSampling = ""
    train_calls: policy_options.TrainCalls = "main,subagent"
    keep_calls: policy_options.KeepCalls = False
    tracing: options.Tracing = False
    database: options.Database = "envhub.db"

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
            seed=self.seed,
            engine=trained.engine,
            engine_options=trained.options,
            policies=policy_options.frozen_policies(self.policies),
            inexact=self.inexact,
            tracing=self.tracing,
            call_rules=policy_options.call_rules(self.agent_sampling, self.train_calls, keep_bodies=self.keep_calls),
            sandbox=self.sandbox,
            max_running=self.max_running,
            caps=options.environment_caps(self.caps),
            feed=f"{self.feed_host}:{self.feed_port}",
            feed_access=feed_options.feed_access(
                self.feed_cert, self.feed_key, self.feed_client_ca, self.feed_tokens, self.feed_proxied, self.token
            ),
        )

    def job(self) -> Job | None:
        """None where only programs outside open rollouts."""
        if not self.environment_ids:
            return None
        sampling = Sampling(self.temperature, self.max_tokens)
        return Job(tuple(self.environment_ids), self.groups, self.k, self.agent, self.judge, sampling)

    def addresses(self) -> Addresses:
        return Addresses(self.host, self.dashboard_port, self.gateway_port, self.token, self.viewer_token)


@takes(ServeOptions)
def serve(told: ServeOptions) -> None:
    """Serve the dashboard, the gateway and the trainer feed, until Ctrl-C.

    With environments, their rollouts run meanwhile and wait for trainers on the feed.

    Without, programs outside open rollouts at the gateway: POST /envhub/v1/sessions.

    [bold]Examples[/]

      envhub serve

      envhub serve envhub/arithmetic-v0 --groups 100
    """
    repeated = Repeated(told.settings(), tuple(told.load))
    anyio.run(_serve, repeated, told.job(), told.addresses(), backend_options=LOOP)


async def _serve(repeated: Repeated, job: Job | None, addresses: Addresses) -> None:
    settings = repeated.settings
    async with open_sandboxes(settings.sandbox) as backend:
        if job is not None:
            job = runnable(job, backend)
        async with interruptible(), open_services(settings, job, backend, addresses) as services:
            settings = replace(settings, run_id=services.run.id)
            _announce(services)
            await services.run.play()
            await anyio.sleep_forever()
    if settings.run_id:
        await _show_end(replace(repeated, settings=settings))


def _announce(services: Services) -> None:
    rows = (
        ("[bold]dashboard[/]", services.dashboard_url, "rollouts, their messages and tokens"),
        ("[bold]gateway[/]", f"{services.gateway_url}/v1", "for agents outside"),
        ("[bold]feed[/]", services.run.feed_address, "for trainers"),
    )
    out.print(facts([(*row[:2], f"[dim]{row[2]}[/]") for row in rows]))
    note("Ctrl-C ends it")


async def _show_end(repeated: Repeated) -> None:
    members = await stored_members(repeated.settings.database, RunId(repeated.settings.run_id))
    out.print(f"[bold]members[/]   {members.equation()}", soft_wrap=True)
    show_database(repeated.settings)
    if not members.drained:
        out.print(f"\nnext:\n  [cyan]{repeated.resume()}[/]  [dim]go on where it stopped[/]", soft_wrap=True)
