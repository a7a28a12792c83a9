"""The `envhub` command: run agents in environments, look at what they did, check what was recorded."""

import sys

import typer

from envhub.cli.checking import doctor, verify
from envhub.cli.environments import env
from envhub.cli.output import fail
from envhub.cli.running import run
from envhub.cli.serving import serve
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
app.add_typer(env, name="env")
app.command()(run)
app.command()(serve)
app.add_typer(trace, name="trace")
app.command()(verify)
app.command()(doctor)


def main() -> None:
    """Exit codes: 0 done, 1 the run had failures or something was found, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except UsageError as error:
        fail(str(error))
        sys.exit(2)
    except EnvhubError as error:
        fail(str(error))
        sys.exit(1)
