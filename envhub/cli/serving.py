"""`envhub serve`: manager, gateway, feed and dashboard in one process, until Ctrl-C."""

from dataclasses import dataclass, replace

import anyio

from envhub.app import LOOP, Addresses, Services, Settings, has_run, open_sandboxes, open_services, stored_members
from envhub.app.access import forget_tokens
from envhub.cli import options
from envhub.cli.config_options import configured
from envhub.cli.interrupt import interruptible
from envhub.cli.options import LOOPBACK
from envhub.cli.output import facts, note, out
from envhub.cli.report import Repeated, show_database
from envhub.cli.running import runnable
from envhub.cli.shared_options import OF_THE_JOB, SharedOptions
from envhub.cli.taking import takes, words_told
from envhub.contracts.ids import RunId
from envhub.rollouts.job import Job


@dataclass(frozen=True, kw_only=True)
class ServeOptions(SharedOptions):
    """What `envhub serve` may be told."""

    run_id: options.ServedRun = ""
    drain: options.Drain = 0.0
    host: options.Host = LOOPBACK
    dashboard_port: options.DashboardPort = 8600
    gateway_port: options.GatewayPort = 8601
    feed_host: options.FeedHost = LOOPBACK
    feed_port: options.FeedPort = 8602

    def settings(self) -> Settings:
        """
        Raises:
            UsageError: what they say can't be.
        """
        return self.settings_with(self.run_id, f"{self.feed_host}:{self.feed_port}", self.access())

    def job(self) -> Job | None:
        """None where only programs outside open rollouts, or the run that goes on has its own."""
        return self.new_job() if self.environment_ids else None

    def addresses(self) -> Addresses:
        return Addresses(self.host, self.dashboard_port, self.gateway_port)


@takes(ServeOptions)
def serve(told: ServeOptions) -> None:
    """Serve the dashboard, the gateway and the trainer feed, until Ctrl-C.

    With environments, their rollouts run meanwhile and wait for trainers on the feed.

    Without, programs outside open rollouts at the gateway: POST /envhub/v1/sessions.

    [bold]Examples[/]

      envhub serve

      envhub serve envhub/arithmetic-v0 --groups 100

      envhub serve --config envhub.toml
    """
    told = configured(told, told.context, told.config)
    again = words_told(told.context, leave_out=(*OF_THE_JOB, "run_id"))
    repeated = Repeated(told.settings(), ("serve", "--run-id"), again)
    forget_tokens()
    anyio.run(_serve, repeated, told.job(), told.addresses(), told.drain, backend_options=LOOP)


async def _serve(repeated: Repeated, job: Job | None, addresses: Addresses, drain_s: float) -> None:
    settings = repeated.settings
    if settings.run_id:
        settings = replace(settings, resume=await has_run(settings.database, RunId(settings.run_id)))
    async with open_sandboxes(settings.sandbox) as backend:
        if job is not None:
            job = runnable(job, backend)
        async with interruptible(drain_s) as ending, open_services(settings, job, backend, addresses) as services:
            ending.drain = services.run.manager.settle
            ending.acts = services.run.acts
            settings = replace(settings, run_id=services.run.id)
            _announce(services)
            await services.run.play()
            await anyio.sleep_forever()
    if settings.run_id and await has_run(settings.database, RunId(settings.run_id)):
        await _show_end(replace(repeated, settings=settings))
    else:
        note("nothing was started")


def _announce(services: Services) -> None:
    rows = [
        ("[bold]dashboard[/]", services.dashboard_url, "rollouts, their messages and tokens"),
        ("[bold]gateway[/]", f"{services.gateway_url}/v1", "for agents outside"),
        ("[bold]feed[/]", services.run.feed_address, "for trainers"),
    ]
    if not services.gateway_url:
        del rows[1]
    out.print(facts([(*row[:2], f"[dim]{row[2]}[/]") for row in rows]))
    note(f"run {services.run.id}; Ctrl-C ends it")


async def _show_end(repeated: Repeated) -> None:
    members = await stored_members(repeated.settings.database, RunId(repeated.settings.run_id))
    out.print(f"[bold]members[/]   {members.equation()}", soft_wrap=True)
    show_database(repeated.settings)
    if not members.drained:
        out.print(f"\nnext:\n  [cyan]{repeated.resume()}[/]  [dim]go on where it stopped[/]", soft_wrap=True)
