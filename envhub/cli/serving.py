"""`envhub serve`: manager, gateway, feed and dashboard in one process, until Ctrl-C."""

import sys
from typing import Annotated

import anyio
import typer

from envhub.app import LOOP, Addresses, Services, Settings, choose_sandbox, open_services, stored_members
from envhub.cli import options
from envhub.cli.interrupt import interruptible
from envhub.cli.output import note, out
from envhub.cli.running import runnable
from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import RunId
from envhub.contracts.turn import Sampling
from envhub.rollouts.job import Job

LOOPBACK = "127.0.0.1"


def serve(
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
    host: Annotated[str, typer.Option(help="Of gateway and dashboard; the feed stays on loopback.")] = LOOPBACK,
    dashboard_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8600,
    gateway_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8601,
    feed_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8602,
    token: Annotated[
        str, typer.Option(envvar="ENVHUB_TOKEN", help="Demanded of every caller; beyond loopback a must.")
    ] = "",
) -> None:
    """Serve the dashboard, the gateway and the trainer feed, until Ctrl-C.

    With environments, their rollouts run meanwhile and wait for trainers on the feed. Without, programs outside open
    rollouts through the gateway: POST /envhub/v1/sessions.

    [bold]Examples[/]

      envhub serve

      envhub serve envhub/arithmetic-v0 --groups 100
    """
    settings = Settings(
        database=database,
        seed=seed,
        engine=engine,
        engine_options=EngineOptions(weights, threads, max_batch),
        sandbox=sandbox,
        max_running=max_running,
        feed=f"{LOOPBACK}:{feed_port}",
        feed_token=token,
    )
    job = (
        Job(tuple(environment_ids), groups, k, agent, judge, Sampling(temperature, max_tokens))
        if environment_ids
        else None
    )
    addresses = Addresses(host, dashboard_port, gateway_port, token)
    anyio.run(_serve, settings, job, addresses, backend_options=LOOP)


async def _serve(settings: Settings, job: Job | None, addresses: Addresses) -> None:
    backend = await choose_sandbox(settings.sandbox)
    if job is not None:
        job = runnable(job, backend)
        await job.check()
    run_id = RunId("")
    async with interruptible(), open_services(settings, job, backend, addresses) as services:
        run_id = services.run.id
        _announce(services)
        await services.run.play()
        await anyio.sleep_forever()
    members = await stored_members(settings.database, run_id)
    out.print(f"[bold]members[/]   {members.equation()}")
    out.print(f"[bold]database[/]  {settings.database} (run {run_id})", soft_wrap=True)
    sys.exit(0)


def _announce(services: Services) -> None:
    out.print(f"[bold]dashboard[/]  {services.dashboard_url}")
    out.print(f"[bold]gateway[/]    {services.gateway_url}/v1")
    out.print(f"[bold]feed[/]       {services.run.feed_address}")
    note("Ctrl-C ends it")
