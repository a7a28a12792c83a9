"""Run agents in environments, look at what they did, check what was recorded."""

import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated

import typer

from envhub.cli.agents import agents
from envhub.cli.auditing import audit
from envhub.cli.checking import verify
from envhub.cli.config import config
from envhub.cli.doctor import doctor
from envhub.cli.environments import env
from envhub.cli.output import fail
from envhub.cli.plotting import plot
from envhub.cli.profiling import profile
from envhub.cli.running import run
from envhub.cli.serving import serve
from envhub.cli.stores import store
from envhub.cli.tokens import tokens
from envhub.cli.top import top
from envhub.cli.traces import trace
from envhub.errors import EnvhubError, UsageError

app = typer.Typer(
    name="envhub",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command()(run)
app.command()(serve)
app.add_typer(config, name="config")
app.add_typer(trace, name="trace")
app.add_typer(env, name="env")
app.add_typer(agents, name="agents")
app.add_typer(tokens, name="tokens")
app.add_typer(store, name="store")
app.command()(verify)
app.command()(audit)
app.command()(profile)
app.command()(top)
app.command()(plot)
app.command()(doctor)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version("envhub-rl"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Exit codes: 0 done, 1 the run had failures or something was found, 2 wrong usage, 130 interrupted."""
    errors: list[EnvhubError] = []
    try:
        app()
    except* EnvhubError as caught:  # alone, or however deep in the groups of task groups
        errors = list(_leaves(caught))
    for message in dict.fromkeys(map(str, errors)):  # once, where it ended many rollouts
        fail(message)
    if errors:
        sys.exit(2 if any(isinstance(error, UsageError) for error in errors) else 1)


def _leaves(group: BaseExceptionGroup[EnvhubError]) -> Iterator[EnvhubError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
