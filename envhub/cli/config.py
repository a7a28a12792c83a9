"""`envhub config`: what the options of a run are, where they come from, and what is wrong with them."""

import os
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from json import dumps
from textwrap import wrap
from typing import Annotated, Any

import anyio
import typer

from envhub.app import LOOP, check_names
from envhub.app.access import VARIABLES
from envhub.app.configuration import USUAL, Configuration, Key, Setting, Value, configuration, without_password
from envhub.cli import options
from envhub.cli.config_options import keys_of
from envhub.cli.loading import load
from envhub.cli.output import fail, out, print_json, table
from envhub.cli.running import RunOptions
from envhub.cli.serving import ServeOptions
from envhub.errors import UsageError

config = typer.Typer(help="The options of a run in one file: print it, check it.", no_args_is_help=True)

WIDTH = 100  # of comments
HEAD = """\
# Options of `envhub {command}`, with their defaults: take the # away from those to change.
# The command line comes before variables (ENVHUB_ and the name in capitals; ENVHUB_..._FILE names a file
# with the value), variables before this file. Tokens stand in the file of `tokens`, or in the variables
# {variables}.
"""


class For(StrEnum):
    """A command whose options may stand in a file."""

    SERVE = "serve"
    RUN = "run"


TAKEN: Mapping[For, type[ServeOptions] | type[RunOptions]] = {For.SERVE: ServeOptions, For.RUN: RunOptions}

File = Annotated[str, typer.Argument(metavar="FILE", help="Options in TOML.")]
SomeFile = Annotated[str, typer.Argument(metavar="[FILE]", help="Options in TOML.", show_default=False)]
Command = Annotated[For, typer.Option("--for", help="The command that reads it.")]


@config.command()
def show(context: typer.Context, file: SomeFile = "", command: Command = For.SERVE) -> None:
    """Print a file with every option: what it does, and its default, or what FILE and variables say."""
    told = configuration(_keys(context, command).values(), {}, file, os.environ)
    sys.stdout.write(template(told, command))
    _end(told.mistakes)


@config.command()
def check(context: typer.Context, file: File, command: Command = For.SERVE, as_json: options.AsJson = False) -> None:
    """Say of every option what it is, where its value is from and what it does, and find what is wrong with FILE.

    Exit code: 0 when nothing is wrong, 1 when something is.
    """
    keys = _keys(context, command)
    told = configuration(keys.values(), {}, file, os.environ)
    mistakes = told.mistakes or tuple(_misfits(context, keys, told, command))
    if as_json:
        print_json({"ok": not mistakes, "mistakes": mistakes, "options": [_facts(one) for one in told.settings]})
    else:
        for topic, settings in _by_topic(told):
            rows = [(one.key.name, one.shown or "–", one.source, one.key.help) for one in settings]
            out.print(f"[bold]{topic}[/]", table(("option", "value", "from", "what it does"), rows), "", sep="\n")
    _end(mistakes)


def template(told: Configuration, command: For) -> str:
    """A file with every option; those that nobody said are comments."""
    lines = [HEAD.format(command=command, variables=", ".join(VARIABLES))]
    for topic, settings in _by_topic(told):
        lines.append(f"\n# {topic}\n")
        for setting in settings:
            lines += [f"# {line}\n" for line in wrap(setting.key.help, WIDTH, break_on_hyphens=False)]
            lines.append(f"{_line(setting)}\n")
    return "".join(lines)


def _line(setting: Setting) -> str:
    key, value = setting.key, setting.value
    written = "" if value is None else dumps(value, ensure_ascii=False)
    shown = without_password(written)
    if shown != written:
        return f"#{key.name} = {shown}  # from {setting.source}: no file of settings holds a password"
    if setting.source != USUAL:
        return f"{key.name} = {written}"
    form = f"  # {key.form}" if value in ("", None, []) and key.form else ""
    return f"#{key.name} = {written}{form}"


def _by_topic(told: Configuration) -> Iterator[tuple[str, list[Setting]]]:
    """The settings of each topic."""
    for topic in dict.fromkeys(setting.key.topic for setting in told.settings):
        yield topic, [setting for setting in told.settings if setting.key.topic == topic]


def _misfits(context: typer.Context, keys: Mapping[str, Key], told: Configuration, command: For) -> Iterator[str]:
    """What the values make impossible together, or name in vain."""
    by_name = {setting.key.name: setting.value for setting in told.settings}
    values: dict[str, Any] = {field: by_name[key.name] for field, key in keys.items()}
    try:
        load(values["load"])
        taken = TAKEN[command](context=context, **values)
        settings, job = taken.settings(), taken.job()
        anyio.run(check_names, settings, job, backend_options=LOOP)
    except UsageError as error:
        yield str(error)


def _keys(context: typer.Context, command: For) -> dict[str, Key]:
    group: Any = context.find_root().command
    return keys_of(group.commands[command], TAKEN[command])


def _facts(setting: Setting) -> dict[str, Value]:
    key = setting.key
    return {"option": key.name, "value": setting.shown, "from": setting.source, "does": key.help}


def _end(mistakes: tuple[str, ...]) -> None:
    for mistake in mistakes:
        fail(mistake)
    sys.exit(1 if mistakes else 0)
