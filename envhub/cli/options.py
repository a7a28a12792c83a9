"""Options that several commands share, each defined once."""

from typing import Annotated

import typer

from envhub.cli.loading import load
from envhub.errors import UsageError
from envhub.rollouts.admission import Caps as AdmissionCaps

JOB, MODEL, PLACE, TRAINING = "What to run", "Model", "Where and how", "Training"  # panels of the help
ADDRESSES = "Addresses"

LOOPBACK = "127.0.0.1"

EnvironmentIds = Annotated[
    list[str],
    typer.Argument(metavar="ENVIRONMENT", help="Ids, as `envhub env list` shows them.", show_default=False),
]
EnvironmentId = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="An id, as `envhub env list` shows it.")]

Agent = Annotated[
    str, typer.Option(metavar="NAME", help="The agent loop that drives every rollout.", rich_help_panel=JOB)
]
Groups = Annotated[
    int, typer.Option("--groups", "-n", metavar="N", help="Groups in each environment.", rich_help_panel=JOB)
]
JudgeName = Annotated[
    str,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="A registered judge in place of each environment's own.",
        show_default=False,
        rich_help_panel=JOB,
    ),
]
ContextStrategy = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="NAME",
        help="What agents do where a conversation fills the model's context: none, hide-tool-result, discard-all, "
        "summary or last-n-images; each environment's own by default.",
        show_default=False,
        rich_help_panel=JOB,
    ),
]
K = Annotated[
    int, typer.Option("--k", "-k", metavar="K", help="Members of a group: rollouts of one task.", rich_help_panel=JOB)
]
Load = Annotated[
    list[str],
    typer.Option(
        "--load",
        metavar="FILE|MODULE",
        help="A Python file or module that registers environments of your own; may be repeated.",
        callback=load,
        show_default=False,
        rich_help_panel=JOB,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Decides tasks, environments and sampling.", rich_help_panel=JOB)]

MaxBatch = Annotated[
    int, typer.Option(metavar="N", help="Generations that the engine runs side by side.", rich_help_panel=MODEL)
]
MaxTurns = Annotated[int, typer.Option(metavar="N", help="The most turns of one rollout.", rich_help_panel=JOB)]
MaxCriticalSteps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="The most critical steps of one rollout: its own actions and, of children side by side, those of the "
        "longest.",
        show_default="no limit",
        rich_help_panel=JOB,
    ),
]
MaxTokens = Annotated[int, typer.Option(metavar="N", help="The most tokens of one turn.", rich_help_panel=MODEL)]
Temperature = Annotated[
    float,
    typer.Option(
        metavar="T", help="Of sampling; 1 is the model's own distribution, 0 is greedy.", rich_help_panel=MODEL
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="Sample from the likeliest tokens alone that have so much of the probability together; which they were is "
        "stored.",
        show_default="1: all",
        rich_help_panel=MODEL,
    ),
]
TopK = Annotated[
    int,
    typer.Option(
        metavar="N", help="Sample from so many of the likeliest tokens.", show_default="0: all", rich_help_panel=MODEL
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="Sample from tokens at least so likely as a share of the likeliest.",
        show_default="0: all",
        rich_help_panel=MODEL,
    ),
]
Threads = Annotated[
    int, typer.Option(metavar="N", help="Of the engine's arithmetic; 0: as suits this machine.", rich_help_panel=MODEL)
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="A .gguf file for the embedded engine, instead of SmolLM2-135M-Instruct.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; all else goes to stderr.")]
Caps = Annotated[
    list[str],
    typer.Option(
        "--cap",
        metavar="ENVIRONMENT=N",
        help="Rollouts of one environment that act at once; may be repeated.",
        show_default=False,
        rich_help_panel=PLACE,
    ),
]
Database = Annotated[
    str,
    typer.Option(
        "--database", "-d", metavar="FILE", help="The SQLite file of the traces, or postgresql://USER@HOST/NAME."
    ),
]
Payloads = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|URL",
        help="Where payloads over 256 KiB go, like s3://BUCKET/PATH; the database keeps that in mind. Else: into it.",
        show_default=False,
    ),
]
MaxRunning = Annotated[
    int, typer.Option(metavar="N", help="Rollouts that act at once; more wait.", rich_help_panel=PLACE)
]
MaxSandboxes = Annotated[
    int, typer.Option(metavar="N", help="Sandboxes that are there at once; more are waited for.", rich_help_panel=PLACE)
]
RunFilter = Annotated[str, typer.Option("--run", metavar="RUN", help="Only this run.", show_default=False)]
Sandbox = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where tools run: auto (the best that isolates here), or a name that `envhub doctor` knows.",
        rich_help_panel=PLACE,
    ),
]


def environment_caps(given: list[str]) -> AdmissionCaps:
    """What --cap says.

    Raises:
        UsageError: it does not read ENVIRONMENT=N, or names an environment twice.
    """
    caps: dict[str, int] = {}
    for cap in given:
        name, _, number = cap.partition("=")
        if not name or not number.isdecimal():
            raise UsageError(f"--cap '{cap}' must read ENVIRONMENT=N, like envhub/arithmetic-v0=8")
        if name in caps:
            raise UsageError(f"--cap names environment '{name}' twice; leave one out")
        caps[name] = int(number)
    return AdmissionCaps(environments=caps)


Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Processes that run rollouts, each with a model and sandboxes of its own; 0: this process runs them.",
        rich_help_panel=PLACE,
    ),
]
MaxWorkers = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="As many such processes where there is work for them, --workers at least; they end when it has gone.",
        show_default="as many as --workers",
        rich_help_panel=PLACE,
    ),
]

Host = Annotated[
    str,
    typer.Option(metavar="HOST", help="Of dashboard and gateway.", rich_help_panel=ADDRESSES),
]
DashboardPort = Annotated[
    int, typer.Option(metavar="PORT", help="Of the page; 0: any that is free.", rich_help_panel=ADDRESSES)
]
GatewayPort = Annotated[
    int, typer.Option(metavar="PORT", help="For agents outside; 0: any that is free.", rich_help_panel=ADDRESSES)
]
FeedHost = Annotated[
    str,
    typer.Option(
        metavar="HOST", help="Of the feed; beyond loopback it needs tokens and TLS.", rich_help_panel=ADDRESSES
    ),
]
FeedPort = Annotated[
    int, typer.Option(metavar="PORT", help="For trainers; 0: any that is free.", rich_help_panel=ADDRESSES)
]
Tracing = Annotated[
    bool,
    typer.Option(
        "--tracing",
        help='Export every rollout to OpenTelemetry, as its OTEL_* environment variables say (extra "otel").',
        rich_help_panel=PLACE,
    ),
]

Drain = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="When it is told to end, groups that began may finish for so long, and no others begin; what is left then "
        "goes on at the next start.",
        rich_help_panel=PLACE,
    ),
]

Trainer = Annotated[
    str,
    typer.Option(
        metavar="COMMAND",
        help="A trainer to start beside the run; it finds the feed's address in ENVHUB_FEED.",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Feed = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        help="Where to serve trainers; the run ends when they have acked every group.",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]

NewRunId = Annotated[
    str, typer.Option(metavar="RUN", help="A name for the run; by default the date and more.", show_default=False)
]
ServedRun = Annotated[
    str,
    typer.Option(
        "--run-id",
        metavar="RUN",
        help="The run to serve: it goes on where the database has it, and begins under that name where not. By default "
        "a new one, named by the date and more.",
        show_default=False,
    ),
]
Resume = Annotated[str, typer.Option(metavar="RUN", help="Go on with a run that ended too early.", show_default=False)]
